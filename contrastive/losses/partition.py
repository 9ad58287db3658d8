"""The one primitive: an exact, tiled log-sum-exp of scaled similarities.

Neither the value nor the gradient ever holds a [B, N] array: row tiles by column tiles of
similarities are made, used and forgotten, and made again for the gradient. The recomputation costs
one matrix product of four; not writing and reading [B, N] pays for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from contrastive.losses.similarity import dot

Axis: TypeAlias = str | tuple[str, ...] | None
Keep: TypeAlias = Callable[[Any, Any], Bool[Array, "b n"]]

# A float32 tile of 1024 x 1024 is 4 MiB: near the cache on CPUs, large enough to fill a GPU or TPU.
DEFAULT_TILE = 1024


def log_partition(
    queries: Float[Array, "B D"],
    keys: Float[Array, "N D"],
    *,
    temperature: float | Float[Array, ""] | Float[Array, " B"],
    keep: Keep | None = None,
    rows: PyTree = (),
    columns: PyTree = (),
    tile: int | None = None,
    axis_name: Axis = None,
) -> Float[Array, " B"]:
    """Log-partition of each query over the keys it keeps.

    log sum_j keep_ij exp(q_i . k_j / t_i)

    Differentiable in queries, keys and temperature. A query that keeps no key gets -inf, with zero
    gradient.

    Args:
      queries: Embeddings [B, D].
      keys: Embeddings [N, D].
      temperature: Positive; a scalar, or one per query [B]. Divides the similarities.
      keep: Takes a slice [b, ...] of `rows` and a slice [n, ...] of `columns` and says which pairs
        count, [b, n]. It is called inside the tile, so it may only look at these small vectors.
        None keeps every pair.
      rows: Any tree of arrays [B, ...] that `keep` needs; not differentiated.
      columns: Any tree of arrays [N, ...] that `keep` needs; not differentiated.
      tile: Rows and columns a tile; does not change the result beyond rounding.
      axis_name: Mapped axis (or axes) over which keys and columns are gathered. Queries stay local.

    Returns:
      One value per query [B], float32.

    Raises:
      ValueError: For a temperature that is not positive, or a tile below 1.
    """
    check_temperature(temperature)
    if tile is not None and tile < 1:
        raise ValueError(f"tile is {tile}; it counts rows and columns and must be at least 1")
    keys, columns = gather((keys, columns), axis_name)
    inverse = jnp.broadcast_to(1.0 / jnp.asarray(temperature, jnp.float32), queries.shape[:1])
    zero = varying_zero((queries, keys, inverse, rows, columns))
    return _log_partition(
        keep or keep_all,
        tile or DEFAULT_TILE,
        queries + zero.astype(queries.dtype),
        keys + zero.astype(keys.dtype),
        inverse + zero,
        rows,
        columns,
    )


def check_temperature(temperature: float | Float[Array, "..."]) -> None:
    """Refuses a temperature that is known, here and now, not to be positive.

    Args:
      temperature: A number or an array; a traced array passes, since its value is not known yet.

    Raises:
      ValueError: If any value is zero, negative or not finite.
    """
    if isinstance(temperature, jax.core.Tracer):
        return
    if not np.all((values := np.asarray(temperature)) > 0) or not np.all(np.isfinite(values)):
        raise ValueError(
            f"temperature is {temperature}; it divides the similarities and must be positive "
            "and finite (0.02 is the usual choice for normalised embeddings)"
        )


def gather(tree: PyTree, axis_name: Axis) -> PyTree:
    """Concatenates every device's arrays along their first dimension.

    Args:
      tree: Arrays [n, ...], the same shape on every device.
      axis_name: Mapped axis or axes; None leaves the tree as it is.

    Returns:
      Arrays [n * devices, ...]. The gradient of a gathered array is summed over the devices.
    """
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: lax.all_gather(x, axis_name, axis=0, tiled=True), tree)


def keep_all(rows: PyTree, columns: PyTree) -> Bool[Array, ""]:
    """The mask that keeps every pair."""
    del rows, columns
    return jnp.array(True)


def varying_zero(tree: PyTree) -> Float[Array, ""]:
    """A zero that varies over every mapped axis that some array of the tree varies over.

    shard_map wants a loop's first carry, and a custom gradient, to vary just as the loop's body
    does; adding this zero says so in every version of JAX, and compiles to nothing.

    Args:
      tree: Arrays.

    Returns:
      0.0, float32.
    """
    firsts = [x.ravel()[0] for x in jax.tree.leaves(tree) if x.size]
    return sum((jnp.where(False, x, 0).astype(jnp.float32) for x in firsts), jnp.float32(0))


def fold_tiles(
    add: Callable[[PyTree, Float[Array, "b n"], Bool[Array, "b n"], PyTree], PyTree],
    start: PyTree,
    row: PyTree,
    column: PyTree,
    *,
    keep: Keep,
    tile: int,
) -> PyTree:
    """Folds the similarities of every query to every key, a tile at a time.

    Args:
      add: `(state, similarities [b, n], kept [b, n], row) -> state` for one tile.
      start: First state of one query: a tree of scalars.
      row: Tree of arrays [B, ...] with at least `queries` and `rows`.
      column: Tree of arrays [N, ...] with at least `keys` and `columns`.
      keep: As in `log_partition`.
      tile: Rows and columns a tile.

    Returns:
      The last state of every query: the tree of `start` with arrays [B].
    """
    size = row["queries"].shape[0]
    columns = _split(column, column["keys"].shape[0], tile)

    def fold_row(row):
        def fold_column(state, column):
            similarities, kept = _visit(keep, row, column)
            return add(state, similarities, kept, row), None

        height = row["queries"].shape[:1]
        state = jax.tree.map(lambda x: jnp.broadcast_to(x, height), start)
        return lax.scan(fold_column, state, columns)[0]

    return _join(lax.map(fold_row, _split(row, size, tile)), size)


def _visit(keep, row, column):
    kept = keep(row["rows"], column["columns"]) & column["real"][None, :]
    return dot(row["queries"], column["keys"]), kept


def _split(tree, size, tile):
    """[size, ...] -> [tiles, height, ...], the last tile padded with zeros that are not `real`."""
    count = -(-size // tile)
    height = -(-size // count)

    def cut(x):
        x = jnp.pad(x, [(0, count * height - size)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(count, height, *x.shape[1:])

    return jax.tree.map(cut, {**tree, "real": jnp.ones(size, bool)})


def _join(tree, size):
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:size], tree)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _log_partition(keep, tile, queries, keys, inverse, rows, columns):
    return _forward(keep, tile, queries, keys, inverse, rows, columns)[0]


def _forward(keep, tile, queries, keys, inverse, rows, columns):
    def add(state, similarities, kept, row):
        top, total = state
        logits = jnp.where(kept, similarities * row["inverse"][:, None], -jnp.inf)
        new_top = jnp.maximum(top, logits.max(axis=1))
        shift = _finite(new_top)
        total = total * jnp.exp(top - shift) + jnp.exp(logits - shift[:, None]).sum(axis=1)
        return new_top, total

    zero = varying_zero((queries, keys, inverse, rows, columns))
    row = {"queries": queries, "inverse": inverse, "rows": rows}
    column = {"keys": keys, "columns": columns}
    top, total = fold_tiles(add, (zero - jnp.inf, zero), row, column, keep=keep, tile=tile)
    result = _finite(top) + jnp.log(total)
    return result, (queries, keys, inverse, rows, columns, result)


def _backward(keep, tile, residuals, cotangent):
    queries, keys, inverse, rows, columns, result = residuals
    zero = varying_zero((queries, keys, inverse, rows, columns, cotangent))
    row = {"queries": queries, "inverse": inverse, "rows": rows, "g": cotangent, "log_z": result}
    column = _split({"keys": keys, "columns": columns}, keys.shape[0], tile)

    def each_row(d_keys, row):
        inverse = row["inverse"][:, None]

        def each_column(mean_key, xs):
            column, d_key = xs
            similarities, kept = _visit(keep, row, column)
            exponent = similarities * inverse - _finite(row["log_z"])[:, None]
            # Masked before exp: a masked pair may lie far above the partition and overflow.
            weight = row["g"][:, None] * jnp.exp(jnp.where(kept, exponent, -jnp.inf))
            mean_key += _dot(weight, column["keys"], contract=(1, 0))
            d_key += _dot(weight * inverse, row["queries"], contract=(0, 0))
            return mean_key, d_key

        start = jnp.zeros(row["queries"].shape, jnp.float32) + zero
        mean_key, d_keys = lax.scan(each_column, start, (column, d_keys))
        return d_keys, mean_key

    d_keys = jnp.zeros(column["keys"].shape, jnp.float32) + zero
    d_keys, mean_key = lax.scan(each_row, d_keys, _split(row, queries.shape[0], tile))
    mean_key = _join(mean_key, queries.shape[0])
    d_queries = mean_key * inverse[:, None]
    d_inverse = jnp.sum(mean_key * queries.astype(jnp.float32), axis=-1)
    d_keys = _join(d_keys, keys.shape[0])
    return d_queries.astype(queries.dtype), d_keys.astype(keys.dtype), d_inverse, None, None


_log_partition.defvjp(_forward, _backward)


def _dot(weight, vectors, *, contract):
    dimensions = (((contract[0],), (contract[1],)), ((), ()))
    vectors = vectors.astype(jnp.float32)
    return lax.dot_general(weight, vectors, dimensions, precision=lax.Precision.HIGHEST)


def _finite(x):
    """0 where x is -inf: the shift of a query that has kept no key."""
    return jnp.where(x == -jnp.inf, 0.0, x)

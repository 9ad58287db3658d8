"""The two primitives: a log-sum-exp, and a sum, over every pair of a query and a key."""

from __future__ import annotations

import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from contrastive.losses.reduction import Reduction, reduce_tiles, scaled
from contrastive.losses.tiles import Axis, Keep, Side, Spread, Value


def log_partition(
    queries: Float[Array, "B D"],
    keys: Float[Array, "N D"],
    *,
    temperature: float | Float[Array, "..."] = 1.0,
    logit: Value | None = None,
    keep: Keep | None = None,
    rows: PyTree = (),
    columns: PyTree = (),
    tile: int | None = None,
    axis_name: Axis = None,
    ring: bool = False,
) -> Float[Array, " B"]:
    """Log-partition of each query over the keys it keeps.

    log sum_j keep_ij exp(logit_ij), logit_ij = q_i . k_j / t unless `logit` says otherwise

    Exact: with the largest logit subtracted, over tiles that are never all held, in float32.
    Differentiable in queries, keys, temperature, and what `logit` uses of `rows` and `columns`. A
    query that keeps no key gets -inf, with zero gradient. The slope of `logit` must be finite for
    pairs that are not kept too: theirs is multiplied by zero.

    >>> import jax.numpy as jnp
    >>> log_partition(jnp.eye(2), jnp.eye(2), temperature=0.5)  # log(exp(2) + 1)
    Array([2.126928, 2.126928], dtype=float32)

    Args:
      queries: Embeddings [B, D].
      keys: Embeddings [N, D].
      temperature: Positive; one number, one a query [B], or one a key [1, N]. Divides similarities.
      logit: Takes similarities [b, n], 1 / temperature ([b, 1] or [1, n]) and slices of `rows` and
        `columns`, and returns logits [b, n]: for re-weighting, margins, or no temperature at all.
        It may close over numbers, but over no traced array.
      keep: Takes similarities [b, n] and slices of `rows` and `columns`, and says which pairs
        count, [b, n]. It has no gradient. None keeps every pair.
      rows: Any tree of arrays [B, ...].
      columns: Any tree of arrays [N, ...].
      tile: Most rows and columns a tile; does not change the result beyond rounding. None chooses.
      axis_name: Mapped axis or axes (`shard_map`, `pmap`) whose devices' keys all count.
      ring: Whether keys travel around the devices instead of being gathered on each: no device
        ever holds more than its own and one neighbour's.

    Returns:
      One value a query [B], float32.

    Raises:
      ValueError: For a temperature that is not positive, or a tile below 1.

    Source:
      Cheng et al., 2024, arXiv:2410.17243 (tiles, rings).
    """
    sides = _sides(queries, keys, temperature, rows, columns)
    spread = Spread(tile, axis_name, ring)
    return reduce_tiles(LOG_SUM_EXP, logit or scaled, keep or keep_all, *sides, spread)


def pair_sum(
    queries: Float[Array, "B D"],
    keys: Float[Array, "N D"],
    *,
    value: Value,
    temperature: float | Float[Array, "..."] = 1.0,
    keep: Keep | None = None,
    rows: PyTree = (),
    columns: PyTree = (),
    tile: int | None = None,
    axis_name: Axis = None,
    ring: bool = False,
) -> Float[Array, " B"]:
    """Sum, for each query, of a function of its similarities to the keys it keeps.

    sum_j keep_ij value(s_ij, 1 / t, row_i, column_j)

    >>> import jax.numpy as jnp
    >>> pair_sum(jnp.eye(2), jnp.eye(2), value=lambda s, scale, row, column: (s - 0.5) ** 2)
    Array([0.5, 0.5], dtype=float32)

    Args:
      queries: Embeddings [B, D].
      keys: Embeddings [N, D].
      value: As `logit` of `log_partition`; its values are added up.
      temperature: As in `log_partition`.
      keep: As in `log_partition`.
      rows: As in `log_partition`.
      columns: As in `log_partition`.
      tile: As in `log_partition`.
      axis_name: As in `log_partition`.
      ring: As in `log_partition`.

    Returns:
      One value a query [B], float32; 0 where no key is kept.

    Raises:
      ValueError: As `log_partition`.
    """
    sides = _sides(queries, keys, temperature, rows, columns)
    spread = Spread(tile, axis_name, ring)
    return reduce_tiles(SUM, value, keep or keep_all, *sides, spread)


def check_temperature(temperature: float | Float[Array, "..."], name: str = "temperature") -> None:
    """Refuses a temperature that is known, here and now, not to be positive.

    Args:
      temperature: A number or an array; a traced array passes, since its value is not known yet.
      name: What it is called.

    Raises:
      ValueError: If any value is zero, negative or not finite.
    """
    if isinstance(temperature, jax.core.Tracer):
        return
    if not np.all((values := np.asarray(temperature)) > 0) or not np.all(np.isfinite(values)):
        raise ValueError(
            f"{name} is {temperature}; it divides and must be positive and finite"
            + (" (0.02 is usual for normalised embeddings)" if name == "temperature" else "")
        )


def log_add(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(e^a + e^b), with zero gradient, not NaN, where both are -inf."""
    nothing = (a == -jnp.inf) & (b == -jnp.inf)
    safe = jnp.logaddexp(jnp.where(nothing, 0.0, a), jnp.where(nothing, 0.0, b))
    return jnp.where(nothing, -jnp.inf, safe)


def one(similarities, scale, rows, columns) -> Float[Array, "b n"]:
    """1 a pair, whose sum is their number."""
    del scale, rows, columns
    return jnp.ones_like(similarities)


def keep_all(similarities, rows, columns) -> Bool[Array, ""]:
    """The mask that keeps every pair."""
    del similarities, rows, columns
    return jnp.array(True)


def _sides(queries, keys, temperature, rows, columns) -> tuple[Side, Side]:
    check_temperature(temperature)
    scale = 1.0 / jnp.asarray(temperature, jnp.float32)
    if scale.shape not in ((), (1,), queries.shape[:1], (1, keys.shape[0])):
        raise ValueError(
            f"temperature has {scale.shape[-1]} rows for {queries.shape[0]} queries and "
            f"{keys.shape[0]} keys; give one number, one a query [B], or one a key [1, N]"
        )
    if scale.ndim == 2:
        scale = jnp.broadcast_to(scale, (1, keys.shape[0]))[0]
        return Side(queries, None, rows), Side(keys, scale, columns)
    return Side(queries, jnp.broadcast_to(scale, queries.shape[:1]), rows), Side(
        keys, None, columns
    )


def _add_exp(state, logits, kept):
    top, total = state
    logits = jnp.where(kept, logits, -jnp.inf)
    new_top = jnp.maximum(top, logits.max(axis=1))
    shift = _finite(new_top)
    total = total * jnp.exp(top - shift) + jnp.exp(logits - shift[:, None]).sum(axis=1)
    return new_top, total


def _log_total(state):
    top, total = state
    return _finite(top) + jnp.log(total)


def _finite(x):
    """0 where x is -inf: the shift of a query that has kept no key."""
    return jnp.where(x == -jnp.inf, 0.0, x)


LOG_SUM_EXP = Reduction(
    start=(-np.inf, 0.0),
    add=_add_exp,
    finish=_log_total,
    slope=lambda logits, result: jnp.exp(logits - _finite(result)[:, None]),
)
SUM = Reduction(
    start=(0.0,),
    add=lambda state, values, kept: (state[0] + jnp.where(kept, values, 0.0).sum(axis=1),),
    finish=lambda state: state[0],
    slope=lambda values, result: (values != -jnp.inf).astype(jnp.float32),
)

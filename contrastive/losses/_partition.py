"""The two primitives of all losses: a log-sum-exp and a sum over pairs of queries and keys."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from contrastive.lazy import jax, jnp, np
from contrastive.losses._reduction import Reduction, reduce_tiles, scaled
from contrastive.losses._tiles import Axis, Keep, Side, Spread, Value

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, PyTree

__all__ = ["log_partition", "pair_sum"]


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
    """Log-partition of each query over the keys that it keeps.

    log sum_j keep_ij exp(logit_ij), logit_ij = q_i . k_j / t unless `logit` says otherwise

    The result is exact: float32, with the largest logit subtracted. It is computed tile by tile, so
    that [B, N] is never stored. It is differentiable in queries, keys, temperature, and whatever
    `logit` uses of `rows` and `columns`. A query that keeps no key gets -inf with zero gradient.
    The slope of `logit` must be finite even for pairs that are not kept, since it is multiplied by
    zero there.

    >>> import jax.numpy as jnp
    >>> log_partition(jnp.eye(2), jnp.eye(2), temperature=0.5)  # log(exp(2) + 1)
    Array([2.126928, 2.126928], dtype=float32)

    Args:
      queries: Embeddings [B, D].
      keys: Embeddings [N, D].
      temperature: Positive t that divides similarities: a scalar, one per query [B], or one per key
        [1, N].
      logit: Function of similarities [b, n], 1 / temperature ([b, 1] or [1, n]), and slices of
        `rows` and `columns` that returns logits [b, n], for reweighting, margins, or losses without
        a temperature. It may close over numbers but not over traced arrays.
      keep: Function of similarities [b, n] and slices of `rows` and `columns` that returns the mask
        of pairs that count [b, n], without gradient. None keeps every pair.
      rows: Tree of arrays [B, ...] for `logit` and `keep`.
      columns: Tree of arrays [N, ...] for `logit` and `keep`.
      tile: Maximum number of rows and of columns per tile; it changes the result only by rounding.
        None chooses a size.
      axis_name: Mapped axis or axes (`shard_map`, `pmap`) of devices whose keys also count.
      ring: Whether to pass keys from device to device instead of gathering them on each, so that no
        device ever holds more than its own keys and one neighbor's.

    Returns:
      One value per query [B], float32.

    Raises:
      ValueError: If a temperature is not positive, its shape does not match, or `tile` is below 1.

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
    """Sums, for each query, a function of its similarities to the keys that it keeps.

    sum_j keep_ij value(s_ij, 1 / t, row_i, column_j)

    >>> import jax.numpy as jnp
    >>> pair_sum(jnp.eye(2), jnp.eye(2), value=lambda s, scale, row, column: (s - 0.5) ** 2)
    Array([0.5, 0.5], dtype=float32)

    Args:
      queries: Embeddings [B, D].
      keys: Embeddings [N, D].
      value: Function with the arguments of `logit` in `log_partition`; its values are summed.
      temperature: As in `log_partition`.
      keep: As in `log_partition`.
      rows: As in `log_partition`.
      columns: As in `log_partition`.
      tile: As in `log_partition`.
      axis_name: As in `log_partition`.
      ring: As in `log_partition`.

    Returns:
      One value per query [B], float32; 0 for a query that keeps no key.

    Raises:
      ValueError: As in `log_partition`.
    """
    sides = _sides(queries, keys, temperature, rows, columns)
    spread = Spread(tile, axis_name, ring)
    return reduce_tiles(SUM, value, keep or keep_all, *sides, spread)


def check_temperature(temperature: float | Float[Array, "..."], name: str = "temperature") -> None:
    """Rejects temperatures that are not positive and finite in float32.

    Args:
      temperature: A number or an array; a traced array passes, since its values are not known yet.
      name: Name of the temperature in the error message.

    Raises:
      ValueError: If any value is zero, negative, or not finite.
    """
    if isinstance(temperature, jax.core.Tracer):
        return
    with np.errstate(over="ignore"):
        values = np.asarray(temperature).astype(np.float32)
    if not np.all(values >= np.finfo(np.float32).tiny) or not np.all(np.isfinite(values)):
        raise ValueError(
            f"{name} is {temperature}; it must be positive and finite"
            + (" (0.02 is usual for normalized embeddings)" if name == "temperature" else "")
        )


def log_add(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(e^a + e^b), with zero instead of NaN gradient where both are -inf."""
    nothing = (a == -jnp.inf) & (b == -jnp.inf)
    safe = jnp.logaddexp(jnp.where(nothing, 0.0, a), jnp.where(nothing, 0.0, b))
    return jnp.where(nothing, -jnp.inf, safe)


def one(similarities, scale, rows, columns) -> Float[Array, "b n"]:
    """Value 1 for every pair, so that a sum counts pairs."""
    del scale, rows, columns
    return jnp.ones_like(similarities)


def keep_all(similarities, rows, columns) -> Bool[Array, ""]:
    """Mask that keeps every pair."""
    del similarities, rows, columns
    return jnp.array(True)


def _sides(queries, keys, temperature, rows, columns) -> tuple[Side, Side]:
    check_temperature(temperature)
    scale = 1.0 / jnp.asarray(temperature, jnp.float32)
    if scale.shape not in ((), (1,), queries.shape[:1], (1, keys.shape[0])):
        raise ValueError(
            f"temperature has {scale.shape[-1]} rows for {queries.shape[0]} queries and "
            f"{keys.shape[0]} keys; give a scalar, one per query [B], or one per key [1, N]"
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
    """Replaces -inf, the maximum of a query that has kept no key, by 0."""
    return jnp.where(x == -jnp.inf, 0.0, x)


LOG_SUM_EXP = Reduction(
    start=(-math.inf, 0.0),
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

"""Reductions over tiles of similarities, with a gradient that recomputes the tiles.

Neither a loss nor its gradient ever holds a [B, N] array. Recomputing tiles costs one matrix
product in four, which is paid for by not writing and reading [B, N].
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from contrastive.lazy import jax, jnp, lax
from contrastive.losses._tiles import (
    Axis,
    Keep,
    Side,
    Spread,
    Tile,
    Value,
    all_real,
    fold,
    gather,
    pass_on,
    rejoin,
    split,
    tile_size,
    vary,
    varying_zero,
)
from contrastive.similarity import dot, paired_dot

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float


class Reduction(NamedTuple):
    """A reduction over the keys of each query that processes one tile at a time.

    Attributes:
      start: Initial state of a query, a tuple of numbers.
      add: `(state, values, kept) -> state`.
      finish: `state -> result`.
      slope: `(values, result) -> d result / d value`.
    """

    start: tuple[float, ...]
    add: Callable[[Any, Tile, Bool[Array, "b n"]], Any]
    finish: Callable[[Any], Float[Array, " b"]]
    slope: Callable[[Tile, Float[Array, " b"]], Tile]


def reduce_tiles(
    reduction: Reduction, value: Value, keep: Keep, queries: Side, keys: Side, spread: Spread
) -> Float[Array, " B"]:
    """Reduces the values of each query over the keys that it keeps.

    r_i = reduce_j value(s_ij, scale, about_i, about_j) over the j that `keep` keeps

    It is differentiable in vectors, scale, and the floating-point arrays of `about` that `value`
    uses.

    Args:
      reduction: The reduction to apply.
      value: `(similarities, scale, rows, columns) -> values [b, n]`; `scale` is [b, 1] or [1, n].
        It must not close over traced values, which belong in `about`.
      keep: `(similarities, rows, columns) -> mask [b, n]`, without gradient.
      queries: This device's B queries.
      keys: This device's N keys.
      spread: Division of the work into tiles and over devices.

    Returns:
      One value per query [B], float32.

    Raises:
      ValueError: If `tile` is below 1.
    """
    if spread.tile is not None and spread.tile < 1:
        raise ValueError(
            f"tile is {spread.tile}; it is a number of rows and columns and must be at least 1"
        )
    ring = spread.axis_name if spread.ring else None
    if ring is None:
        keys = gather(keys, spread.axis_name)
    zero = varying_zero((queries, keys))
    (row_floats, row_rest), (column_floats, column_rest) = (
        _divided(jax.tree.map(lambda x: vary(x, zero), side)) for side in (queries, keys)
    )
    how = _How(reduction, value, keep, tile_size(spread.tile), ring)
    return _compiled()(how, row_floats, column_floats, row_rest, column_rest)


class _How(NamedTuple):
    """The static arguments of the reduction."""

    reduction: Reduction
    value: Value
    keep: Keep
    tile: int
    ring: Axis


@functools.cache
def _compiled() -> Callable[..., Any]:
    reduce = jax.custom_vjp(_reduce, nondiff_argnums=(0,))
    reduce.defvjp(_forward, _backward)
    # Without jit, its loops would be recompiled at each call.
    return jax.jit(reduce, static_argnums=0, inline=True)


def _reduce(how, row_floats, column_floats, row_rest, column_rest):
    return _forward(how, row_floats, column_floats, row_rest, column_rest)[0]


def _forward(how, row_floats, column_floats, row_rest, column_rest):
    row, column = _joined(row_floats, row_rest), _joined(column_floats, column_rest)

    def add(state, similarities, row, column, real):
        values = how.value(similarities, _scale(row, column), row.about, column.about)
        return how.reduction.add(state, values, _kept(how, similarities, row, column, real))

    nothing = jnp.zeros(row.vectors.shape[0], jnp.float32) + varying_zero((row, column))
    state = tuple(nothing + x for x in how.reduction.start)
    state = fold(add, state, row, column, tile=how.tile, ring=how.ring)
    result = how.reduction.finish(state)
    return result, (row_floats, column_floats, row_rest, column_rest, result)


def _backward(how, residuals, cotangent):
    row_floats, column_floats, row_rest, column_rest, result = residuals
    zero = varying_zero((residuals, cotangent))

    def zeros(tree):
        return jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32) + zero, tree)

    row = (row_floats, row_rest, result, cotangent)
    step = functools.partial(_backward_block, how)
    d_row, d_column = zeros(row_floats), zeros(column_floats)
    if how.ring is None:
        d_row, d_column = step(d_row, d_column, row, (column_floats, column_rest))
    else:

        def turn(carry, _):
            d_row, d_column, column = carry
            following = pass_on(column, how.ring)  # overlaps with computing this block
            d_row, d_column = step(d_row, d_column, row, column)
            # After a full round, the gradients of keys are back on the devices of their keys.
            return (d_row, pass_on(d_column, how.ring), following), None

        carry = (d_row, d_column, (column_floats, column_rest))
        (d_row, d_column, _), _ = lax.scan(turn, carry, length=lax.axis_size(how.ring))

    def like(gradient, of):
        return jax.tree.map(lambda g, x: g.astype(x.dtype), gradient, of)

    return like(d_row, row_floats), like(d_column, column_floats), None, None


def _backward_block(how, d_row, d_column, row, column):
    """Adds one block of keys' contribution to the gradients of queries and keys."""
    (row_floats, row_rest, result, cotangent), (column_floats, column_rest) = row, column
    rows, columns = result.shape[0], column_floats.vectors.shape[0]
    column_tiles = split((column_floats, column_rest, all_real(columns)), columns, how.tile)
    row_tiles = split((row_floats, row_rest, result), rows, how.tile)
    # Rows that pad the last tile have zero cotangents.
    cotangents = split(cotangent, rows, how.tile, mode="constant")

    def each_row(d_column, xs):
        (row_floats, row_rest, result), cotangent, d_row = xs
        turned = row_floats.vectors.astype(jnp.float32).T

        def each_column(d_row, xs):
            (column_floats, column_rest, real), d_column = xs
            row, column = _joined(row_floats, row_rest), _joined(column_floats, column_rest)
            similarities = dot(row.vectors, column.vectors)
            kept = _kept(how, similarities, row, column, real)

            def values(similarities, row_floats, column_floats):
                row, column = _joined(row_floats, row_rest), _joined(column_floats, column_rest)
                return how.value(similarities, _scale(row, column), row.about, column.about)

            value, pull = jax.vjp(values, similarities, row_floats, column_floats)
            # Mask before the slope: a masked value may be far above the result and overflow.
            slope = how.reduction.slope(jnp.where(kept, value, -jnp.inf), result)
            weights = cotangent[:, None] * slope
            if how.value is scaled and row.scale is not None:
                to_row, to_column = _pull_scaled(weights, row_floats, column_floats, turned)
            else:
                # The barrier makes XLA compute the weights once, not once per use.
                d_similarities, to_row, to_column = pull(lax.optimization_barrier(weights))
                d_similarities = jnp.where(kept, d_similarities, 0.0)
                to_row = to_row._replace(vectors=_product(d_similarities, column.vectors))
                to_column = to_column._replace(vectors=_product(turned, d_similarities))
            return _plus(d_row, to_row), _plus(d_column, to_column)

        d_row, d_column = lax.scan(each_column, d_row, (column_tiles, d_column))
        return d_column, d_row

    d_column = _turned(split(d_column, columns, how.tile, mode="constant"))
    d_row = split(d_row, rows, how.tile, mode="constant")
    d_column, d_row = lax.scan(each_row, d_column, (row_tiles, cotangents, d_row))
    return rejoin(d_row, rows), rejoin(_turned(d_column), columns)


def _pull_scaled(weights, row: Side, column: Side, turned):
    """Gradients of s / t, including the temperature's, in a single pass over the tile."""
    mixed = _product(weights, column.vectors)
    scale = row.scale
    assert scale is not None
    to_row, to_column = jax.tree.map(jnp.zeros_like, (row, column))
    to_row = to_row._replace(vectors=scale[:, None] * mixed, scale=paired_dot(row.vectors, mixed))
    return to_row, to_column._replace(vectors=_product(scale * turned, weights))


def _kept(how, similarities, row, column, real):
    about = lax.stop_gradient((similarities, row.about, column.about))
    return how.keep(*about) & real[None, :]


def _scale(row: Side, column: Side):
    if row.scale is not None:
        return row.scale[:, None]
    assert column.scale is not None
    return column.scale[None, :]


def _divided(side: Side):
    """Splits arrays into floating-point ones, which have gradients, and others; None elsewhere."""
    floats = jax.tree.map(lambda x: x if _is_float(x) else None, side)
    rest = jax.tree.map(lambda x: None if _is_float(x) else x, side)
    return floats, rest


def _joined(floats: Side, rest: Side) -> Side:
    return jax.tree.map(
        lambda a, b: b if a is None else a, floats, rest, is_leaf=lambda x: x is None
    )


def scaled(similarities, scale, rows, columns) -> Float[Array, "b n"]:
    """The usual logit, s_ij / t."""
    del rows, columns
    return similarities * scale


def _is_float(x):
    return jnp.issubdtype(x.dtype, jnp.floating)


def _plus(a, b):
    return jax.tree.map(lambda x, y: x + y.astype(jnp.float32), a, b)


def _turned(side: Side) -> Side:
    """Transposes the vectors, which makes the product for their gradient faster."""
    return side._replace(vectors=jnp.swapaxes(side.vectors, -1, -2))


def _product(a, b):
    return jnp.matmul(a, b.astype(jnp.float32), precision=lax.Precision.HIGHEST)

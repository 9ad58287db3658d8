"""Tile-by-tile processing of similarities, on one device, on several, or around a ring."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from contrastive.lazy import jax, jnp, lax
from contrastive.similarity import dot

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, PyTree

Axis: TypeAlias = str | tuple[str, ...] | None
Tile: TypeAlias = "Float[Array, 'b n']"
Keep: TypeAlias = "Callable[[Tile, Any, Any], Bool[Array, 'b n']]"
Value: TypeAlias = "Callable[[Tile, Float[Array, '...'], Any, Any], Tile]"


class Spread(NamedTuple):
    """How to split the work. No option changes a result by more than rounding.

    Attributes:
      tile: Maximum number of rows and of columns per tile; None chooses a size.
      axis_name: Mapped axis or axes of devices whose keys also count; queries stay on their device.
      ring: Whether to pass keys from device to device instead of gathering them on each.
    """

    tile: int | None = None
    axis_name: Axis = None
    ring: bool = False


class Side(NamedTuple):
    """The queries or the keys of a reduction.

    Attributes:
      vectors: Embeddings, one per query or key.
      scale: Factor 1 / temperature of similarities; None on one of the two sides.
      about: Any other arrays that the functions of a tile use.
    """

    vectors: Float[Array, "n D"]
    scale: Float[Array, " n"] | None
    about: PyTree


def fold_tiles(
    add: Callable[[PyTree, Tile, Side, Side, Bool[Array, " n"]], PyTree],
    state: PyTree,
    queries: Side,
    keys: Side,
    spread: Spread,
) -> PyTree:
    """Folds the similarities of all queries and keys, tile by tile, without gradient.

    Args:
      add: `(state, similarities [b, n], rows, columns, real [n]) -> state`; columns that are not
        real are padding.
      state: Initial state of every query, a tree of arrays [B, ...].
      queries: This device's B queries.
      keys: This device's N keys.
      spread: Division of the work into tiles and over devices.

    Returns:
      The final state.
    """
    queries, keys = lax.stop_gradient((queries, keys))
    ring = spread.axis_name if spread.ring else None
    if ring is None:
        keys = gather(keys, spread.axis_name)
    zero = varying_zero((queries, keys, state))
    state, queries, keys = jax.tree.map(lambda x: vary(x, zero), (state, queries, keys))
    return fold(add, state, queries, keys, tile=tile_size(spread.tile), ring=ring)


def fold(add, state, queries: Side, keys: Side, *, tile: int, ring: Axis):
    """`fold_tiles` for keys that are all on this device or travel around `ring`."""
    return _around(ring, functools.partial(_fold_block, add, tile), state, queries, keys)


def gather(tree: PyTree, axis_name: Axis) -> PyTree:
    """Concatenates every device's arrays along their first dimension.

    Args:
      tree: Arrays [n, ...], the same shape on every device.
      axis_name: Mapped axis or axes; None returns the tree unchanged.

    Returns:
      Arrays [n * devices, ...]. The gradient of a gathered array is summed over the devices.
    """
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: lax.all_gather(x, axis_name, axis=0, tiled=True), tree)


def varying_zero(tree: PyTree) -> Float[Array, ""]:
    """Returns a zero that varies over every mapped axis that any array of the tree varies over.

    shard_map requires a loop's initial carry, and a custom gradient, to vary over the same axes as
    the loop's body. Adding this zero ensures that in every version of JAX and compiles to nothing.

    Args:
      tree: Tree of arrays.

    Returns:
      0.0, float32.
    """
    firsts = [jnp.ravel(x)[0] for x in jax.tree.leaves(tree) if jnp.size(x)]
    return sum((jnp.where(False, x, 0).astype(jnp.float32) for x in firsts), jnp.float32(0))


def vary(x, zero):
    """Makes an array vary over the mapped axes that `zero` varies over."""
    x = jnp.asarray(x)
    return x | (zero != 0) if x.dtype == bool else x + zero.astype(x.dtype)


def tile_size(tile: int | None) -> int:
    """Size of a float32 tile that fits a CPU's cache (4 MiB) or fills an accelerator (64 MiB)."""
    if tile is not None:
        return tile
    return 1024 if jax.default_backend() == "cpu" else 4096


def _around(ring: Axis, fold, state, row, column):
    """Folds this device's block of keys and, on a ring, each other device's as it arrives."""
    if ring is None:
        return fold(state, row, column)

    def turn(carry, _):
        state, column = carry
        following = pass_on(column, ring)  # overlaps with folding this block
        return (fold(state, row, column), following), None

    (state, column), _ = lax.scan(turn, (state, column), length=lax.axis_size(ring) - 1)
    return fold(state, row, column)


def pass_on(tree, ring):
    """Sends arrays to the next device of a ring and receives those of the previous one."""
    devices = lax.axis_size(ring)
    order = [(device, (device + 1) % devices) for device in range(devices)]
    return jax.tree.map(lambda x: lax.ppermute(x, ring, order), tree)


def _fold_block(add, tile, state, row, column):
    rows, columns = row.vectors.shape[0], column.vectors.shape[0]
    column_tiles = split((column, all_real(columns)), columns, tile)

    def each_row(xs):
        state, row = xs

        def each_column(state, xs):
            column, real = xs
            return add(state, dot(row.vectors, column.vectors), row, column, real), None

        return lax.scan(each_column, state, column_tiles)[0]

    return rejoin(lax.map(each_row, split((state, row), rows, tile)), rows)


def all_real(size):
    """Mask of real entries, which `split` pads with False."""
    return jnp.ones(size, bool)


def split(tree, size, tile, mode="edge"):
    """Splits [size, ...] into [tiles, height, ...], padding the last tile with its last entry.

    Padding is then as safe for any function as a real entry. Masks are padded with False.
    """
    count = -(-size // tile)
    height = -(-size // count)

    def cut(x):
        how = "constant" if x.dtype == bool else mode
        x = jnp.pad(x, [(0, count * height - size)] + [(0, 0)] * (x.ndim - 1), mode=how)
        return x.reshape(count, height, *x.shape[1:])

    return jax.tree.map(cut, tree)


def rejoin(tree, size):
    """Inverse of `split`: joins the tiles and removes the padding."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:size], tree)

"""Exact nearest neighbours on the device, a tile of the corpus at a time."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from contrastive.losses.similarity import dot

_QUERIES_AT_ONCE = 1024


def top_k(
    queries: Float[np.ndarray, "Q D"], corpus: Float[np.ndarray, "N D"], k: int, *, tile: int = 8192
) -> tuple[Float[np.ndarray, "Q k"], Int[np.ndarray, "Q k"]]:
    """The k documents of largest dot product with each query.

    Args:
      queries: Embeddings.
      corpus: Embeddings.
      k: Documents a query; at most N are found.
      tile: Documents compared at a time.

    Returns:
      Scores, largest first, and places in the corpus; equal scores in the corpus's order. Past the
      end of the corpus, -inf and -1.
    """
    scores = np.full((len(queries), k), -np.inf, np.float32)
    places = np.full((len(queries), k), -1)
    k_found = min(k, len(corpus))
    if not k_found:
        return scores, places
    count = -(-len(corpus) // tile)
    height = -(-len(corpus) // count)
    tiles = np.pad(corpus, ((0, count * height - len(corpus)), (0, 0)))
    tiles = jnp.asarray(tiles.reshape(count, height, -1))
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        part = slice(start, start + _QUERIES_AT_ONCE)
        best = _top_k(jnp.asarray(queries[part]), tiles, len(corpus), k_found)
        scores[part, :k_found], places[part, :k_found] = best
    return scores, places


@functools.partial(jax.jit, static_argnums=(2, 3))
def _top_k(queries: Array, tiles: Array, size: int, k: int):
    height = tiles.shape[1]

    def merge(best, numbered):
        number, tile = numbered
        place = number * height + jnp.arange(height)
        scores = dot(queries, tile)
        scores = jnp.where(scores == 0, 0.0, scores)  # lax.top_k ranks -0.0 below 0.0
        scores = jnp.where(place < size, scores, -jnp.inf)
        place = jnp.broadcast_to(place, scores.shape)
        # Earlier documents come first, and lax.top_k keeps the first of equals.
        scores, place = (
            jnp.concatenate(x, axis=1) for x in zip(best, (scores, place), strict=True)
        )
        scores, chosen = lax.top_k(scores, k)
        return (scores, jnp.take_along_axis(place, chosen, axis=1)), None

    none = jnp.full((queries.shape[0], k), -jnp.inf), jnp.full((queries.shape[0], k), -1)
    return lax.scan(merge, none, (jnp.arange(tiles.shape[0]), tiles))[0]

"""Exact nearest-neighbor search, which moves the corpus to the device one tile at a time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from contrastive.similarity import dot

_QUERIES_AT_ONCE = 1024


def top_k(
    queries: Float[np.ndarray, "Q D"], corpus: Float[np.ndarray, "N D"], k: int, *, tile: int = 8192
) -> tuple[Float[np.ndarray, "Q k"], Int[np.ndarray, "Q k"]]:
    """Finds the k documents with the largest dot product for each query.

    Args:
      queries: Embeddings [Q, D].
      corpus: Embeddings [N, D].
      k: Number of documents per query.
      tile: Number of documents that are compared at a time.

    Returns:
      Scores [Q, k], in descending order, and corpus indices [Q, k]; equal scores are in corpus
      order. If k > N, the rest is filled with -inf and -1.
    """
    scores = np.full((len(queries), k), -np.inf, np.float32)
    places = np.full((len(queries), k), -1)
    k_found = min(k, len(corpus))
    if not k_found:
        return scores, places
    height = min(tile, len(corpus))
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        part = slice(start, start + _QUERIES_AT_ONCE)
        block = jnp.asarray(queries[part])
        best = jnp.full((len(block), k_found), -jnp.inf), jnp.full((len(block), k_found), -1)
        for first in range(0, len(corpus), height):
            compared = corpus[first : first + height]
            compared = np.pad(compared, ((0, height - len(compared)), (0, 0)))
            best = _merge(best, block, compared, first, len(corpus))
        scores[part, :k_found], places[part, :k_found] = best
    return scores, places


@jax.jit
def _merge(best: tuple[Array, Array], queries: Array, tile: Array, first: int, size: int):
    """Merges the best documents so far with those of one more tile of the corpus."""
    place = first + jnp.arange(tile.shape[0])
    scores = dot(queries, tile)
    scores = jnp.where(scores == 0, 0.0, scores)  # lax.top_k ranks -0.0 below 0.0
    scores = jnp.where(place < size, scores, -jnp.inf)
    place = jnp.broadcast_to(place, scores.shape)
    # Earlier documents come first, because lax.top_k keeps the first of equal scores.
    scores, place = (jnp.concatenate(x, axis=1) for x in zip(best, (scores, place), strict=True))
    scores, chosen = lax.top_k(scores, best[0].shape[1])
    return scores, jnp.take_along_axis(place, chosen, axis=1)

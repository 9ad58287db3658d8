"""How embeddings lie on the sphere, as losses."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from contrastive.losses.contrast import Contrast, contrast
from contrastive.losses.directions import Direction
from contrastive.losses.pairs import Pairs
from contrastive.losses.relatives import batch_mean
from contrastive.losses.tiles import gather


def align_uniform(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    power: float = 2.0,
    sharpness: float = 2.0,
    weight: float = 1.0,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """Alignment and uniformity: positives close, and everything far apart.

    loss_i = ||q_i - d_i+||^p + w (U(q) + U(d)) / 2, U(x) = log mean_{i/=j} exp(-u ||x_i - x_j||^2)

    Args:
      queries: Unit vectors [B, D].
      documents: Unit vectors, as in `info_nce`; U is from positives to other queries' documents.
      power: p.
      sharpness: u.
      weight: w.
      **pairs: As in `info_nce`; texts that are known to be false negatives are not in U.

    Returns:
      One loss a query [B], float32. U is the whole batch's.

    Source:
      Wang & Isola, 2020, arXiv:2005.10242.
    """
    seen = contrast(queries, documents, **pairs)
    # Not 2 - 2 s, which cancels where positives are close. A root has no slope at 0.
    apart = (queries - seen.first_positives).astype(jnp.float32)
    squared = jnp.maximum(jnp.sum(apart**2, axis=-1), 1e-12)
    uniformity = _uniformity(seen, "query_to_query", sharpness, pairs)
    uniformity += _uniformity(seen, "document_to_document", sharpness, pairs)
    return squared ** (power / 2) + weight * uniformity / 2


def spread_out(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    mean_weight: float = 1.0,
    second_moment_weight: float = 1.0,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """Global orthogonal regulariser: unrelated texts like random directions of the sphere.

    loss = w1 M1^2 + w2 max(0, M2 - 1/D), M1, M2 the mean of s and s^2 over unrelated pairs, for
    queries among themselves and documents among themselves, averaged

    Args:
      queries: Unit vectors [B, D].
      documents: Unit vectors, as in `info_nce`; positives are compared with all documents.
      mean_weight: w1.
      second_moment_weight: w2.
      **pairs: As in `info_nce`; known false negatives do not count as unrelated.

    Returns:
      The one loss of the batch, once for each query [B], so that the mean is the loss.

    Source:
      Zhang et al., 2017, arXiv:1708.06320; Schechter Vera et al., 2025, arXiv:2509.20354.
    """
    seen = contrast(queries, documents, **pairs)
    total = jnp.float32(0)
    for direction in ("query_to_query", "document_to_document"):
        first, second = (
            _mean_of_pairs(seen, direction, value, pairs) for value in (_similarity, _square)
        )
        excess = jax.nn.relu(second - 1.0 / queries.shape[1])
        total += (mean_weight * first**2 + second_moment_weight * excess) / 2
    return jnp.broadcast_to(total, queries.shape[:1])


def _uniformity(seen: Contrast, direction: Direction, sharpness, pairs):
    """exp(-u (2 - 2 s)): the partition at temperature 1 / (2 u)."""
    axis_name = pairs.get("axis_name")
    log_sums = seen.log_negatives(0.5 / sharpness, direction=direction) - 2.0 * sharpness
    count = batch_mean(seen.count_negatives(direction), axis_name)
    log_sums = gather(log_sums, axis_name)
    some = log_sums != -jnp.inf
    total = jax.nn.logsumexp(jnp.where(some, log_sums, -1e9))
    log_mean = total - jnp.log(log_sums.shape[0] * jnp.maximum(count, 1e-9))
    return jnp.where(count > 0, log_mean, 0.0)


def _mean_of_pairs(seen: Contrast, direction: Direction, value, pairs):
    axis_name = pairs.get("axis_name")
    total = batch_mean(seen.sum_negatives(value, direction=direction), axis_name)
    count = batch_mean(seen.count_negatives(direction), axis_name)
    return total / lax.stop_gradient(jnp.maximum(count, 1e-9))


def _similarity(similarities, scale, rows, columns):
    del scale, rows, columns
    return similarities


def _square(similarities, scale, rows, columns):
    del scale, rows, columns
    return similarities**2

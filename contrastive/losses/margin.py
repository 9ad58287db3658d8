"""Losses of differences: a positive must score above its negatives, by so much."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from contrastive.losses.contrast import contrast
from contrastive.losses.directions import About
from contrastive.losses.pairs import Pairs, own_group


def triplet(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    margin: float = 0.2,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """Triplet loss on similarities, the mean over a query's negatives.

    loss_i = mean_j- max(0, s_ij - s_i+ + margin)

    Args:
      queries: Embeddings [B, D]; normalise them for cosines.
      documents: As in `info_nce`.
      margin: By which the positive should be more similar.
      **pairs: As in `info_nce`.

    Returns:
      One loss a query [B], float32; 0 where there is no negative.

    Raises:
      ValueError: As `info_nce`.

    Source:
      Schroff et al., 2015, arXiv:1503.03832.
    """
    seen = contrast(queries, documents, **pairs)
    total = seen.sum_negatives(_hinge, given={"least": seen.positive - margin})
    return total / jnp.maximum(seen.count_negatives(), 1.0)


def margin_mse(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    teacher_scores: Float[Array, "B G"],
    *,
    document_pools: Int[Array, " N"] | None = None,
) -> Float[Array, " B"]:
    """MarginMSE: differences of similarities as a teacher's scores have them.

    loss_i = mean_{g>0} ((s_i0 - s_ig) - (T_i0 - T_ig))^2

    Args:
      queries: Embeddings [B, D], as a rule not normalised: a teacher's margins may be large.
      documents: Embeddings [B * G, D], query-major, the positive first.
      teacher_scores: T, of each query's own documents [B, G], G at least 2.
      document_pools: -1 where a place of a group has no document [N].

    Returns:
      One loss a query [B], float32; 0 where a query has no negative of its own.

    Raises:
      ValueError: For shapes that do not fit.

    Source:
      Hofstätter et al., 2020, arXiv:2010.02666.
    """
    similarities, real = own_group(queries, documents, teacher_scores, document_pools)
    if teacher_scores.shape[1] < 2:
        raise ValueError("margin_mse compares documents of a group; groups have 1, at least 2")
    teacher = jnp.where(real, jnp.asarray(teacher_scores, jnp.float32), 0.0)
    off = (similarities[:, :1] - similarities) - jax.lax.stop_gradient(teacher[:, :1] - teacher)
    squares = jnp.where(real, off**2, 0.0)[:, 1:]
    return squares.sum(axis=1) / jnp.maximum(real[:, 1:].sum(axis=1), 1)


def _hinge(similarities, scale, rows: About, columns):
    del scale, columns
    return jax.nn.relu(similarities - rows.given["least"][:, None])

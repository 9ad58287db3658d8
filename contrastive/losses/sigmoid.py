"""SigLIP: every pair a binary question of its own."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from contrastive.losses.contrast import Temperature, contrast
from contrastive.losses.directions import About
from contrastive.losses.pairs import Pairs
from contrastive.losses.partition import check_temperature


def siglip(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    bias: float | Float[Array, ""] = -10.0,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """Sigmoid loss: no softmax, so no query's loss depends on its negatives' competition.

    loss_i = softplus(-(s_i+ / t + b)) + sum_j- softplus(s_ij / t + b)

    Args:
      queries: Embeddings [B, D]; normalise them for cosines.
      documents: As in `info_nce`.
      temperature: As in `info_nce`; SigLIP learns it, from 0.1.
      bias: b; negative, since most pairs are negatives. SigLIP learns it, from -10.
      **pairs: As in `info_nce`.

    Returns:
      One loss a query [B], float32.

    Raises:
      ValueError: As `info_nce`.

    Source:
      Zhai et al., 2023, arXiv:2303.15343.
    """
    check_temperature(temperature)
    seen = contrast(queries, documents, several=True, **pairs)
    negatives = seen.sum_negatives(_no, temperature, given={"bias": bias})
    logits = seen.own_similarities / jnp.asarray(temperature)[..., None] + bias
    yes = jnp.where(seen.own_valid, jax.nn.softplus(-logits), 0.0).sum(axis=1)
    return yes + negatives


def _no(similarities, scale, rows: About, columns):
    del columns
    return jax.nn.softplus(similarities * scale + rows.given["bias"][:, None])

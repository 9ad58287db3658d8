"""Diagnostics of a temperature: the distributions of similarities and of the gradient."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from contrastive.losses._negatives.contrast import Temperature, contrast
from contrastive.losses._negatives.masks import Pairing
from contrastive.losses._negatives.pairs import Pairs
from contrastive.losses._partition import check_temperature
from contrastive.similarity import normalize

__all__ = ["Diagnostics", "diagnose", "summarize"]


class Diagnostics(NamedTuple):
    """Diagnostics of each query [B]; `summarize` reduces them over a batch.

    The penalty distribution r_ij = exp(s_ij / t) / sum_k- exp(s_ik / t) is the share of negative j
    in the gradient of query i.

    Attributes:
      temperature: The query's temperature t_i.
      positive_cosine: s_i+, a cosine if embeddings are normalized.
      negative_cosine: Mean of s_ij over the negatives.
      entropy: Entropy of the softmax over the positive and the negatives, in nats.
      effective_negatives: exp(H(r_i)), the effective number of negatives that share the gradient.
      top_negative_share: max_j r_ij, the hardest negative's share of the gradient.
      saturated: 1 if the positive has over 99% of the softmax, which leaves almost no gradient.
      accuracy: 1 if the positive scores above every negative.
      largest_logit: max_j |s_ij| / t, including the positive.
      masked_share: Fraction of the other documents that were masked as false negatives.
      masked_by_score: Fraction of the other documents that were masked by score, not by text.
      alignment: ||q_i - d_i+||^2.
      uniformity: log mean_j exp(-2 ||q_i - q_j||^2) over the other queries, after normalization.
    """

    temperature: Float[Array, " B"]
    positive_cosine: Float[Array, " B"]
    negative_cosine: Float[Array, " B"]
    entropy: Float[Array, " B"]
    effective_negatives: Float[Array, " B"]
    top_negative_share: Float[Array, " B"]
    saturated: Float[Array, " B"]
    accuracy: Float[Array, " B"]
    largest_logit: Float[Array, " B"]
    masked_share: Float[Array, " B"]
    masked_by_score: Float[Array, " B"]
    alignment: Float[Array, " B"]
    uniformity: Float[Array, " B"]


def diagnose(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    **pairs: Unpack[Pairs],
) -> Diagnostics:
    """Computes diagnostics of one batch, tile by tile like the loss and without gradient.

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [B * group_size, D], query-major, the positives first in each group; of
        several positives only the first is examined.
      temperature: Positive scalar, or one per query [B].
      **pairs: As in `info_nce`.

    Returns:
      Each diagnostic as one value per query [B], float32.

    Source:
      Wang & Isola, 2020, arXiv:2005.10242 (alignment, uniformity); Wang & Liu, 2021,
      arXiv:2012.09740 (penalty distribution).
    """
    queries, documents = lax.stop_gradient((queries, documents))
    batch = contrast(queries, documents, several=True, **pairs)
    check_temperature(temperature)
    temperature = jnp.broadcast_to(jnp.asarray(temperature, jnp.float32), len(queries))
    inverse = 1.0 / temperature
    start = _Fold(*[jnp.float32(0)] * 8)._replace(top=jnp.float32(-jnp.inf))
    folded = batch.fold_negatives(_add, start, temperature)
    candidates = jnp.maximum(folded.candidates, 1.0)
    return Diagnostics(
        temperature=temperature,
        alignment=jnp.sum((queries - batch.first_positives).astype(jnp.float32) ** 2, axis=-1),
        uniformity=_uniformity(queries, pairs),
        masked_share=(folded.candidates - folded.count) / candidates,
        masked_by_score=(folded.unrelated - folded.count) / candidates,
        **_softmax(folded, batch.positive, inverse),
    )


def summarize(diagnostics: Diagnostics) -> dict[str, Float[Array, ""]]:
    """Reduces each diagnostic to one number.

    The number is the mean, except for the maximum of the largest logits and the log-mean-exp of
    uniformity.

    Args:
      diagnostics: Diagnostics of all B queries of the batch.

    Returns:
      Scalars by name, float32.
    """
    scalars = {name: jnp.mean(value) for name, value in diagnostics._asdict().items()}
    # A maximum may ignore NaN on CPUs; the mean never does.
    largest = jnp.max(diagnostics.largest_logit)
    scalars["largest_logit"] = jnp.where(jnp.isnan(scalars["largest_logit"]), jnp.nan, largest)
    count = diagnostics.uniformity.size
    scalars["uniformity"] = jax.nn.logsumexp(diagnostics.uniformity) - jnp.log(float(count))
    return scalars


class _Fold(NamedTuple):
    """Running statistics of each query's negatives."""

    top: Float[Array, " b"]  # largest logit
    total: Float[Array, " b"]  # sum of exp(logit - top)
    moment: Float[Array, " b"]  # sum of (logit - top) exp(logit - top)
    similarity: Float[Array, " b"]  # sum of similarities
    largest: Float[Array, " b"]  # largest |similarity|
    count: Float[Array, " b"]
    unrelated: Float[Array, " b"]
    candidates: Float[Array, " b"]


def _add(state: _Fold, tile: Pairing):
    similarities, kept = tile.similarities, tile.negative
    logits = jnp.where(kept, similarities * tile.scale, -jnp.inf)
    top = jnp.maximum(state.top, logits.max(axis=1))
    shift = jnp.where(top == -jnp.inf, 0.0, top)
    fall = jnp.where(state.top == -jnp.inf, 0.0, state.top - shift)
    below = jnp.where(kept, similarities * tile.scale - shift[:, None], 0.0)
    weight = jnp.where(kept, jnp.exp(below), 0.0)
    return _Fold(
        top=top,
        total=jnp.exp(fall) * state.total + weight.sum(axis=1),
        moment=jnp.exp(fall) * (state.moment + fall * state.total) + (below * weight).sum(axis=1),
        similarity=state.similarity + jnp.where(kept, similarities, 0.0).sum(axis=1),
        largest=jnp.maximum(state.largest, jnp.where(kept, jnp.abs(similarities), 0).max(axis=1)),
        count=state.count + kept.sum(axis=1),
        unrelated=state.unrelated + tile.unrelated.sum(axis=1),
        candidates=state.candidates + tile.candidate.sum(axis=1),
    )


def _softmax(folded: _Fold, positive, inverse):
    """Softmax statistics from the folded sums; without negatives the positive has probability 1."""
    total = jnp.maximum(folded.total, 1e-30)
    penalty_entropy = jnp.where(folded.count > 0, jnp.log(total) - folded.moment / total, 0.0)
    largest = jnp.maximum(folded.largest, jnp.abs(positive)) * inverse
    log_odds = positive * inverse - (folded.top + jnp.log(total))  # +inf without negatives
    p = jax.nn.sigmoid(log_odds)
    binary_entropy = jax.scipy.special.entr(p) + jax.scipy.special.entr(jax.nn.sigmoid(-log_odds))
    return {
        "positive_cosine": positive,
        "negative_cosine": folded.similarity / jnp.maximum(folded.count, 1.0),
        "entropy": binary_entropy + (1.0 - p) * penalty_entropy,
        "effective_negatives": jnp.where(folded.count > 0, jnp.exp(penalty_entropy), 0.0),
        "top_negative_share": jnp.where(folded.count > 0, 1.0 / total, 0.0),
        "saturated": (p > 0.99).astype(jnp.float32),
        "largest_logit": jnp.where(jnp.isnan(folded.similarity + positive), jnp.nan, largest),
        "accuracy": (positive * inverse > folded.top).astype(jnp.float32),
    }


def _uniformity(queries, pairs: Pairs):
    """A pair has squared distance 2 - 2s and adds exp(4s - 4): a partition at temperature 1/4."""
    unit = normalize(queries)
    spread = Pairs(
        tile=pairs.get("tile"), axis_name=pairs.get("axis_name"), ring=pairs.get("ring", False)
    )
    batch = contrast(unit, unit, **spread)
    others = jnp.maximum(batch.count_negatives(), 1.0)
    return batch.log_negatives(0.25) - 4.0 - jnp.log(others)

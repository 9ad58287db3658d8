"""Losses of graded pairs: scores, not a positive and its negatives."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from contrastive.losses.contrast import Temperature
from contrastive.losses.pairs import check_finite, own_group
from contrastive.losses.partition import check_temperature
from contrastive.losses.similarity import normalize, paired_dot
from contrastive.losses.tiles import Axis, gather


def cosent(
    queries: Float[Array, "B D"],
    documents: Float[Array, "B D"],
    scores: Float[Array, " B"],
    *,
    temperature: float | Float[Array, ""] = 0.05,
    valid: Int[Array, " B"] | None = None,
    axis_name: Axis = None,
) -> Float[Array, " B"]:
    """CoSENT: pairs with a higher score should be more similar, whatever the values.

    loss = log( 1 + sum_{y_i > y_j} exp((s_j - s_i) / t) )

    Args:
      queries: One side of the pairs [B, D]; normalise both for cosines.
      documents: The other [B, D].
      scores: y, of the pairs [B]; only their order counts.
      temperature: Positive scalar.
      valid: Which pairs there are [B]; None is all.
      axis_name: Mapped axis or axes whose pairs are compared too.

    Returns:
      The one loss of the batch, once for each pair [B], so that the mean is the loss.

    Raises:
      ValueError: For shapes that do not fit or a temperature <= 0.

    Source:
      Su, 2022; Huang et al., 2024, doi:10.1109/TASLP.2024.3402087.
    """
    _check_pairs(queries, documents, scores)
    similarities = paired_dot(queries, documents)
    return _ordered(similarities, scores, temperature, valid, axis_name)


def angle(
    queries: Float[Array, "B D"],
    documents: Float[Array, "B D"],
    scores: Float[Array, " B"],
    *,
    temperature: float | Float[Array, ""] = 0.05,
    valid: Int[Array, " B"] | None = None,
    axis_name: Axis = None,
) -> Float[Array, " B"]:
    """AnglE: CoSENT on the angle of embeddings taken as complex vectors.

    s = |Re z + Im z|, z = sum_k x_k conj(y_k), x_k = x[k] + i x[k + D/2], x and y of unit length

    Its gradient does not vanish where cosines are near 1 or -1.

    Args:
      queries: As in `cosent`, of any length.
      documents: As in `cosent`.
      scores: As in `cosent`.
      temperature: As in `cosent`.
      valid: As in `cosent`.
      axis_name: As in `cosent`.

    Returns:
      As `cosent`.

    Raises:
      ValueError: As `cosent`.

    Source:
      Li & Li, 2023, arXiv:2309.12871.
    """
    _check_pairs(queries, documents, scores)
    (a, b), (c, d) = (_halves(normalize(x)) for x in (queries, documents))
    similarities = jnp.abs(jnp.sum(a * c + b * d, axis=-1) + jnp.sum(b * c - a * d, axis=-1))
    return _ordered(similarities, scores, temperature, valid, axis_name)


def listwise(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    relevance: Float[Array, "B G"],
    *,
    temperature: Temperature,
    target: Literal["softmax", "share"] = "softmax",
    document_pools: Int[Array, " N"] | None = None,
) -> Float[Array, " B"]:
    """Cross-entropy of a query's own documents against their graded relevance.

    loss_i = -sum_g y_ig log softmax_g(s_ig / t)

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [B * G, D], query-major.
      relevance: Of each query's own documents [B, G]; for `share` not negative.
      temperature: Positive scalar, or one per query [B].
      target: y is the softmax of the relevance (ListNet), or its share of the group's (the softmax
        loss of learning to rank).
      document_pools: -1 where a place of a group has no document [N].

    Returns:
      One loss a query [B], float32; 0 for a query without any relevance.

    Raises:
      ValueError: For shapes that do not fit or a temperature <= 0.

    Source:
      Cao et al., 2007 (ListNet); Bruch et al., 2019 (softmax loss).
    """
    check_temperature(temperature)
    similarities, real = own_group(queries, documents, relevance, document_pools)
    logits = similarities / jnp.reshape(temperature, (-1, 1))
    relevance = jnp.asarray(relevance, jnp.float32)
    if target == "softmax":
        wanted = jax.nn.softmax(jnp.where(real, relevance, -jnp.inf), axis=-1)
    elif target != "share":
        raise ValueError(f"target is {target!r}; it is 'softmax' or 'share'")
    else:
        relevance = jnp.where(real, relevance, 0.0)
        total = relevance.sum(axis=-1, keepdims=True)
        wanted = relevance / jnp.where(total > 0, total, 1.0)
    log_p = jax.nn.log_softmax(jnp.where(real, logits, -jnp.inf), axis=-1)
    return -jnp.sum(jnp.where(wanted > 0, lax.stop_gradient(wanted) * log_p, 0.0), axis=-1)


def _ordered(similarities, scores, temperature, valid, axis_name):
    """The sorted pairs, with the log-sum-exp of all that score higher, in B log B."""
    check_temperature(temperature)
    here = similarities.shape
    scores = jnp.asarray(scores, jnp.float32)
    valid = jnp.ones(here, bool) if valid is None else jnp.asarray(valid, bool)
    similarities, scores, valid = gather((similarities, scores, valid), axis_name)
    logits = similarities / temperature
    order = jnp.argsort(scores)
    logits, scores, valid = logits[order], scores[order], valid[order]
    # higher[k] = log sum over the pairs from k on of exp(-logit)
    higher = lax.cumlogsumexp(jnp.where(valid, -logits, -jnp.inf), reverse=True)
    higher = jnp.append(higher, -jnp.inf)
    first_higher = jnp.searchsorted(scores, scores, side="right")
    terms = jnp.where(valid, logits + higher[first_higher], -jnp.inf)
    some = jnp.any(terms != -jnp.inf)
    together = jax.nn.logsumexp(jnp.where(some, terms, 0.0))
    return jnp.broadcast_to(jnp.where(some, jax.nn.softplus(together), 0.0), here)


def _halves(x):
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2)))
    return jnp.split(x, 2, axis=1)


def _check_pairs(queries, documents, scores):
    if queries.shape != documents.shape or scores.shape != queries.shape[:1]:
        raise ValueError(
            f"{queries.shape[0]} queries need as many documents and scores, one each; got "
            f"{documents.shape[0]} and {scores.shape}"
        )
    check_finite("queries", queries)
    check_finite("documents", documents)

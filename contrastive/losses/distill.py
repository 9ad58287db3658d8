"""Distillation: a teacher's scores of a query's own group as soft targets."""

from __future__ import annotations

from typing import Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from contrastive.losses import masks
from contrastive.losses.contrast import Temperature, contrast
from contrastive.losses.directions import About
from contrastive.losses.pairs import Pairs, own_group
from contrastive.losses.partition import check_temperature, log_add


def distill_kl(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    teacher_scores: Float[Array, "B G"],
    *,
    temperature: Temperature,
    teacher_temperature: float = 1.0,
    document_pools: Int[Array, " N"] | None = None,
) -> Float[Array, " B"]:
    """Cross-entropy of the teacher's softmax over a query's group against the student's.

    loss_i = -sum_g t_ig log softmax_g(s_ig / t), t_i = softmax(teacher_scores_i / T)

    The Kullback-Leibler divergence but for the teacher's entropy, which has no gradient.

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [B * G, D], query-major.
      teacher_scores: Of each query's own documents [B, G], any scale.
      temperature: Of the student; positive scalar, or one per query [B].
      teacher_temperature: T; raw logits of a reranker want 1 or more, scores in [0, 1] far less.
      document_pools: -1 where a place of a group has no document [N].

    Returns:
      One loss a query [B], float32.

    Raises:
      ValueError: For shapes that do not fit or a temperature <= 0.

    Source:
      Hinton et al., 2015, arXiv:1503.02531; as FlagEmbedding's `kl_div`.
    """
    teacher, student = _group_logits(
        queries, documents, teacher_scores, temperature, teacher_temperature, document_pools
    )
    log_p = jax.nn.log_softmax(student, axis=-1)
    return -jnp.sum(jnp.where(teacher > 0, teacher * log_p, 0.0), axis=-1)


def distill_m3(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    teacher_scores: Float[Array, "B G"],
    *,
    temperature: Temperature,
    teacher_temperature: float = 1.0,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """Every document of the group in turn as the positive, weighted by the teacher.

    loss_i = sum_g t_ig softplus( log( Z_i + sum_{h>g} exp(s_ih / t) ) - s_ig / t )

    with Z_i the partition over other queries' documents: the g-th term leaves the group's documents
    before g out.

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [B * G, D], query-major.
      teacher_scores: Of each query's own documents [B, G].
      temperature: Of the student; positive scalar, or one per query [B].
      teacher_temperature: Divides the teacher's scores before their softmax.
      **pairs: As in `info_nce`; the group size is that of the scores.

    Returns:
      One loss a query [B], float32.

    Raises:
      ValueError: For shapes that do not fit, no possible negative, or a temperature <= 0.

    Source:
      Chen et al., 2024, arXiv:2402.03216; as FlagEmbedding's `m3_kd_loss`.
    """
    pairs["group_size"] = teacher_scores.shape[1]
    valid = pairs.get("valid")
    pools = pairs.get("document_pools") if valid is None else jnp.where(valid, 0, -1)
    teacher, own = _group_logits(
        queries, documents, teacher_scores, temperature, teacher_temperature, pools
    )
    seen = contrast(queries, documents, **pairs)
    # later[:, g] = log sum_{h>g} exp(s_ih / t)
    later = jax.lax.cumlogsumexp(own, axis=1, reverse=True)[:, 1:]
    later = jnp.pad(later, ((0, 0), (0, 1)), constant_values=-jnp.inf)
    if seen.in_batch:
        others = seen.log_negatives(temperature, logit=_of_others)
        later = log_add(others[:, None], later)
    terms = jax.nn.softplus(later - jnp.where(teacher > 0, own, 0.0))
    return jnp.sum(jnp.where(teacher > 0, teacher * terms, 0.0), axis=-1)


def _group_logits(queries, documents, teacher_scores, temperature, teacher_temperature, pools):
    """The teacher's probabilities and the student's logits over each query's own group."""
    check_temperature(temperature)
    check_temperature(teacher_temperature, "teacher_temperature")
    similarities, real = own_group(queries, documents, teacher_scores, pools)
    logits = similarities / jnp.reshape(temperature, (-1, 1))
    teacher = jnp.asarray(teacher_scores, jnp.float32) / teacher_temperature
    if pools is not None:
        logits, teacher = (jnp.where(real, x, -jnp.inf) for x in (logits, teacher))
    return jax.lax.stop_gradient(jax.nn.softmax(teacher, axis=-1)), logits


def _of_others(similarities, scale, rows: About, columns: About):
    own = masks.is_own(rows.query, columns.document)
    return jnp.where(own, -jnp.inf, similarities * scale)

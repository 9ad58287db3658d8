"""Distillation: a teacher's scores of a query's own group as soft targets."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from contrastive.losses import masks
from contrastive.losses.partition import Axis, check_temperature, log_partition
from contrastive.losses.similarity import paired_dot


def distill_kl(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    teacher_scores: Float[Array, "B G"],
    *,
    temperature: float | Float[Array, ""] | Float[Array, " B"],
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
    temperature: float | Float[Array, ""] | Float[Array, " B"],
    teacher_temperature: float = 1.0,
    in_batch: bool = True,
    query_ids: Int[Array, " B"] | None = None,
    document_ids: Int[Array, " N"] | None = None,
    known_positive_ids: Int[Array, "B K"] | None = None,
    query_pools: Int[Array, " B"] | None = None,
    document_pools: Int[Array, " N"] | None = None,
    tile: int | None = None,
    axis_name: Axis = None,
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
      in_batch: Whether other queries' documents are negatives.
      query_ids: As in `info_nce`.
      document_ids: As in `info_nce`.
      known_positive_ids: As in `info_nce`.
      query_pools: As in `info_nce`.
      document_pools: As in `info_nce`.
      tile: As in `info_nce`.
      axis_name: As in `info_nce`.

    Returns:
      One loss a query [B], float32.

    Raises:
      ValueError: For shapes that do not fit or a temperature <= 0.

    Source:
      Chen et al., 2024, arXiv:2402.03216; as FlagEmbedding's `m3_kd_loss`.
    """
    teacher, own = _group_logits(
        queries, documents, teacher_scores, temperature, teacher_temperature, document_pools
    )
    group_size = teacher_scores.shape[1]
    # later[:, g] = log sum_{h>g} exp(s_ih / t)
    later = jax.lax.cumlogsumexp(own, axis=1, reverse=True)[:, 1:]
    later = jnp.pad(later, ((0, 0), (0, 1)), constant_values=-jnp.inf)
    if in_batch:
        rows, columns = masks.describe(
            queries.shape[0],
            group_size=group_size,
            query_ids=query_ids,
            document_ids=document_ids,
            known_positive_ids=known_positive_ids,
            query_pools=query_pools,
            document_pools=document_pools,
            axis_name=axis_name,
        )
        others = log_partition(
            queries,
            documents,
            temperature=temperature,
            keep=functools.partial(_is_of_others, group_size),
            rows=rows,
            columns=columns,
            tile=tile,
            axis_name=axis_name,
        )
        later = _log_add(others[:, None], later)
    terms = jax.nn.softplus(later - jnp.where(teacher > 0, own, 0.0))
    return jnp.sum(jnp.where(teacher > 0, teacher * terms, 0.0), axis=-1)


def _group_logits(queries, documents, teacher_scores, temperature, teacher_temperature, pools):
    """The teacher's probabilities and the student's logits over each query's own group."""
    check_temperature(temperature)
    check_temperature(teacher_temperature)
    batch, group_size = teacher_scores.shape
    if queries.shape[0] != batch or documents.shape[0] != batch * group_size:
        raise ValueError(
            f"teacher_scores {teacher_scores.shape} need {batch} queries and {batch * group_size} "
            f"documents, got {queries.shape[0]} and {documents.shape[0]}"
        )
    groups = documents.reshape(batch, group_size, -1)
    logits = paired_dot(queries[:, None], groups) / jnp.reshape(temperature, (-1, 1))
    teacher = jnp.asarray(teacher_scores, jnp.float32) / teacher_temperature
    if pools is not None:
        real = pools.reshape(batch, group_size) >= 0
        logits, teacher = (jnp.where(real, x, -jnp.inf) for x in (logits, teacher))
    return jax.lax.stop_gradient(jax.nn.softmax(teacher, axis=-1)), logits


def _is_of_others(group_size, rows, columns):
    own = rows.positive[:, None] == (columns.index // group_size * group_size)[None, :]
    return masks.is_negative(rows, columns) & ~own


def _log_add(a, b):
    """logaddexp with zero gradient, not NaN, where both are -inf."""
    nothing = (a == -jnp.inf) & (b == -jnp.inf)
    safe = jnp.logaddexp(jnp.where(nothing, 0.0, a), jnp.where(nothing, 0.0, b))
    return jnp.where(nothing, -jnp.inf, safe)

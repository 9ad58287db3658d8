"""BGE-M3's distillation: each document of a group takes a turn as the positive."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Unpack

from contrastive.lazy import jax, jnp
from contrastive.losses._distill_kl import group_logits, is_scored
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives import masks
from contrastive.losses._negatives.contrast import Temperature, contrast
from contrastive.losses._negatives.masks import TextInfo
from contrastive.losses._negatives.pairs import Pairs
from contrastive.losses._partition import log_add
from contrastive.settings import PositiveFloat32

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["DistillM3", "distill_m3"]


class DistillM3(Loss):
    """InfoNCE with each document of the group in turn as the positive, weighted by a teacher."""

    teacher_temperature: PositiveFloat32 = 1.0
    """Temperature of the teacher's softmax: about 1 or more for a reranker's raw scores, much less
    for scores in [0, 1]."""
    skip_unscored: bool = False
    """Let rows be without scores; their loss is InfoNCE."""

    kind: ClassVar[str] = "distill_m3"
    needs_scores: ClassVar[bool] = True

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        scores = inputs.required("scores")
        if self.skip_unscored:
            # A teacher that is certain of the positive leaves InfoNCE.
            certain = jnp.where(jnp.arange(scores.shape[1]) == 0, 0.0, -jnp.inf)
            scores = jnp.where(is_scored(scores)[:, None], scores, certain)
        return distill_m3(
            inputs.queries,
            inputs.documents,
            scores,
            temperature=inputs.temperature,
            teacher_temperature=self.teacher_temperature,
            **inputs.pairs,
        )

    @property
    def accepts_unscored(self) -> bool:
        return self.skip_unscored

    def why_not_softmax(self) -> str:
        return "a teacher's scores weight the terms of InfoNCE (distill_m3)"


def distill_m3(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    teacher_scores: Float[Array, "B G"],
    *,
    temperature: Temperature,
    teacher_temperature: float = 1.0,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """InfoNCE with each document of the group in turn as the positive, weighted by the teacher.

    loss_i = sum_g t_ig softplus( log( Z_i + sum_{h>g} exp(s_ih / t) ) - s_ig / t )

    where Z_i is the partition over other queries' documents. The g-th term leaves out the group's
    documents before g.

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [B * G, D], query-major.
      teacher_scores: The teacher's scores of each query's own documents [B, G].
      temperature: Temperature t of the student; positive scalar, or one per query [B].
      teacher_temperature: Temperature of the teacher's softmax; it divides the teacher's scores.
      **pairs: As in `info_nce`; the group size is taken from the scores.

    Returns:
      One loss per query [B], float32.

    Raises:
      ValueError: If shapes do not match, no negatives are possible, or a temperature is not
        positive.

    Source:
      Chen et al., 2024, arXiv:2402.03216; FlagEmbedding's `m3_kd_loss`.
    """
    pairs["group_size"] = teacher_scores.shape[1]
    valid = pairs.get("valid")
    pools = pairs.get("document_pools") if valid is None else jnp.where(valid, 0, -1)
    teacher, own_logits = group_logits(
        queries, documents, teacher_scores, temperature, teacher_temperature, pools
    )
    batch = contrast(queries, documents, **pairs)
    # later[:, g] = log sum_{h>g} exp(s_ih / t)
    later = jax.lax.cumlogsumexp(own_logits, axis=1, reverse=True)[:, 1:]
    later = jnp.pad(later, ((0, 0), (0, 1)), constant_values=-jnp.inf)
    if batch.in_batch:
        others = batch.log_negatives(temperature, logit=_of_others)
        later = log_add(others[:, None], later)
    terms = jax.nn.softplus(later - jnp.where(teacher > 0, own_logits, 0.0))
    return jnp.sum(jnp.where(teacher > 0, teacher * terms, 0.0), axis=-1)


def _of_others(similarities, scale, rows: TextInfo, columns: TextInfo):
    own = masks.is_own(rows, columns)
    return jnp.where(own, -jnp.inf, similarities * scale)

"""Distillation from a teacher's softmax over each query's own documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from contrastive.lazy import jax, jnp
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.contrast import Temperature
from contrastive.losses._negatives.pairs import own_group
from contrastive.losses._partition import check_temperature
from contrastive.settings import PositiveFloat32

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

__all__ = ["DistillKL", "distill_kl"]


class DistillKL(Loss):
    """Distills a teacher's softmax over each query's own documents; added to another loss."""

    teacher_temperature: PositiveFloat32 = 1.0
    """Temperature of the teacher's softmax: about 1 or more for a reranker's raw scores, much less
    for scores in [0, 1]."""
    skip_unscored: bool = False
    """Let rows be without scores; their loss is 0."""

    kind: ClassVar[str] = "distill_kl"
    needs_scores: ClassVar[bool] = True
    uses_negatives: ClassVar[bool] = False
    own_documents_only: ClassVar[bool] = True

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        scores = inputs.required("scores")
        if self.skip_unscored:
            scored = is_scored(scores)
            scores = jnp.where(scored[:, None], scores, 0.0)
        losses = distill_kl(
            inputs.queries,
            inputs.documents,
            scores,
            temperature=inputs.temperature,
            teacher_temperature=self.teacher_temperature,
            document_pools=inputs.pairs.get("document_pools"),
        )
        return jnp.where(scored, losses, 0.0) if self.skip_unscored else losses

    @property
    def accepts_unscored(self) -> bool:
        return self.skip_unscored


def distill_kl(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    teacher_scores: Float[Array, "B G"],
    *,
    temperature: Temperature,
    teacher_temperature: float = 1.0,
    document_pools: Int[Array, " N"] | None = None,
) -> Float[Array, " B"]:
    """Cross-entropy between the teacher's and the student's softmax over each query's group.

    loss_i = -sum_g t_ig log softmax_g(s_ig / t), t_i = softmax(teacher_scores_i / T)

    It equals the Kullback-Leibler divergence plus the teacher's entropy, which has no gradient.

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [B * G, D], query-major.
      teacher_scores: The teacher's scores of each query's own documents [B, G], on any scale.
      temperature: Temperature t of the student; positive scalar, or one per query [B].
      teacher_temperature: Temperature T of the teacher: 1 or more suits the raw logits of a
        reranker, far less suits scores in [0, 1].
      document_pools: Pool of each document [N]; only -1, an empty slot of a group, matters here.

    Returns:
      One loss per query [B], float32.

    Raises:
      ValueError: If shapes do not match or a temperature is not positive.

    Source:
      Hinton et al., 2015, arXiv:1503.02531; FlagEmbedding's `kl_div`.
    """
    teacher, student = group_logits(
        queries, documents, teacher_scores, temperature, teacher_temperature, document_pools
    )
    log_p = jax.nn.log_softmax(student, axis=-1)
    return -jnp.sum(jnp.where(teacher > 0, teacher * log_p, 0.0), axis=-1)


def is_scored(teacher_scores: Float[Array, "B G"]) -> Bool[Array, " B"]:
    """Mask of the queries whose documents have scores; the scores of the others are NaN."""
    return jnp.isfinite(teacher_scores[:, 0])


def group_logits(queries, documents, teacher_scores, temperature, teacher_temperature, pools):
    """Returns the teacher's probabilities and the student's logits over each query's group."""
    check_temperature(temperature)
    check_temperature(teacher_temperature, "teacher_temperature")
    similarities, real = own_group(queries, documents, teacher_scores, pools)
    logits = similarities / jnp.reshape(temperature, (-1, 1))
    teacher = jnp.asarray(teacher_scores, jnp.float32) / teacher_temperature
    if pools is not None:
        logits, teacher = (jnp.where(real, x, -jnp.inf) for x in (logits, teacher))
    return jax.lax.stop_gradient(jax.nn.softmax(teacher, axis=-1)), logits

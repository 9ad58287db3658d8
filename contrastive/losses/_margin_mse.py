"""MarginMSE: regression to a teacher's margins."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from contrastive.lazy import jax, jnp
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.pairs import own_group

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

__all__ = ["MarginMSE", "margin_mse"]


class MarginMSE(Loss):
    """Fits differences of similarities to those of a teacher's scores; has no temperature."""

    has_temperature: ClassVar[bool] = False
    needs_scores: ClassVar[bool] = True
    uses_negatives: ClassVar[bool] = False
    own_documents_only: ClassVar[bool] = True
    smallest_group: ClassVar[int] = 2

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        pools = inputs.pairs.get("document_pools")
        return margin_mse(
            inputs.queries, inputs.documents, inputs.required("scores"), document_pools=pools
        )


def margin_mse(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    teacher_scores: Float[Array, "B G"],
    *,
    document_pools: Int[Array, " N"] | None = None,
) -> Float[Array, " B"]:
    """MarginMSE: squared error of similarity margins against a teacher's.

    loss_i = mean_{g>0} ((s_i0 - s_ig) - (T_i0 - T_ig))^2

    Args:
      queries: Embeddings [B, D], usually not normalized, since a teacher's margins may be large.
      documents: Embeddings [B * G, D], query-major, the positive first.
      teacher_scores: The teacher's scores T of each query's own documents [B, G], G at least 2.
      document_pools: Pool of each document [N]; only -1, an empty slot of a group, matters here.

    Returns:
      One loss per query [B], float32; 0 for a query without negatives of its own.

    Raises:
      ValueError: If shapes do not match or groups have fewer than 2 documents.

    Source:
      Hofstätter et al., 2020, arXiv:2010.02666.
    """
    similarities, real = own_group(queries, documents, teacher_scores, document_pools)
    if teacher_scores.shape[1] < 2:
        raise ValueError("margin_mse needs at least 2 documents per group; groups have 1")
    teacher = jnp.where(real, jnp.asarray(teacher_scores, jnp.float32), 0.0)
    errors = (similarities[:, :1] - similarities) - jax.lax.stop_gradient(teacher[:, :1] - teacher)
    squares = jnp.where(real, errors**2, 0.0)[:, 1:]
    return squares.sum(axis=1) / jnp.maximum(real[:, 1:].sum(axis=1), 1)

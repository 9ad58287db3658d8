"""Listwise ranking losses over each query's own documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from contrastive.lazy import jax, jnp, lax
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.contrast import Temperature
from contrastive.losses._negatives.pairs import own_group
from contrastive.losses._partition import check_temperature

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

__all__ = ["Listwise", "listwise"]


class Listwise(Loss):
    """Fits the similarities of each query's documents to their graded scores."""

    target: Literal["softmax", "share"] = "softmax"
    """Target distribution: softmax of the scores (ListNet), or share, each score divided by the
    group's total, for scores that are not negative."""

    needs_scores: ClassVar[bool] = True
    uses_negatives: ClassVar[bool] = False
    own_documents_only: ClassVar[bool] = True
    smallest_group: ClassVar[int] = 2

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        return listwise(
            inputs.queries,
            inputs.documents,
            inputs.required("scores"),
            temperature=inputs.temperature,
            target=self.target,
            document_pools=inputs.pairs.get("document_pools"),
        )

    @property
    def scores_are_shares(self) -> bool:
        return self.target == "share"


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
      relevance: Relevance of each query's own documents [B, G]; not negative with "share".
      temperature: Positive scalar, or one per query [B].
      target: How relevance becomes the target y: "softmax" (ListNet), or "share", its share of the
        group's total (the softmax loss of learning to rank).
      document_pools: Pool of each document [N]; only -1, an empty slot of a group, matters here.

    Returns:
      One loss per query [B], float32; 0 for a query whose target is all zero.

    Raises:
      ValueError: If shapes do not match, a temperature is not positive, or the target is unknown.

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

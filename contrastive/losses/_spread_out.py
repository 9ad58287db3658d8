"""Global orthogonal regularizer: spreads unrelated texts out like random directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Unpack

from pydantic import NonNegativeFloat

from contrastive.lazy import jax, jnp, lax
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.contrast import Contrast, contrast
from contrastive.losses._negatives.masks import Direction
from contrastive.losses._negatives.pairs import Pairs
from contrastive.losses._terms import batch_mean

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["SpreadOut", "spread_out"]


class SpreadOut(Loss):
    """Global orthogonal regularizer, which spreads texts out evenly; added to another loss."""

    mean: NonNegativeFloat = 1.0
    """Weight of the squared mean similarity of unrelated texts."""
    second_moment: NonNegativeFloat = 1.0
    """Weight of the excess of the mean squared similarity over 1 / D."""

    has_temperature: ClassVar[bool] = False

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        return spread_out(
            inputs.queries,
            inputs.documents,
            mean_weight=self.mean,
            second_moment_weight=self.second_moment,
            **inputs.pairs,
        )

    @property
    def compares_queries(self) -> bool:
        return True


def spread_out(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    mean_weight: float = 1.0,
    second_moment_weight: float = 1.0,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """Global orthogonal regularizer: spreads unrelated texts out like random directions.

    loss = w1 M1^2 + w2 max(0, M2 - 1/D), M1, M2 the means of s and s^2 over unrelated pairs

    The loss is averaged over pairs of queries and pairs of documents. With hard negatives it is not
    that of sentence-transformers' GlobalOrthogonalRegularizationLoss, which compares positives with
    positives and n-th negatives with n-th negatives: here each positive is compared with all
    documents of other queries.

    Args:
      queries: Unit vectors [B, D].
      documents: Unit vectors, as in `info_nce`; each positive is compared with all documents of
        other queries.
      mean_weight: Weight w1 of the squared mean similarity.
      second_moment_weight: Weight w2 of the excess of the mean squared similarity.
      **pairs: As in `info_nce`; known false negatives do not count as unrelated.

    Returns:
      The loss of the whole batch, repeated for each query [B], so that its mean is the loss.

    Raises:
      ValueError: As in `info_nce`.

    Source:
      Zhang et al., 2017, arXiv:1708.06320; Schechter Vera et al., 2025, arXiv:2509.20354.
    """
    batch = contrast(queries, documents, **pairs)
    total = jnp.float32(0)
    for direction in ("query_to_query", "document_to_document"):
        first, second = (
            _mean_of_pairs(batch, direction, value, pairs) for value in (_similarity, _square)
        )
        excess = jax.nn.relu(second - 1.0 / queries.shape[1])
        total += (mean_weight * first**2 + second_moment_weight * excess) / 2
    return jnp.broadcast_to(total, queries.shape[:1])


def _mean_of_pairs(batch: Contrast, direction: Direction, value, pairs):
    axis_name = pairs.get("axis_name")
    total = batch_mean(batch.sum_negatives(value, direction=direction), axis_name)
    count = batch_mean(batch.count_negatives(direction), axis_name)
    return total / lax.stop_gradient(jnp.maximum(count, 1e-9))


def _similarity(similarities, scale, rows, columns):
    del scale, rows, columns
    return similarities


def _square(similarities, scale, rows, columns):
    del scale, rows, columns
    return similarities**2

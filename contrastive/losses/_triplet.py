"""Triplet loss: positives must score above negatives by a margin."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Unpack

from pydantic import PositiveFloat

from contrastive.lazy import jax, jnp
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.contrast import contrast
from contrastive.losses._negatives.masks import TextInfo
from contrastive.losses._negatives.pairs import Pairs

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["Triplet", "triplet"]


class Triplet(Loss):
    """Ranks the positive above each negative by a margin; has no temperature."""

    margin: PositiveFloat = 0.2
    """Margin by which the positive's similarity must exceed each negative's."""

    has_temperature: ClassVar[bool] = False

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        return triplet(inputs.queries, inputs.documents, margin=self.margin, **inputs.pairs)


def triplet(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    margin: float = 0.2,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """Triplet loss on similarities, averaged over each query's negatives.

    loss_i = mean_j- max(0, s_ij - s_i+ + margin)

    Args:
      queries: Embeddings [B, D]; normalize them for cosines.
      documents: As in `info_nce`.
      margin: Margin by which the positive's similarity must exceed each negative's.
      **pairs: As in `info_nce`.

    Returns:
      One loss per query [B], float32; 0 for a query without negatives.

    Raises:
      ValueError: As in `info_nce`.

    Source:
      Schroff et al., 2015, arXiv:1503.03832.
    """
    batch = contrast(queries, documents, **pairs)
    total = batch.sum_negatives(_hinge, given={"least": batch.positive - margin})
    return total / jnp.maximum(batch.count_negatives(), 1.0)


def _hinge(similarities, scale, rows: TextInfo, columns):
    del scale, columns
    return jax.nn.relu(similarities - rows.given["least"][:, None])

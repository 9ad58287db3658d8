"""InfoNCE against only the hardest negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from pydantic import PositiveInt

from contrastive.lazy import jax, jnp
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.contrast import Temperature, contrast
from contrastive.losses._negatives.masks import TextInfo
from contrastive.losses._negatives.pairs import Pairs
from contrastive.losses._partition import check_temperature

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["Hardest", "hardest"]


class Hardest(Loss):
    """InfoNCE against only the most similar negatives."""

    top: PositiveInt = 64
    """Number of hardest negatives to keep per query."""

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        return hardest(
            inputs.queries,
            inputs.documents,
            temperature=inputs.temperature,
            top=self.top,
            **inputs.pairs,
        )


def hardest(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    top: int,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """HardContrastive: InfoNCE against only the `top` most similar negatives.

    Negatives that tie with the last of them, within a relative 1e-6, also count.

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: As in `info_nce`.
      top: Number of negatives to keep per query, at least 1.
      **pairs: As in `info_nce`.

    Returns:
      One loss per query [B], float32; 0 for a query without negatives.

    Raises:
      ValueError: As in `info_nce`, or if `top` is below 1.

    Source:
      Wang & Liu, 2021, arXiv:2012.09740.
    """
    if top < 1:
        raise ValueError(f"top is {top}; keep at least 1 negative")
    check_temperature(temperature)
    batch = contrast(queries, documents, **pairs)
    least = batch.largest_negatives(top)[:, -1]
    least = least - 1e-6 * jnp.abs(least)
    negatives = batch.log_negatives(temperature, logit=_at_least, given={"least": least})
    return jax.nn.softplus(negatives - batch.positive / temperature)


def _at_least(similarities, scale, rows: TextInfo, columns):
    del columns
    return jnp.where(similarities < rows.given["least"][:, None], -jnp.inf, similarities * scale)

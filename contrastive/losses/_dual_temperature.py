"""InfoNCE with separate temperatures for weighting negatives and for weighting queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from pydantic import PositiveFloat

from contrastive.lazy import jax, jnp, lax
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.contrast import Temperature, contrast
from contrastive.losses._negatives.pairs import Pairs
from contrastive.losses._partition import check_temperature
from contrastive.losses._terms import unfading

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["DualTemperature", "dual_temperature"]


class DualTemperature(Loss):
    """InfoNCE at one temperature, with each query weighted as it would be at another."""

    ratio: PositiveFloat = 10.0
    """Ratio of the temperature that weights queries to the loss's temperature."""

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        return dual_temperature(
            inputs.queries,
            inputs.documents,
            temperature=inputs.temperature,
            ratio=self.ratio,
            **inputs.pairs,
        )

    def why_not_softmax(self) -> str:
        return ""


def dual_temperature(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    ratio: float = 10.0,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """InfoNCE at one temperature, with each query weighted as it would be at another.

    loss_i = sg( (1 - p_i(ratio t)) / (1 - p_i(t)) ) (-log p_i(t)), p_i the positive's probability

    The low temperature sets the weights of a query's negatives, the high one those of queries.

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: Temperature t, as in `info_nce`.
      ratio: Ratio of the weighting temperature to `temperature`.
      **pairs: As in `info_nce`.

    Returns:
      One loss per query [B], float32; 0 for a query without negatives.

    Raises:
      ValueError: As in `info_nce`, or if ratio is not positive.

    Source:
      Zhang et al., 2022, arXiv:2203.17248.
    """
    check_temperature(temperature)
    check_temperature(ratio, "ratio")
    batch = contrast(queries, documents, **pairs)
    other = jnp.asarray(temperature) * ratio
    odds = batch.log_negatives(temperature) - batch.positive / temperature
    other_odds = batch.log_negatives(other) - batch.positive / other
    return jax.nn.sigmoid(lax.stop_gradient(other_odds)) * unfading(odds)

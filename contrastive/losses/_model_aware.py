"""MACL: a temperature that follows the alignment of positives."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Unpack

from contrastive.lazy import jax, lax
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.contrast import contrast
from contrastive.losses._negatives.pairs import Pairs
from contrastive.losses._partition import check_temperature
from contrastive.losses._terms import batch_mean, unfading

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["ModelAware", "model_aware"]


class ModelAware(Loss):
    """MACL: raises the temperature as positives align."""

    alpha: float = 0.5
    """How strongly the temperature follows the mean similarity of positives."""
    alignment: float = 0.0
    """Mean similarity of positives at which the temperature equals the configured one."""

    has_query_temperatures: ClassVar[bool] = False

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        return model_aware(
            inputs.queries,
            inputs.documents,
            temperature=inputs.temperature,
            alpha=self.alpha,
            alignment=self.alignment,
            **inputs.pairs,
        )


def model_aware(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: float | Float[Array, ""],
    alpha: float = 0.5,
    alignment: float = 0.0,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """MACL: raises the temperature as positives align, and keeps the gradient from fading.

    t' = t (1 + alpha (mean_i s_i+ - alignment)), loss_i = sg(1 / (1 - p_i)) (-log p_i) at t'

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: Positive scalar t.
      alpha: How strongly t' follows the mean similarity of positives, taken over the whole batch
        and without gradient.
      alignment: Mean similarity of positives at which t' = t.
      **pairs: As in `info_nce`.

    Returns:
      One loss per query [B], float32; 0 for a query without negatives.

    Raises:
      ValueError: As in `info_nce`, or if alpha could make the temperature negative.

    Source:
      Huang et al., 2023, arXiv:2207.07874.
    """
    check_temperature(temperature)
    batch = contrast(queries, documents, **pairs)
    aligned = batch_mean(lax.stop_gradient(batch.positive), pairs.get("axis_name"))
    _check_factor(alpha, alignment)
    temperature = temperature * (1.0 + alpha * (aligned - alignment))
    return unfading(batch.log_negatives(temperature) - batch.positive / temperature)


def _check_factor(alpha, alignment) -> None:
    """Rejects settings that could make the temperature zero or negative for unit vectors."""
    if any(isinstance(x, jax.core.Tracer) for x in (alpha, alignment)):
        return
    least = min(1.0 + alpha * (cosine - alignment) for cosine in (-1.0, 1.0))
    if least <= 0:
        raise ValueError(
            f"alpha {alpha:g} with alignment {alignment:g} can multiply the temperature by "
            f"{least:g}; it must stay positive for cosines from -1 to 1: lower alpha"
        )

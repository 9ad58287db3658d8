"""InfoNCE without a temperature, using the inverse hyperbolic tangent."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Unpack

from contrastive.lazy import jax, jnp
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.contrast import Temperature, contrast
from contrastive.losses._negatives.pairs import Pairs
from contrastive.losses._partition import check_temperature

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["Artanh", "artanh"]


class Artanh(Loss):
    """InfoNCE on artanh(s), which needs no temperature."""

    has_temperature: ClassVar[bool] = False

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        return artanh(inputs.queries, inputs.documents, **inputs.pairs)


def artanh(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature = 1.0,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """InfoNCE on artanh(s), which maps cosines onto the real line and needs no temperature.

    loss_i = softplus( log sum_j- exp(artanh(s_ij) / t) - artanh(s_i+) / t )

    Args:
      queries: Unit vectors [B, D].
      documents: Unit vectors, as in `info_nce`.
      temperature: Positive scalar, or one per query [B]. 1 gives plain artanh, 0.5 the log-odds of
        (1 + s) / 2.
      **pairs: As in `info_nce`.

    Returns:
      One loss per query [B], float32; 0 for a query without negatives.

    Raises:
      ValueError: As in `info_nce`.

    Source:
      Kim & Kim, 2025, arXiv:2501.17683.
    """
    check_temperature(temperature)
    batch = contrast(queries, documents, **pairs)
    negatives = batch.log_negatives(temperature, logit=_artanh_logit)
    return jax.nn.softplus(negatives - _artanh(batch.positive) / temperature)


def _artanh_logit(similarities, scale, rows, columns):
    del rows, columns
    return _artanh(similarities) * scale


def _artanh(similarities):
    """Clipped artanh: finite in value and slope where float32 rounds a cosine to 1 or -1."""
    return jnp.arctanh(jnp.clip(similarities, -1 + 1e-6, 1 - 1e-6))

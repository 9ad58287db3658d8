"""DCL: InfoNCE without the positive in the softmax's denominator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from pydantic import PositiveFloat

from contrastive.lazy import jnp, lax
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.contrast import Temperature, contrast
from contrastive.losses._negatives.pairs import Pairs
from contrastive.losses._partition import check_temperature
from contrastive.losses._terms import batch_mean, excess

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["Decoupled", "decoupled", "decoupled_weighted"]


class Decoupled(Loss):
    """DCL: InfoNCE without the positive in the softmax's denominator."""

    sigma: PositiveFloat | None = None
    """Bandwidth of DCLW's weights of positives (0.5 in the paper); None means plain DCL."""

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        texts, options = (inputs.queries, inputs.documents), {"temperature": inputs.temperature}
        if self.sigma is None:
            return decoupled(*texts, **options, **inputs.pairs)
        return decoupled_weighted(*texts, sigma=self.sigma, **options, **inputs.pairs)

    def why_not_softmax(self) -> str:
        return ""


def decoupled(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """DCL: InfoNCE without the positive in the softmax's denominator.

    loss_i = log sum_j- exp(s_ij / t) - s_i+ / t

    The gradient does not fade as the positive's probability grows, which helps small batches most.
    The loss has no lower bound.

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: As in `info_nce`.
      **pairs: As in `info_nce`.

    Returns:
      One loss per query [B], float32; 0 for a query without negatives.

    Raises:
      ValueError: As in `info_nce`.

    Source:
      Yeh et al., 2021, arXiv:2110.06848.
    """
    batch = contrast(queries, documents, **pairs)
    return excess(batch.log_negatives(temperature), batch.positive / temperature)


def decoupled_weighted(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    sigma: float = 0.5,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """DCLW: DCL with larger weights for positives of low similarity.

    loss_i = log sum_j- exp(s_ij / t) - w_i s_i+ / t
    w_i = 2 - exp(s_i+ / sigma) / mean_k exp(s_k+ / sigma)

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: As in `info_nce`.
      sigma: Bandwidth of the weights, positive. Their mean is taken over the whole batch.
      **pairs: As in `info_nce`.

    Returns:
      One loss per query [B], float32; 0 for a query without negatives.

    Raises:
      ValueError: As in `info_nce`, or if sigma is not positive.

    Source:
      Yeh et al., 2021, arXiv:2110.06848.
    """
    check_temperature(sigma, "sigma")
    batch = contrast(queries, documents, **pairs)
    axis_name = pairs.get("axis_name")
    top = lax.stop_gradient(batch.positive.max())
    top = top if axis_name is None else lax.pmax(top, axis_name)
    share = jnp.exp((batch.positive - top) / sigma)
    weight = 2.0 - share / batch_mean(share, axis_name)
    return excess(batch.log_negatives(temperature), weight * batch.positive / temperature)

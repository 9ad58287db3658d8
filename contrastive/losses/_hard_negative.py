"""Losses that correct for false negatives and emphasize hard ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Unpack

from pydantic import Field, NonNegativeFloat

from contrastive.lazy import jax, jnp
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.contrast import Temperature, contrast
from contrastive.losses._negatives.masks import TextInfo
from contrastive.losses._negatives.pairs import Pairs
from contrastive.losses._partition import check_temperature

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["HardNegative", "debiased", "hard_negative"]


class HardNegative(Loss):
    """HCL: gives hard negatives more weight and subtracts the expected false negatives."""

    beta: NonNegativeFloat = 1.0
    """Concentration on hard negatives; 0 gives the debiased loss."""
    tau_plus: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Expected fraction of negatives that are false."""

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        return hard_negative(
            inputs.queries,
            inputs.documents,
            temperature=inputs.temperature,
            beta=self.beta,
            tau_plus=self.tau_plus,
            **inputs.pairs,
        )


def hard_negative(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    beta: float = 1.0,
    tau_plus: float = 0.1,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """HCL: gives hard negatives more weight and subtracts the expected false negatives.

    loss_i = -log( e^(s_i+/t) / (e^(s_i+/t) + R_i) )
    R_i = max( N (W_i - tau e^(s_i+/t)) / (1 - tau), N e^(-1/t) )
    W_i = sum_j- e^((1+b) s_ij/t) / sum_j- e^(b s_ij/t)

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: As in `info_nce`.
      beta: Concentration b on hard negatives; 0 gives the debiased loss.
      tau_plus: Expected fraction tau of a query's negatives that are false, in [0, 1).
      **pairs: As in `info_nce`.

    Returns:
      One loss per query [B], float32; 0 for a query without negatives.

    Raises:
      ValueError: As in `info_nce`, or if tau_plus is not in [0, 1).

    Source:
      Robinson et al., 2021, arXiv:2010.04592.
    """
    if not isinstance(tau_plus, jax.core.Tracer) and not 0 <= tau_plus < 1:
        raise ValueError(
            f"tau_plus is {tau_plus}; it is a fraction of the negatives and must be in [0, 1)"
        )
    batch = contrast(queries, documents, **pairs)
    check_temperature(temperature)

    def partition(power):
        return batch.log_negatives(temperature, logit=_to_the_power, given={"power": power})

    count = batch.count_negatives()
    some = count > 0
    log_count = jnp.log(jnp.where(some, count, 1.0))
    # Everything is in units of e^(s+/t), so that only differences are exponentiated.
    positive_logit = batch.positive / temperature
    weighted = jnp.where(some, partition(1.0 + beta), positive_logit)
    weights = jnp.where(some, partition(beta), 0.0)
    ratio = weighted - weights + log_count - positive_logit
    floor = log_count - 1.0 / jnp.asarray(temperature) - positive_logit
    # log((e^ratio - tau N) / (1 - tau)) where it exceeds the floor or is NaN.
    taken = jnp.exp(log_count - jnp.maximum(ratio, -50.0)) * tau_plus
    left = jnp.log1p(-jnp.where(taken < 1, taken, 0.0)) + ratio - jnp.log1p(-tau_plus)
    negatives = jnp.where((taken >= 1) | (left <= floor), floor, left)
    return jnp.where(some, jax.nn.softplus(negatives), 0.0)


def debiased(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    tau_plus: float = 0.1,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """Debiased InfoNCE: subtracts the expected false negatives from the denominator.

    The same as `hard_negative` with beta = 0.

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: As in `info_nce`.
      tau_plus: Expected fraction of a query's negatives that are false, in [0, 1).
      **pairs: As in `info_nce`.

    Returns:
      One loss per query [B], float32; 0 for a query without negatives.

    Raises:
      ValueError: As in `info_nce`, or if tau_plus is not in [0, 1).

    Source:
      Chuang et al., 2020, arXiv:2007.00224.
    """
    options = {"temperature": temperature, "tau_plus": tau_plus}
    return hard_negative(queries, documents, beta=0.0, **options, **pairs)


def _to_the_power(similarities, scale, rows: TextInfo, columns):
    del columns
    return similarities * scale * rows.given["power"][:, None]

"""Negatives that may be false, and hard ones that matter more."""

from __future__ import annotations

from typing import Unpack

import jax.core
import jax.numpy as jnp
from jaxtyping import Array, Float

from contrastive.losses.contrast import Temperature, contrast
from contrastive.losses.directions import About
from contrastive.losses.pairs import Pairs
from contrastive.losses.partition import check_temperature


def hard_negative(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    beta: float = 1.0,
    tau_plus: float = 0.1,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """HCL: hard negatives weighted up, and what false negatives add on average taken off.

    loss_i = -log( e^(s_i+/t) / (e^(s_i+/t) + R_i) )
    R_i = max( N (W_i - tau e^(s_i+/t)) / (1 - tau), N e^(-1/t) )
    W_i = sum_j- e^((1+b) s_ij/t) / sum_j- e^(b s_ij/t)

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: As in `info_nce`.
      beta: b, how much harder negatives are preferred; 0 is the debiased loss.
      tau_plus: tau, the share of a query's negatives that are false ones, in [0, 1).
      **pairs: As in `info_nce`.

    Returns:
      One loss a query [B], float32; 0 where there is no negative.

    Source:
      Robinson et al., 2021, arXiv:2010.04592.
    """
    if not isinstance(tau_plus, jax.core.Tracer) and not 0 <= tau_plus < 1:
        raise ValueError(
            f"tau_plus is {tau_plus}; it is a share of the negatives, 0 to less than 1"
        )
    seen = contrast(queries, documents, **pairs)
    check_temperature(temperature)

    def partition(power):
        return seen.log_negatives(temperature, logit=_to_the_power, given={"power": power})

    count = seen.count_negatives()
    some = count > 0
    log_count = jnp.log(jnp.where(some, count, 1.0))
    # Everything in units of e^(s+/t), so that only differences are exponentiated.
    own = seen.positive / temperature
    weighted = jnp.where(some, partition(1.0 + beta), own)
    weights = jnp.where(some, partition(beta), 0.0)
    ratio = weighted - weights + log_count - own
    floor = log_count - 1.0 / jnp.asarray(temperature) - own
    # log((e^ratio - tau N) / (1 - tau)), where that is more than the floor, or NaN.
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
    """Debiased InfoNCE: what false negatives add on average is taken off the denominator.

    As `hard_negative` with beta = 0.

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: As in `info_nce`.
      tau_plus: The share of a query's negatives that are false ones, in [0, 1).
      **pairs: As in `info_nce`.

    Returns:
      One loss a query [B], float32; 0 where there is no negative.

    Source:
      Chuang et al., 2020, arXiv:2007.00224.
    """
    how = {"temperature": temperature, "tau_plus": tau_plus}
    return hard_negative(queries, documents, beta=0.0, **how, **pairs)


def _to_the_power(similarities, scale, rows: About, columns):
    del columns
    return similarities * scale * rows.given["power"][:, None]

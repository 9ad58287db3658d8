"""Losses that remember each query: an average of its partition, a temperature of its own."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import jax.core
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from contrastive.losses.contrast import contrast
from contrastive.losses.pairs import Pairs
from contrastive.losses.partition import check_temperature


class Remembered(NamedTuple):
    """Losses, and what is to be remembered of their queries.

    Attributes:
      losses: One a query [B].
      log_average: log u of each query [B], after this batch.
    """

    losses: Float[Array, " B"]
    log_average: Float[Array, " B"]


def sogclr(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    log_average: Float[Array, " B"],
    *,
    temperature: float | Float[Array, " B"],
    gamma: float = 0.8,
    rho: float = 0.0,
    **pairs: Unpack[Pairs],
) -> Remembered:
    """SogCLR, and with a temperature per query and rho > 0 iSogCLR: the loss of all the data.

    g_i = mean_j- exp((s_ij - s_i+) / t_i), u_i <- (1 - gamma) u_i + gamma g_i
    loss_i = t_i (log u_i + rho), with the gradient (t_i / u_i) dg_i, as if u_i were not an average

    A small batch's partition is a noisy estimate of that over all the data; the average over the
    batches a query was in is a better one. In iSogCLR the gradient in t_i raises the temperature of
    queries with many similar negatives, and rho sets the balance.

    Args:
      queries: Embeddings [B, D]; normalise them for cosines.
      documents: As in `info_nce`.
      log_average: log u_i of these very queries [B]; -inf for one never seen, which takes g_i.
      temperature: Positive scalar, or one a query [B], perhaps learned.
      gamma: Weight of this batch, in (0, 1].
      rho: Of the robust loss's constraint; 0 with a fixed temperature.
      **pairs: As in `info_nce`.

    Returns:
      Losses and new averages; 0, and the old average, where there is no negative.

    Raises:
      ValueError: As `info_nce`, or for a gamma outside (0, 1].

    Source:
      Yuan et al., 2022, arXiv:2202.12387; Qiu et al., 2023, arXiv:2305.11965.
    """
    check_temperature(temperature)
    if not isinstance(gamma, jax.core.Tracer) and not 0 < gamma <= 1:
        raise ValueError(f"gamma is {gamma}; it is the weight of the new value, in (0, 1]")
    seen = contrast(queries, documents, **pairs)
    temperature = jnp.broadcast_to(jnp.asarray(temperature, jnp.float32), queries.shape[:1])
    count = seen.count_negatives()
    some = count > 0
    log_sum = jnp.where(some, seen.log_negatives(temperature), 0.0)
    log_g = log_sum - jnp.log(jnp.maximum(count, 1.0)) - seen.positive / temperature
    log_u = lax.stop_gradient(_average(log_average, log_g, gamma))
    # Zero in value: it carries the gradient through g at the scale of u.
    share = lax.stop_gradient(temperature * jnp.exp(log_g - log_u))
    losses = temperature * (log_u + rho) + share * (log_g - lax.stop_gradient(log_g))
    return Remembered(jnp.where(some, losses, 0.0), jnp.where(some, log_u, log_average))


def _average(log_old, log_new, gamma):
    """log of the moving average, whose first value is the new one."""
    old = jnp.where(log_old == -jnp.inf, log_new, log_old)
    # log 0 where gamma is 1: the old value then has no part.
    return jnp.logaddexp(jnp.log1p(-gamma) + old, jnp.log(gamma) + log_new)

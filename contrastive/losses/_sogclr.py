"""SogCLR: estimates the loss over all training data from a running average per query."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Unpack

from pydantic import Field, NonNegativeFloat

from contrastive.lazy import jax, jnp, lax
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.contrast import contrast
from contrastive.losses._negatives.pairs import Pairs
from contrastive.losses._partition import check_temperature

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["SogCLR", "sogclr"]


class SogCLR(Loss):
    """Estimates the loss over all data by averaging each query's partition over its batches."""

    kind: ClassVar[str] = "sogclr"

    gamma: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Weight of the newest batch in each query's running average."""
    rho: NonNegativeFloat = 0.0
    """Target KL divergence, in nats, of the softmax over negatives from uniform: a larger value
    gives lower temperatures. It matters only if the temperature is learned or individual."""

    has_individual_temperatures: ClassVar[bool] = True
    memory: ClassVar[dict[str, float]] = {"log_average": -math.inf}

    def __call__(self, inputs: LossInputs) -> tuple[Float[Array, " B"], dict[str, Any]]:
        start = jnp.full(len(inputs.queries), self.memory["log_average"])
        losses, log_average = sogclr(
            inputs.queries,
            inputs.documents,
            inputs.memory.get("log_average", start),
            temperature=inputs.temperature,
            gamma=self.gamma,
            rho=self.rho,
            **inputs.pairs,
        )
        return losses, {"log_average": log_average}

    def why_not_softmax(self) -> str:
        return ""


class SogCLRResult(NamedTuple):
    """Losses, and the running averages to store for their queries.

    Attributes:
      losses: One loss per query [B].
      log_average: Log of each query's running average u after this batch [B].
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
) -> SogCLRResult:
    """SogCLR: estimates the loss over all data; with per-query temperatures and rho > 0, iSogCLR.

    g_i = mean_j- exp((s_ij - s_i+) / t_i), u_i <- (1 - gamma) u_i + gamma g_i
    loss_i = t_i (log u_i + rho), with gradient (t_i / u_i) dg_i, as if u_i were not an average

    The partition of a small batch is a noisy estimate of the one over all data; averaging it over
    the batches in which a query occurs improves it. In iSogCLR, the gradient in t_i raises the
    temperature of queries with many similar negatives, and rho sets the balance.

    Args:
      queries: Embeddings [B, D]; normalize them for cosines.
      documents: As in `info_nce`.
      log_average: Stored log u_i of these queries [B]; -inf for a query that was never visited,
        whose average starts at g_i.
      temperature: Positive scalar, or one per query [B], possibly learned.
      gamma: Weight of this batch in the average, in (0, 1].
      rho: Constraint of the robust loss, in nats; use 0 with a fixed temperature.
      **pairs: As in `info_nce`.

    Returns:
      Losses and new averages; a query without negatives has loss 0 and keeps its old average.

    Raises:
      ValueError: As in `info_nce`, or if `gamma` is outside (0, 1].

    Source:
      Yuan et al., 2022, arXiv:2202.12387; Qiu et al., 2023, arXiv:2305.11965.
    """
    check_temperature(temperature)
    if not isinstance(gamma, jax.core.Tracer) and not 0 < gamma <= 1:
        raise ValueError(
            f"gamma is {gamma}; it is the weight of the new value and must be in (0, 1]"
        )
    batch = contrast(queries, documents, **pairs)
    temperature = jnp.broadcast_to(jnp.asarray(temperature, jnp.float32), queries.shape[:1])
    count = batch.count_negatives()
    some = count > 0
    log_sum = jnp.where(some, batch.log_negatives(temperature), 0.0)
    log_g = log_sum - jnp.log(jnp.maximum(count, 1.0)) - batch.positive / temperature
    log_u = lax.stop_gradient(_average(log_average, log_g, gamma))
    # This term is zero in value; it carries the gradient through g at the scale of u.
    share = lax.stop_gradient(temperature * jnp.exp(log_g - log_u))
    losses = temperature * (log_u + rho) + share * (log_g - lax.stop_gradient(log_g))
    return SogCLRResult(jnp.where(some, losses, 0.0), jnp.where(some, log_u, log_average))


def _average(log_old, log_new, gamma):
    """Log of the moving average; an unvisited query takes the new value."""
    old = jnp.where(log_old == -jnp.inf, log_new, log_old)
    # With gamma = 1 this adds log 0: the old value does not count.
    return jnp.logaddexp(jnp.log1p(-gamma) + old, jnp.log(gamma) + log_new)

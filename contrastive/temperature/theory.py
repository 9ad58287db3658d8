"""What a temperature does to one softmax, in closed form, on similarities that are all held.

`diagnostics` measures the same of a batch, a tile at a time.
"""

from __future__ import annotations

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Temperature: TypeAlias = float | Float[Array, "..."]


def penalty(similarities: Float[Array, "... N"], temperature: Temperature) -> Float[Array, "... N"]:
    """Penalty distribution: each negative's share of the gradient that all of them get.

    r_j = exp(s_j / t) / sum_k exp(s_k / t)

    >>> import jax.numpy as jnp
    >>> penalty(jnp.array([0.5, 0.0]), 0.5)  # e / (e + 1)
    Array([0.7310586 , 0.26894143], dtype=float32)

    Args:
      similarities: s of a query's N negatives [..., N], as a rule cosines; -inf leaves one out.
      temperature: t, positive: one number, or any shape that broadcasts with [...].

    Returns:
      Shares [..., N] that sum to 1, float32.

    Source:
      Wang & Liu, 2021, arXiv:2012.09740.
    """
    return jax.nn.softmax(_logits(similarities, temperature), axis=-1)


def gradient(
    positive: Float[Array, "..."], negatives: Float[Array, "... N"], temperature: Temperature
) -> tuple[Float[Array, "..."], Float[Array, "... N"]]:
    """Gradient of a query's InfoNCE loss L in its similarities.

    dL/ds_+ = -(1 - P_+) / t, dL/ds_j = P_j / t = (1 - P_+) r_j / t

    with P the softmax over the positive and the negatives, r that over the negatives alone.

    Args:
      positive: s_+, the positive's similarity [...].
      negatives: s of its N negatives [..., N].
      temperature: As in `penalty`.

    Returns:
      dL/ds_+ [...] and dL/ds_j [..., N], a loss per similarity, float32; they sum to 0.

    Source:
      Wang & Liu, 2021, arXiv:2012.09740.
    """
    positive, temperature = (jnp.asarray(x, jnp.float32) for x in (positive, temperature))
    log_partition = jax.nn.logsumexp(_logits(negatives, temperature), axis=-1)
    # 1 - P_+ by the odds, which keeps its digits where P_+ is nearly 1.
    pull = jax.nn.sigmoid(log_partition - positive / temperature) / temperature
    return -pull, pull[..., None] * penalty(negatives, temperature)


def entropy(similarities: Float[Array, "... N"], temperature: Temperature) -> Float[Array, "..."]:
    """Entropy of the penalty distribution; exp(H) negatives share the gradient.

    H = -sum_j r_j log r_j, from 0 (the hardest negative alone) to log N (all alike)

    Args:
      similarities: As in `penalty`.
      temperature: As in `penalty`.

    Returns:
      Nats [...], float32.

    Source:
      Wang & Liu, 2021, arXiv:2012.09740.
    """
    log_r = jax.nn.log_softmax(_logits(similarities, temperature), axis=-1)
    return -jnp.sum(jnp.exp(log_r) * _without_infinities(log_r), axis=-1)


def entropy_slope(
    similarities: Float[Array, "... N"], temperature: Temperature
) -> Float[Array, "..."]:
    """Slope of the penalty distribution's entropy in the temperature, never negative.

    dH/dt = Var_r(s) / t^3

    Args:
      similarities: As in `penalty`.
      temperature: As in `penalty`.

    Returns:
      Nats per unit of temperature [...], float32.

    Source:
      Wang & Liu, 2021, arXiv:2012.09740 (that entropy grows with temperature).
    """
    r = penalty(similarities, temperature)
    similarities = _without_infinities(jnp.asarray(similarities, jnp.float32))
    mean = jnp.sum(r * similarities, axis=-1, keepdims=True)
    variance = jnp.sum(r * (similarities - mean) ** 2, axis=-1)
    return variance / jnp.asarray(temperature, jnp.float32) ** 3


def partition_bias(
    similarities: Float[Array, "... N"], temperature: Temperature, count: int
) -> Float[Array, "..."]:
    """Bias of a batch's log-partition, which samples the negatives, to second order; negative.

    E[ log mean_K e^(s/t) ] - log E[e^(s/t)] = -Var(e^(s/t)) / (2 K E[e^(s/t)]^2) + O(1 / K^2)

    It holds while it is well under 0.1 in size: at 0.05 the next terms are a third of it. Beyond,
    where a few rare negatives hold most of the partition, it is no number to trust: too large where
    `similarities` are all that there are, and far too small where they have missed the rare ones,
    as a batch has.

    Small temperatures need many negatives: the bias grows with the variance of e^(s/t).

    Args:
      similarities: As in `penalty`, of a sample that stands for all possible negatives.
      temperature: As in `penalty`.
      count: K, how many negatives are drawn of them, independently.

    Returns:
      Nats [...], float32, not above 0.

    Source:
      The delta method; that small batches bias the loss: Yuan et al., 2022, arXiv:2202.12387.
    """
    r, some = penalty(similarities, temperature), jnp.asarray(similarities) != -jnp.inf
    # Shares are e^(s/t) but for a factor, which cancels, and do not overflow.
    spread = jnp.var(r, axis=-1, where=some)
    return -spread / (2 * count * jnp.mean(r, axis=-1, where=some) ** 2)


def _logits(similarities, temperature):
    temperature = jnp.asarray(temperature, jnp.float32)[..., None]
    similarities = jnp.asarray(similarities, jnp.float32)
    # Divided, an infinity would give the temperature a slope that is NaN.
    finite = _without_infinities(similarities) / temperature
    return jnp.where(similarities == -jnp.inf, -jnp.inf, finite)


def _without_infinities(x):
    """0 for -inf, whose share is 0."""
    return jnp.where(x == -jnp.inf, 0.0, x)

"""Effects of a temperature on one softmax, in closed form, from an array of similarities.

`diagnose` measures the same quantities for a batch, tile by tile.
"""

from __future__ import annotations

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["entropy", "entropy_slope", "gradient", "partition_bias", "penalty"]

Temperature: TypeAlias = float | Float[Array, "..."]


def penalty(similarities: Float[Array, "... N"], temperature: Temperature) -> Float[Array, "... N"]:
    """Penalty distribution: each negative's share of the gradient of all negatives.

    r_j = exp(s_j / t) / sum_k exp(s_k / t)

    >>> import jax.numpy as jnp
    >>> penalty(jnp.array([0.5, 0.0]), 0.5)  # e / (e + 1)
    Array([0.7310586 , 0.26894143], dtype=float32)

    Args:
      similarities: Similarities s of a query's N negatives [..., N], usually cosines; -inf leaves a
        negative out.
      temperature: Positive t: a scalar, or any shape that broadcasts with [...].

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

    where P is the softmax over the positive and the negatives, and r the softmax over only the
    negatives.

    Args:
      positive: Similarity s_+ of the positive [...].
      negatives: Similarities s of the N negatives [..., N].
      temperature: As in `penalty`.

    Returns:
      dL/ds_+ [...] and dL/ds_j [..., N], float32; together they sum to 0.

    Source:
      Wang & Liu, 2021, arXiv:2012.09740.
    """
    positive, temperature = (jnp.asarray(x, jnp.float32) for x in (positive, temperature))
    log_partition = jax.nn.logsumexp(_logits(negatives, temperature), axis=-1)
    # Computing 1 - P_+ from the odds keeps precision when P_+ is nearly 1.
    pull = jax.nn.sigmoid(log_partition - positive / temperature) / temperature
    return -pull, pull[..., None] * penalty(negatives, temperature)


def entropy(similarities: Float[Array, "... N"], temperature: Temperature) -> Float[Array, "..."]:
    """Entropy of the penalty distribution; effectively exp(H) negatives share the gradient.

    H = -sum_j r_j log r_j, from 0 (only the hardest negative counts) to log N (all count equally)

    Args:
      similarities: As in `penalty`.
      temperature: As in `penalty`.

    Returns:
      Entropy in nats [...], float32.

    Source:
      Wang & Liu, 2021, arXiv:2012.09740.
    """
    log_r = jax.nn.log_softmax(_logits(similarities, temperature), axis=-1)
    return -jnp.sum(jnp.exp(log_r) * _without_infinities(log_r), axis=-1)


def entropy_slope(
    similarities: Float[Array, "... N"], temperature: Temperature
) -> Float[Array, "..."]:
    """Derivative of the penalty distribution's entropy in the temperature, never negative.

    dH/dt = Var_r(s) / t^3

    Args:
      similarities: As in `penalty`.
      temperature: As in `penalty`.

    Returns:
      Derivative in nats per unit of temperature [...], float32.

    Source:
      Wang & Liu, 2021, arXiv:2012.09740 (entropy grows with temperature).
    """
    r = penalty(similarities, temperature)
    similarities = _without_infinities(jnp.asarray(similarities, jnp.float32))
    mean = jnp.sum(r * similarities, axis=-1, keepdims=True)
    variance = jnp.sum(r * (similarities - mean) ** 2, axis=-1)
    return variance / jnp.asarray(temperature, jnp.float32) ** 3


def partition_bias(
    similarities: Float[Array, "... N"], temperature: Temperature, count: int
) -> Float[Array, "..."]:
    """Bias of a batch's log-partition due to sampling negatives, to second order.

    E[ log mean_K e^(s/t) ] - log E[e^(s/t)] = -Var(e^(s/t)) / (2 K E[e^(s/t)]^2) + O(1 / K^2)

    The approximation holds while its magnitude is well below 0.1; at 0.05 the next terms are a
    third of it. Beyond that, where a few rare negatives make up most of the partition, do not trust
    it: it is too large in magnitude if `similarities` cover all possible negatives, and far too
    small if they miss the rare ones, as a batch does.

    Low temperatures need many negatives, since the bias grows with the variance of e^(s/t).

    Args:
      similarities: As in `penalty`, for a sample that represents all possible negatives.
      temperature: As in `penalty`.
      count: Number K of negatives that a batch draws from them independently.

    Returns:
      Bias in nats [...], float32, at most 0.

    Source:
      Derived with the delta method; Yuan et al., 2022, arXiv:2202.12387 (small batches bias the
      loss).
    """
    r, some = penalty(similarities, temperature), jnp.asarray(similarities) != -jnp.inf
    # Shares equal e^(s/t) up to a factor, which cancels, and do not overflow.
    spread = jnp.var(r, axis=-1, where=some)
    return -spread / (2 * count * jnp.mean(r, axis=-1, where=some) ** 2)


def _logits(similarities, temperature):
    temperature = jnp.asarray(temperature, jnp.float32)[..., None]
    similarities = jnp.asarray(similarities, jnp.float32)
    # Dividing an infinity would make the temperature's gradient NaN.
    finite = _without_infinities(similarities) / temperature
    return jnp.where(similarities == -jnp.inf, -jnp.inf, finite)


def _without_infinities(x):
    """Replaces -inf, whose share is 0, by 0."""
    return jnp.where(x == -jnp.inf, 0.0, x)

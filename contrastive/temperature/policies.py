"""Who sets the temperature: pure functions of parameters.

A policy's parameters live in the one tree that the optimizer updates, under `"temperature"`, also
when nothing is learned: so a sweep over temperatures is a `vmap` over parameters like any other.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import jax.core
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from contrastive.losses.partition import check_temperature
from contrastive.types import Params

# FlagEmbedding's default, and the middle of published recipes for normalised embeddings.
DEFAULT_TEMPERATURE = 0.02


class Policy(Protocol):
    """A rule for the temperature of each step."""

    def init(self) -> Params:
        """The policy's first parameters."""
        ...

    def temperature(self, params: Params, step: Int[Array, ""]) -> Float[Array, ""]:
        """The temperature of a step, positive; differentiable in the parameters."""
        ...

    def project(self, params: Params) -> Params:
        """Parameters brought back into their range after an update."""
        ...


@dataclasses.dataclass(frozen=True)
class Fixed:
    """One temperature for the whole run.

    t(step) = value, with no gradient

    >>> policy = Fixed(0.05)
    >>> policy.temperature(policy.init(), step=0)
    Array(0.05, dtype=float32)

    Args:
      value: The temperature; 0.02 unless said otherwise.

    Raises:
      ValueError: If the value is not positive.
    """

    value: float = DEFAULT_TEMPERATURE

    def __post_init__(self):
        check_temperature(self.value)

    def init(self) -> Params:
        return {"value": jnp.float32(self.value)}

    def temperature(self, params: Params, step: Int[Array, ""]) -> Float[Array, ""]:
        del step
        return lax.stop_gradient(params["value"])

    def project(self, params: Params) -> Params:
        return params

    def scaled(self, params: Params, factor: float) -> Params:
        """Parameters of a temperature that is so many times higher."""
        return {"value": params["value"] * factor}


@dataclasses.dataclass(frozen=True)
class Individual:
    """A temperature for each query of the data, which SogCLR's loss moves: iSogCLR.

    t_i <- clip(t_i - learning_rate dloss_i/dt_i, minimum, maximum), each time query i is seen

    With SogCLR the slope is rho - KL(r_i || uniform), r_i the softmax over negatives: queries with
    many similar negatives get higher temperatures. The paper averages the slope over a query's
    visits, the newest at 0.9; here it is that one.

    Args:
      initial: First temperature of every query.
      minimum: Least temperature.
      maximum: Largest temperature.
      learning_rate: What a slope of 1 nat takes off a temperature.

    Raises:
      ValueError: Unless 0 < minimum <= initial <= maximum.

    Source:
      Qiu et al., 2023, arXiv:2305.11965.
    """

    initial: float = 0.1
    minimum: float = 0.005
    maximum: float = 1.0
    learning_rate: float = 0.01

    def __post_init__(self):
        _check_range(self.initial, self.minimum, self.maximum)

    def update(self, temperature: Float[Array, " B"], slope: Float[Array, " B"]) -> Array:
        """Temperatures of the queries of a batch, after it."""
        return jnp.clip(temperature - self.learning_rate * slope, self.minimum, self.maximum)


@dataclasses.dataclass(frozen=True)
class Learned:
    """A temperature learned with the encoder, as CLIP does.

    t = exp(-log_scale), log_scale learned, t kept in [minimum, maximum]

    The parameter is clipped after each update, not in the forward pass, where a clipped value
    would have no gradient and could never come back.

    Args:
      initial: First temperature.
      minimum: Least temperature; 0.01 is CLIP's largest logit scale, 100.
      maximum: Largest temperature.

    Raises:
      ValueError: Unless 0 < minimum <= initial <= maximum.

    Source:
      Radford et al., 2021, arXiv:2103.00020.
    """

    initial: float = 0.07
    minimum: float = 0.01
    maximum: float = 1.0

    def __post_init__(self):
        _check_range(self.initial, self.minimum, self.maximum)

    def init(self) -> Params:
        return {"log_scale": -jnp.log(jnp.float32(self.initial))}

    def temperature(self, params: Params, step: Int[Array, ""]) -> Float[Array, ""]:
        del step
        return jnp.exp(-params["log_scale"])

    def project(self, params: Params) -> Params:
        low, high = -jnp.log(jnp.float32(self.maximum)), -jnp.log(jnp.float32(self.minimum))
        return {"log_scale": jnp.clip(params["log_scale"], low, high)}

    def scaled(self, params: Params, factor: float) -> Params:
        """Parameters of a temperature that is so many times higher, or the maximum."""
        return self.project({"log_scale": params["log_scale"] - jnp.log(factor)})


def _check_range(initial: float, minimum: float, maximum: float) -> None:
    check_temperature(minimum)
    if any(isinstance(x, jax.core.Tracer) for x in (initial, minimum, maximum)):
        return  # checked before it was traced
    if not minimum <= initial <= maximum:
        raise ValueError(
            f"a temperature that moves starts at {initial}, outside [{minimum}, {maximum}]; move "
            "the start or the limits"
        )

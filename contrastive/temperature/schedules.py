"""Temperatures that follow a course of the steps."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from contrastive.losses.partition import check_temperature
from contrastive.types import Params


@dataclasses.dataclass(frozen=True)
class _Schedule:
    """A temperature without parameters: the step says all."""

    def init(self) -> Params:
        return {}

    def project(self, params: Params) -> Params:
        return params


@dataclasses.dataclass(frozen=True)
class Linear(_Schedule):
    """From one temperature to another in a straight line, and then it stays.

    t(n) = first + (last - first) min(n / steps, 1)

    >>> round(float(Linear(0.1, 0.02, steps=100).temperature({}, 50)), 6)
    0.06

    Args:
      first: Temperature of step 0.
      last: From step `steps` on.
      steps: Steps it takes.

    Raises:
      ValueError: For a temperature that is not positive, or less than one step.
    """

    first: float
    last: float
    steps: int

    def __post_init__(self):
        check_temperature(self.first, "first")
        check_temperature(self.last, "last")
        _check_steps(self.steps, "steps")

    def temperature(self, params: Params, step: Int[Array, ""] | int) -> Float[Array, ""]:
        del params
        share = jnp.minimum(jnp.float32(step) / self.steps, 1.0)
        return self.first + (self.last - self.first) * share


@dataclasses.dataclass(frozen=True)
class Oscillating(_Schedule):
    """To another temperature and back, over and over, along a cosine.

    t(n) = other + (first - other) (1 + cos(2 pi n / period)) / 2

    High temperatures tell groups of texts apart, low ones single texts: a run sees both. The paper
    goes from 1 to 0.1 and back in 200 epochs.

    Args:
      first: Temperature of step 0.
      other: Half a period later.
      period: Steps.

    Raises:
      ValueError: For a temperature that is not positive, or less than one step.

    Source:
      Kukleva et al., 2023, arXiv:2303.13664.
    """

    first: float
    other: float
    period: int

    def __post_init__(self):
        check_temperature(self.first, "first")
        check_temperature(self.other, "other")
        _check_steps(self.period, "period")

    def temperature(self, params: Params, step: Int[Array, ""] | int) -> Float[Array, ""]:
        del params
        wave = 0.5 * (1.0 + jnp.cos(2.0 * jnp.pi * jnp.float32(step) / self.period))
        return self.other + (self.first - self.other) * wave


@dataclasses.dataclass(frozen=True)
class WarmDown(_Schedule):
    """From a high temperature down to its value, by equal factors, and then it stays.

    t(n) = value (start / value)^max(0, 1 - n / steps)

    A low temperature lets a few negatives decide, which an encoder that knows nothing yet has
    chosen by chance.

    Args:
      value: From step `steps` on.
      start: Temperature of step 0.
      steps: Steps it takes.

    Raises:
      ValueError: For a temperature that is not positive, or less than one step.
    """

    value: float
    start: float
    steps: int

    def __post_init__(self):
        check_temperature(self.value, "value")
        check_temperature(self.start, "start")
        _check_steps(self.steps, "steps")

    def temperature(self, params: Params, step: Int[Array, ""] | int) -> Float[Array, ""]:
        del params
        left = jnp.maximum(0.0, 1.0 - jnp.float32(step) / self.steps)
        return self.value * jnp.power(self.start / jnp.float32(self.value), left)


def _check_steps(steps: int, name: str) -> None:
    if steps < 1:
        raise ValueError(f"{name} is {steps}; it counts steps, at least 1")

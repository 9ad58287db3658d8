"""The base class of temperature policies: settings and pure functions of parameters and step."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from contrastive.errors import ConfigError
from contrastive.lazy import jax
from contrastive.losses._partition import check_temperature
from contrastive.parts import Part

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

    from contrastive.types import Params

__all__ = ["Policy"]


class Policy(Part):
    """Sets the temperature of each step, starting from the loss's initial temperature.

    A policy's parameters are part of the tree that the optimizer updates, under `"temperature"`,
    even if they are not learned, so that a sweep over temperatures is a `vmap` over parameters like
    any other. A schedule has no parameters and implements only `temperature`:

        class Halving(contrastive.temperature.Policy):
            '''Halves the temperature every `every` steps.'''

            every: int = 1000
            is_scheduled = True

            def temperature(self, params, step, *, initial, steps):
                return initial * 0.5 ** (step // self.every)
    """

    package: ClassVar[str] = "contrastive.temperature.policies"

    is_scheduled: ClassVar[bool] = False
    """Whether the temperature depends only on the step."""
    is_learned: ClassVar[bool] = False
    """Whether the optimizer updates the parameters; the policy then needs a field
    `learning_rate`."""
    is_individual: ClassVar[bool] = False
    """Whether every training query has its own temperature, which `update` changes."""
    can_be_raised: ClassVar[bool] = False
    """Whether `scaled` can raise the temperature, as a diverged run may require."""

    def init(self, initial: float | Float[Array, ""]) -> Params:
        """Returns the policy's initial parameters.

        Args:
          initial: The temperature that the loss was configured with.
        """
        del initial
        return {}

    def temperature(
        self,
        params: Params,
        step: Int[Array, ""] | int,
        *,
        initial: float | Float[Array, ""],
        steps: int,
    ) -> Float[Array, ""]:
        """Returns the temperature of a step, positive and differentiable in the parameters.

        Args:
          params: The policy's parameters.
          step: Index of the step, from 0.
          initial: The temperature that the loss was configured with.
          steps: Total number of steps in the run.
        """
        raise self._not_implemented("temperature")

    def project(self, params: Params) -> Params:
        """Brings parameters back into their range after an update."""
        return params

    def update(
        self, temperatures: Float[Array, " B"], slopes: Float[Array, " B"]
    ) -> Float[Array, " B"]:
        """Returns the new temperatures of a batch's queries, for a policy that `is_individual`.

        Args:
          temperatures: Temperatures of the queries before the step [B].
          slopes: Gradient of each query's loss with respect to its temperature [B].

        Returns:
          The new temperatures [B].
        """
        raise self._not_implemented("update")

    def scaled(self, params: Params, factor: float) -> Params:
        """Returns parameters whose temperature is `factor` times higher."""
        raise self._not_implemented("scaled")

    def ends(self, initial: float) -> dict[str, float]:
        """Returns the temperatures between which the policy moves, by the fields that set them."""
        return {"loss.temperature": initial}

    @property
    def is_constant(self) -> bool:
        """Whether all queries have the same temperature in all steps."""
        return not (self.is_scheduled or self.is_learned or self.is_individual)

    @property
    def limits(self) -> dict[str, float]:
        """Limits of a learned temperature, by the names of the fields that set them."""
        return {}

    def check(self, initial: float) -> None:
        """Rejects an initial temperature outside the policy's range.

        Raises:
          ValueError: If it is outside; the message names the temperature and the range.
        """


def check_limits(minimum: float, maximum: float) -> None:
    """Rejects limits of a temperature in the wrong order.

    Raises:
      ConfigError: If the minimum exceeds the maximum. Traced values, as in a sweep, pass.
    """
    if any(isinstance(x, jax.core.Tracer) for x in (minimum, maximum)):
        return
    if minimum > maximum:
        raise ConfigError(f"is {minimum}, above the maximum, {maximum}; lower it", field="minimum")


def check_range(initial, minimum, maximum) -> None:
    """Rejects an initial temperature outside its limits.

    Raises:
      ValueError: Unless 0 < minimum <= initial <= maximum.
    """
    check_temperature(minimum)
    if any(isinstance(x, jax.core.Tracer) for x in (initial, minimum, maximum)):
        return  # checked before tracing
    if not minimum <= initial <= maximum:
        raise ValueError(
            f"is {initial}, outside the policy's [{minimum}, {maximum}]; change it or the limits"
        )

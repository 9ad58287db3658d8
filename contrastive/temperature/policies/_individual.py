"""A separate temperature for each training query."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from contrastive.lazy import jnp
from contrastive.settings import PositiveFloat32
from contrastive.temperature.policies._policy import Policy, check_range

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["Individual"]


class Individual(Policy):
    """Learns a separate temperature for each training query, as in iSogCLR; needs SogCLR's loss.

    t_i <- clip(t_i - learning_rate dloss_i/dt_i, minimum, maximum), at each visit of query i

    With SogCLR the derivative is rho - KL(r_i || uniform), with r_i the softmax over negatives, so
    queries with many similar negatives get higher temperatures. The paper averages the derivative
    over a query's visits, with weight 0.9 for the newest; here only the newest one counts.

    Source:
      Qiu et al., 2023, arXiv:2305.11965.
    """

    minimum: PositiveFloat32 = 0.005
    """Minimum temperature."""
    maximum: PositiveFloat32 = 1.0
    """Maximum temperature."""
    learning_rate: PositiveFloat32 = 0.01
    """Step size of a query's temperature at each visit: what a derivative of 1 nat subtracts."""

    is_individual: ClassVar[bool] = True

    def update(
        self, temperature: Float[Array, " B"], slope: Float[Array, " B"]
    ) -> Float[Array, " B"]:
        """Returns the temperatures of a batch's queries after the step.

        Args:
          temperature: Temperatures before the step [B].
          slope: Derivative of each query's loss in its temperature [B].
        """
        return jnp.clip(temperature - self.learning_rate * slope, self.minimum, self.maximum)

    def check(self, initial) -> None:
        check_range(initial, self.minimum, self.maximum)

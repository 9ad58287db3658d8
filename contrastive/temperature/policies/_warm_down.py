"""A temperature that decays from a higher one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import PositiveInt

from contrastive.lazy import jnp
from contrastive.settings import PositiveFloat32
from contrastive.temperature.policies._policy import Policy

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["WarmDown"]


class WarmDown(Policy):
    """Lowers the temperature exponentially from a higher one, then keeps it constant.

    t(n) = initial (start / initial)^max(0, 1 - n / steps)

    At a low temperature a few negatives dominate the gradient, and an untrained encoder would pick
    them at random.
    """

    start: PositiveFloat32 = 1.0
    """Temperature of the first step."""
    steps: PositiveInt
    """Number of steps until the temperature reaches that of the loss."""

    is_scheduled: ClassVar[bool] = True

    def temperature(self, params, step, *, initial, steps) -> Float[Array, ""]:
        del params, steps
        left = jnp.maximum(0.0, 1.0 - jnp.float32(step) / self.steps)
        return initial * jnp.power(self.start / jnp.float32(initial), left)

    def ends(self, initial) -> dict[str, float]:
        return {"loss.temperature": initial, "loss.policy.start": self.start}

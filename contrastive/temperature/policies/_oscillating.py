"""A temperature that oscillates."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import PositiveInt

from contrastive.lazy import jnp
from contrastive.settings import PositiveFloat32
from contrastive.temperature.policies._policy import Policy

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["Oscillating"]


class Oscillating(Policy):
    """Moves the temperature to another one and back along a cosine.

    t(n) = other + (initial - other) (1 + cos(2 pi n / period)) / 2

    High temperatures separate groups of texts, low ones separate individual texts; oscillating does
    both in one run. The paper goes from 1 to 0.1 and back in 200 epochs.

    Source:
      Kukleva et al., 2023, arXiv:2303.13664.
    """

    other: PositiveFloat32
    """Temperature at the other end of the oscillation, half a period after the first step."""
    period: PositiveInt
    """Number of steps from one peak to the next."""

    is_scheduled: ClassVar[bool] = True

    def temperature(self, params, step, *, initial, steps) -> Float[Array, ""]:
        del params, steps
        wave = 0.5 * (1.0 + jnp.cos(2.0 * jnp.pi * jnp.float32(step) / self.period))
        return self.other + (initial - self.other) * wave

    def ends(self, initial) -> dict[str, float]:
        return {"loss.temperature": initial, "loss.policy.other": self.other}

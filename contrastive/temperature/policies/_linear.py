"""A temperature that changes linearly."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import PositiveInt

from contrastive.lazy import jnp
from contrastive.settings import PositiveFloat32
from contrastive.temperature.policies._policy import Policy

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["Linear"]


class Linear(Policy):
    """Changes the temperature linearly to another one, then keeps it constant.

    t(n) = initial + (last - initial) min(n / steps, 1)

    >>> policy = Linear(last=0.02, steps=100)
    >>> round(float(policy.temperature({}, 50, initial=0.1, steps=200)), 6)
    0.06
    """

    last: PositiveFloat32
    """Final temperature."""
    steps: PositiveInt | None = None
    """Number of steps until the final temperature; None means the whole run."""

    is_scheduled: ClassVar[bool] = True

    def temperature(self, params, step, *, initial, steps) -> Float[Array, ""]:
        del params
        share = jnp.minimum(jnp.float32(step) / (self.steps or steps), 1.0)
        return initial + (self.last - initial) * share

    def ends(self, initial) -> dict[str, float]:
        return {"loss.temperature": initial, "loss.policy.last": self.last}

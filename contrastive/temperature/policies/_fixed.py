"""A constant temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from contrastive.lazy import jnp, lax
from contrastive.temperature.policies._policy import Policy

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from contrastive.types import Params

__all__ = ["Fixed"]


class Fixed(Policy):
    """Keeps one temperature for the whole run.

    >>> policy = Fixed()
    >>> policy.temperature(policy.init(0.05), step=0, initial=0.05, steps=10)
    Array(0.05, dtype=float32)
    """

    can_be_raised: ClassVar[bool] = True

    def init(self, initial) -> Params:
        return {"value": jnp.float32(initial)}

    def temperature(self, params, step, *, initial, steps) -> Float[Array, ""]:
        del step, initial, steps
        return lax.stop_gradient(params["value"])

    def scaled(self, params, factor) -> Params:
        return {"value": params["value"] * factor}

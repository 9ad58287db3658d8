"""A temperature learned with the encoder, as in CLIP."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pydantic

from contrastive.lazy import jnp
from contrastive.settings import PositiveFloat32
from contrastive.temperature.policies._policy import Policy, check_limits, check_range

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from contrastive.types import Params

__all__ = ["Learned"]


class Learned(Policy):
    """Learns the temperature with the encoder, as in CLIP.

    t = exp(-log_scale), with log_scale learned and t kept in [minimum, maximum]

    The parameter is clipped after each update. Clipping in the forward pass would cut the gradient,
    so that a clipped temperature could never recover.

    Source:
      Radford et al., 2021, arXiv:2103.00020.
    """

    minimum: PositiveFloat32 = 0.01
    """Minimum temperature; 0.01 is a logit scale of 100, CLIP's limit."""
    maximum: PositiveFloat32 = 1.0
    """Maximum temperature."""
    learning_rate: PositiveFloat32 = 1e-3
    """Peak learning rate of the temperature's logarithm, and of SigLIP's bias; it follows the
    encoder's schedule."""

    is_learned: ClassVar[bool] = True
    can_be_raised: ClassVar[bool] = True

    @pydantic.model_validator(mode="after")
    def _limits_are_ordered(self):
        check_limits(self.minimum, self.maximum)
        return self

    def init(self, initial) -> Params:
        return {"log_scale": -jnp.log(jnp.float32(initial))}

    def temperature(self, params, step, *, initial, steps) -> Float[Array, ""]:
        del step, initial, steps
        return jnp.exp(-params["log_scale"])

    def project(self, params) -> Params:
        low, high = -jnp.log(jnp.float32(self.maximum)), -jnp.log(jnp.float32(self.minimum))
        return {"log_scale": jnp.clip(params["log_scale"], low, high)}

    def scaled(self, params, factor) -> Params:
        return self.project({"log_scale": params["log_scale"] - jnp.log(factor)})

    @property
    def limits(self) -> dict[str, float]:
        return {"minimum": self.minimum, "maximum": self.maximum}

    def check(self, initial) -> None:
        check_range(initial, self.minimum, self.maximum)

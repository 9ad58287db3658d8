"""Terms shared by several losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrastive.lazy import jax, jnp, lax
from contrastive.losses._tiles import Axis

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def batch_mean(values: Float[Array, " B"], axis_name: Axis) -> Float[Array, ""]:
    """Mean over the queries of all devices."""
    mean = values.mean()
    return mean if axis_name is None else lax.pmean(mean, axis_name)


def excess(negatives, positive):
    """negatives - positive, or 0 with zero gradient without negatives; NaN stays NaN."""
    some = negatives != -jnp.inf
    return jnp.where(some, jnp.where(some, negatives, 0.0) - positive, 0.0)


def unfading(odds):
    """softplus(x) / sigmoid(x) with slope 1; 0 with zero gradient without negatives."""
    some = odds != -jnp.inf
    odds = jnp.where(some, odds, 0.0)
    # Below -30 the ratio is 1 in float32; much further down it would be 0 / 0.
    held = lax.stop_gradient(jnp.maximum(odds, -30.0))
    ratio = jax.nn.softplus(held) / jax.nn.sigmoid(held)
    return jnp.where(some, ratio + (odds - lax.stop_gradient(odds)), 0.0)

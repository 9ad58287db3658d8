"""Layers shared by the transformer families."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Annotated, TypeAlias

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int
from pydantic import AfterValidator


def gelu(x: Array) -> Array:
    """Computes the exact GELU, x (1 + erf(x / sqrt 2)) / 2, in float32 as PyTorch does.

    `nn.gelu` computes the same values with erfc, and stores one more array for the backward pass.

    Args:
      x: Values of any shape.

    Returns:
      Values of the same shape and dtype.

    Source:
      Hendrycks & Gimpel, 2016, arXiv:1606.08415.
    """
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1.0 + lax.erf(wide * np.float32(0.5**0.5)))).astype(x.dtype)


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_new": functools.partial(nn.gelu, approximate=True),
    "gelu_pytorch_tanh": functools.partial(nn.gelu, approximate=True),
    "relu": nn.relu,
    "silu": nn.silu,
    "swish": nn.silu,
}


def _known(name: str) -> str:
    if name not in ACTIVATIONS:
        raise ValueError(f"choose from {', '.join(ACTIVATIONS)}")
    return name


Activation: TypeAlias = Annotated[str, AfterValidator(_known)]
"""The name of an activation function."""


def rotate(
    x: Float[Array, "R T H d"], positions: Int[Array, "R T"], theta: float
) -> Float[Array, "R T H d"]:
    """Applies rotary position embeddings.

    Rotates each pair (x_k, x_{k+d/2}) by the angle position * theta^(-2k/d).

    Args:
      x: Queries or keys [R, T, H, d], with an even head size d.
      positions: Position of each token in its own text [R, T].
      theta: Base of the rotation frequencies.

    Returns:
      Rotated vectors of the same shape and dtype.

    Source:
      Su et al., 2021, arXiv:2104.09864.
    """
    half = x.shape[-1] // 2
    frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[:, :, None, None] * frequency
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    a, b = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def dense(features: int, dtype, name: str, *, bias: bool = True, stddev: float = 0.02) -> nn.Dense:
    """Builds a linear layer that is applied to every token.

    The layer merges rows and tokens into one axis, so that the gradient of its weights contracts a
    single axis, which is a quarter faster on CPUs.

    Args:
      features: Output width.
      dtype: Compute dtype.
      name: Name of the module.
      bias: Whether the layer has a bias.
      stddev: Standard deviation of the initial weights.

    Returns:
      The module.
    """
    init = nn.initializers.normal(stddev)
    return nn.Dense(
        features,
        use_bias=bias,
        kernel_init=init,
        dtype=dtype,
        name=name,
        dot_general=_dot_general_of_tokens,
    )


def _dot_general_of_tokens(x, kernel, dimension_numbers, **kwargs):
    del dimension_numbers  # always contracts the last axis of x with the first of the kernel
    flat = lax.dot_general(x.reshape(-1, x.shape[-1]), kernel, (((1,), (0,)), ((), ())), **kwargs)
    return flat.reshape(*x.shape[:-1], -1)


def layer_norm(eps: float, dtype, name: str, *, bias: bool = True) -> nn.LayerNorm:
    """Builds a layer norm that computes the variance as PyTorch does: centered, in float32."""
    return nn.LayerNorm(epsilon=eps, use_bias=bias, use_fast_variance=False, dtype=dtype, name=name)

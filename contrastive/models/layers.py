"""What the transformer families share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from contrastive.models.dropout import Dropout
from contrastive.types import Tokens


def gelu(x: Array) -> Array:
    """GELU with erf, in float32 as PyTorch computes it.

    x (1 + erf(x / sqrt 2)) / 2

    `nn.gelu` has the same values by erfc, and keeps one more array for the backward pass.

    Args:
      x: Any shape.

    Returns:
      The same shape.

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


def same_text(tokens: Tokens) -> Bool[Array, "R T T"]:
    """Which tokens of a row belong to one text, and so see each other."""
    segments = jnp.asarray(tokens.segments)
    return segments[:, :, None] == segments[:, None, :]


def attend(
    q: Float[Array, "R T H d"],
    k: Float[Array, "R T H d"],
    v: Float[Array, "R T H d"],
    mask: Bool[Array, "R T T"],
    dropout: Dropout,
    rate: float,
    blocks: int,
) -> Float[Array, "R T H d"]:
    """Attention within texts, softmax(q k^T / sqrt(d)) v, the softmax in float32.

    Args:
      q: Queries of H heads.
      k: Keys.
      v: Values.
      mask: Which pairs of tokens see each other; every token sees at least itself.
      dropout: Randomness of the probabilities.
      rate: Share of them that is dropped.
      blocks: Data-parallel devices the rows are divided over.

    Returns:
      Mixed values.

    Source:
      Vaswani et al., 2017, arXiv:1706.03762.
    """
    by_row = functools.partial(_row_by_row, rate, blocks)
    whole = functools.partial(_whole, rate)
    return lax.platform_dependent(q, k, v, mask, dropout, cpu=by_row, default=whole)


def _whole(rate, q, k, v, mask, dropout):
    if dropout.keys is None or rate == 0.0:
        return jax.nn.dot_product_attention(q, k, v, mask=mask[:, None])
    logits = jnp.einsum("rqhd,rkhd->rhqk", q, k, preferred_element_type=jnp.float32)
    p = jax.nn.softmax(_masked(logits, q.shape[-1], mask[:, None]), axis=-1).astype(v.dtype)
    return jnp.einsum("rhqk,rkhd->rqhd", dropout.attention(p, rate), v)


def _masked(logits, width, mask):
    return jnp.where(mask, logits * width**-0.5, -jnp.inf)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _row_by_row(rate, blocks, q, k, v, mask, dropout):
    """A row at a time, forward and backward: its probabilities fit a CPU's cache, all rows' do not.

    Only the log of each softmax's denominator is kept for the backward pass, as in FlashAttention
    (Dao et al., 2022, arXiv:2205.14135).
    """
    return _row_by_row_forward(rate, blocks, q, k, v, mask, dropout)[0]


def _row_by_row_forward(rate, blocks, q, k, v, mask, dropout):
    def one(row):
        (q, k, v), mask, dropout = map(_heads_first, row[:3]), *row[3:]
        logits = _masked(_product("rhqd,rhkd->rhqk", q, k), q.shape[-1], mask[:, None])
        top = logits.max(axis=-1, keepdims=True)
        e = jnp.exp(logits - top)
        total = e.sum(axis=-1, keepdims=True)
        y = _product("rhqk,rhkd->rhqd", dropout.attention(e, rate).astype(v.dtype), v) / total
        return _heads_first(y.astype(v.dtype)), (top + jnp.log(total))[..., 0]

    row = (q, k, v, mask, dropout)
    y, log_total = _each_row(one, row, blocks)
    return y, (*row, y, log_total)


def _row_by_row_backward(rate, blocks, residuals, cotangent):
    """With keys before queries, so that of five products but one contracts its first axes.

    Such a product is three times slower than the others on CPUs.
    """

    def one(row):
        *vectors, mask, dropout, log_total = row
        q, k, v, y, g = map(_heads_first, vectors)
        logits = _product("rhkd,rhqd->rhkq", k, q)
        logits = _masked(logits, q.shape[-1], jnp.swapaxes(mask, 1, 2)[:, None])
        p = jnp.exp(logits - log_total[:, :, None, :])
        drop = functools.partial(dropout.attention, rate=rate, keys_first=True)
        d_v = _product("rhkq,rhqd->rhkd", drop(p).astype(g.dtype), g)
        d_p = drop(_product("rhkd,rhqd->rhkq", v, g))
        mean = (g.astype(jnp.float32) * y.astype(jnp.float32)).sum(axis=-1)
        d_logits = (p * (d_p - mean[:, :, None, :]) * q.shape[-1] ** -0.5).astype(g.dtype)
        d_q = jnp.swapaxes(_product("rhdk,rhkq->rhdq", jnp.swapaxes(k, 2, 3), d_logits), 2, 3)
        d_k = _product("rhkq,rhqd->rhkd", d_logits, q)
        return tuple(_heads_first(x.astype(g.dtype)) for x in (d_q, d_k, d_v))

    q, k, v, mask, dropout, y, log_total = residuals
    found = _each_row(one, (q, k, v, y, cotangent, mask, dropout, log_total), blocks)
    return (*found, None, None)


_row_by_row.defvjp(_row_by_row_forward, _row_by_row_backward)


def _each_row(function, rows, blocks):
    """Maps over rows, one of every block at a time, so that no device waits for another."""

    def cut(x):
        return jnp.swapaxes(x.reshape(blocks, -1, *x.shape[1:]), 0, 1)

    def join(x):
        return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])

    return jax.tree.map(join, lax.map(function, jax.tree.map(cut, rows)))


def _heads_first(x):
    """[R, T, H, d] to [R, H, T, d], and back."""
    return jnp.swapaxes(x, 1, 2)


def _product(shapes, a, b):
    return jnp.einsum(shapes, a, b, preferred_element_type=jnp.float32)


def rotate(
    x: Float[Array, "R T H d"], positions: Int[Array, "R T"], theta: float
) -> Float[Array, "R T H d"]:
    """Rotary position embedding.

    (x_k, x_{k+d/2}) turned by the angle position * theta^(-2k/d)

    Args:
      x: Queries or keys, H heads of even width d.
      positions: Position of each token in its own text.
      theta: Slowest wavelength, in tokens, over 2 pi.

    Returns:
      Rotated vectors of the same type.

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
    """A linear layer on tokens.

    Rows and tokens are one axis in it: the gradient of its weights is then a product that contracts
    one axis, which CPUs do a quarter faster than two.

    Args:
      features: Width of the result.
      dtype: What it computes in.
      name: Of its parameters.
      bias: Whether it has one.
      stddev: Of the first weights.

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


def _dot_general_of_tokens(x, kernel, dimension_numbers, **how):
    del dimension_numbers  # the last axis of x, the first of the kernel
    flat = lax.dot_general(x.reshape(-1, x.shape[-1]), kernel, (((1,), (0,)), ((), ())), **how)
    return flat.reshape(*x.shape[:-1], -1)


def layer_norm(eps: float, dtype, name: str, *, bias: bool = True) -> nn.LayerNorm:
    """Layer normalisation as PyTorch computes it: the variance about the mean, in float32."""
    return nn.LayerNorm(epsilon=eps, use_bias=bias, use_fast_variance=False, dtype=dtype, name=name)

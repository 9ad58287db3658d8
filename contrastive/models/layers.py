"""What the transformer families share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from contrastive.models.dropout import Dropout
from contrastive.types import Tokens

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu": functools.partial(nn.gelu, approximate=False),
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
        q, k, v, mask, dropout = row
        logits = _masked(_product("rhqd,rhkd->rhqk", q, k), q.shape[-1], mask[:, None])
        top = logits.max(axis=-1, keepdims=True)
        e = jnp.exp(logits - top)
        total = e.sum(axis=-1, keepdims=True)
        y = _product("rhqk,rhkd->rhqd", dropout.attention(e, rate).astype(v.dtype), v) / total
        return y.astype(v.dtype), top + jnp.log(total)

    row = (*map(_heads_first, (q, k, v)), mask, dropout)
    y, log_total = _each_row(one, row, blocks)
    return _heads_first(y), (*row, y, log_total)


def _row_by_row_backward(rate, blocks, residuals, cotangent):
    def one(row):
        q, k, v, mask, dropout, y, log_total, g = row
        logits = _masked(_product("rhqd,rhkd->rhqk", q, k), q.shape[-1], mask[:, None])
        p = jnp.exp(logits - log_total)
        d_v = _product("rhqk,rhqd->rhkd", dropout.attention(p, rate).astype(g.dtype), g)
        d_p = dropout.attention(_product("rhqd,rhkd->rhqk", g, v), rate)
        mean = (g.astype(jnp.float32) * y.astype(jnp.float32)).sum(axis=-1, keepdims=True)
        d_logits = (p * (d_p - mean) * q.shape[-1] ** -0.5).astype(g.dtype)
        d_q = _product("rhqk,rhkd->rhqd", d_logits, k)
        d_k = _product("rhqk,rhqd->rhkd", d_logits, q)
        return tuple(x.astype(g.dtype) for x in (d_q, d_k, d_v))

    found = _each_row(one, (*residuals, _heads_first(cotangent)), blocks)
    return (*map(_heads_first, found), None, None)


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


def layer_norm(eps: float, dtype, name: str, *, bias: bool = True) -> nn.LayerNorm:
    """Layer normalisation as PyTorch computes it: the variance about the mean, in float32."""
    return nn.LayerNorm(epsilon=eps, use_bias=bias, use_fast_variance=False, dtype=dtype, name=name)

"""Self-attention within each text of a packed row."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from contrastive.models.linen.dropout import Dropout
from contrastive.types import Tokens


def same_text(tokens: Tokens) -> Bool[Array, "R T T"]:
    """Returns the mask of token pairs that belong to the same text and so attend to each other."""
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
    """Computes attention within texts, softmax(q k^T / sqrt(d)) v, with the softmax in float32.

    Args:
      q: Queries [R, T, H, d] of R rows, T tokens and H heads.
      k: Keys [R, T, H, d].
      v: Values [R, T, H, d].
      mask: True where the second axis may attend to the third; every token attends to itself.
      dropout: Randomness for dropping attention probabilities.
      rate: Dropout rate of the attention probabilities.
      blocks: Number of data-parallel devices that the rows are divided over.

    Returns:
      Weighted sums of the values [R, T, H, d].

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
    """Computes attention row by row, since the probabilities of one row fit into a CPU's cache.

    Stores only the log of each softmax denominator for the backward pass, as FlashAttention does
    (Dao et al., 2022, arXiv:2205.14135).
    """
    return _row_by_row_forward(rate, blocks, q, k, v, mask, dropout)[0]


def _row_by_row_forward(rate, blocks, q, k, v, mask, dropout):
    def forward(row):
        (q, k, v), mask, dropout = map(_heads_first, row[:3]), *row[3:]
        logits = _masked(_product("rhqd,rhkd->rhqk", q, k), q.shape[-1], mask[:, None])
        top = logits.max(axis=-1, keepdims=True)
        e = jnp.exp(logits - top)
        total = e.sum(axis=-1, keepdims=True)
        y = _product("rhqk,rhkd->rhqd", dropout.attention(e, rate).astype(v.dtype), v) / total
        return _heads_first(y.astype(v.dtype)), (top + jnp.log(total))[..., 0]

    row = (q, k, v, mask, dropout)
    y, log_total = _each_row(forward, row, blocks)
    return y, (*row, y, log_total)


def _row_by_row_backward(rate, blocks, residuals, cotangent):
    """Puts keys before queries, so that only one of the five products contracts leading axes.

    Such a product is three times slower than the others on CPUs.
    """

    def backward(row):
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
    gradients = _each_row(backward, (q, k, v, y, cotangent, mask, dropout, log_total), blocks)
    return (*gradients, None, None)


_row_by_row.defvjp(_row_by_row_forward, _row_by_row_backward)


def _each_row(function, rows, blocks):
    """Maps over rows, taking one row from every block at a time, so that no device is idle."""

    def cut(x):
        return jnp.swapaxes(x.reshape(blocks, -1, *x.shape[1:]), 0, 1)

    def join(x):
        return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])

    return jax.tree.map(join, lax.map(function, jax.tree.map(cut, rows)))


def _heads_first(x):
    """Transposes [R, T, H, d] to [R, H, T, d], and back."""
    return jnp.swapaxes(x, 1, 2)


def _product(shapes, a, b):
    return jnp.einsum(shapes, a, b, preferred_element_type=jnp.float32)

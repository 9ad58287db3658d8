"""A small pre-norm transformer, trained from scratch.

Rotary positions, gated GELU, no biases: the layers of ModernBERT (Warner et al., 2024,
arXiv:2412.13663) with global attention throughout, so that a saved model is a ModernBERT that other
libraries load.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from contrastive.types import Tokens

ROPE_THETA = 10_000.0
NORM_EPS = 1e-5


class TransformerEncoder(nn.Module):
    """Token vectors in context; a token attends only to its own text.

    Attributes:
      vocab_size: Rows of the token table, V.
      width: Embedding width, D.
      depth: Layers.
      heads: Attention heads.
      mlp_width: Width of the gated feed-forward layer.
      dropout: Share of values dropped while training.
      dtype: What layers compute in.
    """

    vocab_size: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: Tokens, *, deterministic: bool = True) -> Float[Array, "R T D"]:
        embed = nn.Embed(
            self.vocab_size,
            self.width,
            embedding_init=nn.initializers.normal(0.02),
            dtype=self.dtype,
            name="embedding",
        )
        x = _norm(self.dtype, "embedding_norm")(embed(tokens.ids))
        x = nn.Dropout(self.dropout)(x, deterministic)
        same_text = tokens.segments[:, :, None] == tokens.segments[:, None, :]
        for number in range(self.depth):
            layer = _Layer(
                heads=self.heads,
                mlp_width=self.mlp_width,
                dropout=self.dropout,
                depth=self.depth,
                # The embedding's norm is the first layer's.
                norm_first=number > 0,
                dtype=self.dtype,
                name=f"layer_{number}",
            )
            x = layer(x, same_text[:, None], jnp.asarray(tokens.positions), deterministic)
        return _norm(self.dtype, "final_norm")(x)


class _Layer(nn.Module):
    heads: int
    mlp_width: int
    dropout: float
    depth: int
    norm_first: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "R T D"],
        mask: Bool[Array, "R 1 T T"],
        positions: Int[Array, "R T"],
        deterministic: bool,
    ) -> Float[Array, "R T D"]:
        width = x.shape[-1]
        drop = nn.Dropout(self.dropout)
        y = _norm(self.dtype, "attention_norm")(x) if self.norm_first else x
        qkv = self._dense(3 * width, "qkv")(y)
        q, k, v = jnp.moveaxis(qkv.reshape(*x.shape[:2], 3, self.heads, -1), 2, 0)
        q, k = rotate(q, positions), rotate(k, positions)
        y = jax.nn.dot_product_attention(q, k, v, mask=mask).reshape(x.shape)
        x += drop(self._dense(width, "attention_out", out=True)(y), deterministic)
        y = _norm(self.dtype, "mlp_norm")(x)
        value, gate = jnp.split(self._dense(2 * self.mlp_width, "mlp_in")(y), 2, axis=-1)
        y = jax.nn.gelu(value, approximate=False) * gate
        return x + drop(self._dense(width, "mlp_out", out=True)(y), deterministic)

    def _dense(self, features: int, name: str, *, out: bool = False) -> nn.Dense:
        # What is added to the residual stream starts small, so that depth does not blow it up.
        stddev = 0.02 / (2 * self.depth) ** 0.5 if out else 0.02
        init = nn.initializers.normal(stddev)
        return nn.Dense(features, use_bias=False, kernel_init=init, dtype=self.dtype, name=name)


def _norm(dtype, name) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=NORM_EPS, use_bias=False, dtype=dtype, name=name)


def rotate(x: Float[Array, "R T H d"], positions: Int[Array, "R T"]) -> Float[Array, "R T H d"]:
    """Rotary position embedding.

    (x_k, x_{k+d/2}) turned by the angle position * theta^(-2k/d)

    Args:
      x: Queries or keys, H heads of even width d.
      positions: Position of each token in its own text.

    Returns:
      Rotated vectors of the same type.

    Source:
      Su et al., 2021, arXiv:2104.09864.
    """
    half = x.shape[-1] // 2
    frequency = ROPE_THETA ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[:, :, None, None] * frequency
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    a, b = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)

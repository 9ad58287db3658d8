"""Token vectors to text vectors, for texts that share rows."""

from __future__ import annotations

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from contrastive.types import Tokens

Pooling: TypeAlias = Literal["mean", "cls", "last_token"]


def pool(hidden: Float[Array, "R T D"], tokens: Tokens, pooling: Pooling) -> Float[Array, "B D"]:
    """One vector a text, in float32.

    mean: (1/n) sum_k h_k over its n tokens; cls: h_1; last_token: h_n. Zero for an empty text.

    Each row pools its own texts by a small matrix product; then each text is fetched from its
    block, which no other device holds.

    Args:
      hidden: Token vectors.
      tokens: The tokens they belong to.
      pooling: Which of the three.

    Returns:
      Text vectors [B, D].
    """
    places = 1 + jnp.arange(tokens.texts_per_row)
    member = tokens.segments[:, None, :] == places[:, None]  # [R, S, T]
    if pooling == "cls":
        member &= tokens.positions[:, None, :] == 0
    elif pooling == "last_token":
        following = jnp.pad(tokens.segments[:, 1:], ((0, 0), (0, 1)))
        member &= (tokens.segments != following)[:, None, :]
    weight = member.astype(jnp.float32)
    weight /= jnp.maximum(weight.sum(axis=-1, keepdims=True), 1.0)
    texts = jnp.einsum(
        "rst,rtd->rsd", weight, hidden.astype(jnp.float32), precision=lax.Precision.HIGHEST
    )
    by_block = texts.reshape(tokens.blocks, -1, texts.shape[-1])
    slots = tokens.slots.reshape(tokens.blocks, -1)
    return jax.vmap(lambda text, slot: text[slot])(by_block, slots).reshape(-1, texts.shape[-1])

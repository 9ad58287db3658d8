"""Token vectors to text vectors, for texts that share rows."""

from __future__ import annotations

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from contrastive.types import Tokens

Pooling: TypeAlias = Literal["mean", "cls", "last_token"]


def pool(hidden: Float[Array, "R T D"], tokens: Tokens, pooling: Pooling) -> Float[Array, "R S D"]:
    """One vector for each place of each row, in float32.

    mean: (1/n) sum_k h_k over a text's n tokens; cls: h_1; last_token: h_n. Zero for an empty text.

    Args:
      hidden: Token vectors.
      tokens: The tokens they belong to.
      pooling: Which of the three.

    Returns:
      Vectors [R, S, D]; `gather_texts` finds those of texts.
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
    return jnp.einsum(
        "rst,rtd->rsd", weight, hidden.astype(jnp.float32), precision=lax.Precision.HIGHEST
    )


def gather_texts(places: Float[Array, "R S D"], tokens: Tokens) -> Float[Array, "B D"]:
    """The vector of each text, fetched from its own block, which no other device holds.

    Args:
      places: A vector for each place of each row.
      tokens: The tokens they were made of.

    Returns:
      Text vectors [B, D], in the order of the texts.
    """
    by_block = places.reshape(tokens.blocks, -1, places.shape[-1])
    slots = tokens.slots.reshape(tokens.blocks, -1)
    return jax.vmap(lambda text, slot: text[slot])(by_block, slots).reshape(-1, places.shape[-1])

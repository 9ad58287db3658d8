"""Encoder, pooling and normalization: from tokens to embeddings."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, UInt32

from contrastive.similarity import normalize
from contrastive.types import Params, Tokens

Pooling: TypeAlias = Literal["mean", "cls", "last_token"]


@dataclasses.dataclass(frozen=True)
class Embedder:
    """A pure function from parameters and tokens to embeddings.

    Attributes:
      module: Flax encoder from tokens to token vectors [R, T, D].
      pooling: How token vectors are pooled into a text vector.
      normalize: Whether embeddings are scaled to unit length.
      chunk_tokens: Number of tokens per block that are encoded at a time, in whole rows; None
        encodes all at once. Smaller chunks need less memory and do not change loss or gradient.
    """

    module: Any
    pooling: Pooling
    normalize: bool
    chunk_tokens: int | None = None

    def init(self, key: PRNGKeyArray) -> Params:
        """Initializes the parameters, float32."""
        return init_params(self.module, key)

    def embed(
        self, params: Params, tokens: Tokens, seed: UInt32[Array, ""] | None = None
    ) -> Float[Array, "B D"]:
        """Embeds texts.

        Args:
          params: Parameters of the encoder.
          tokens: B texts.
          seed: 32 random bits for dropout; None disables dropout.

        Returns:
          Embeddings [B, D], float32.
        """

        def encode(rows: Tokens) -> Float[Array, "R S D"]:
            hidden = self.module.apply({"params": params}, rows, seed=seed)
            return pool(hidden, rows, self.pooling)

        places = encode(tokens) if self.chunk_tokens is None else self._in_chunks(encode, tokens)
        embeddings = gather_texts(places, tokens)
        return normalize(embeddings) if self.normalize else embeddings

    def _in_chunks(self, encode, tokens: Tokens) -> Float[Array, "R S D"]:
        """Encodes chunk by chunk and recomputes each chunk in the backward pass (gradient caching).

        Every chunk takes rows from all blocks, so that no device is idle. Source: Gao et al., 2021,
        arXiv:2101.06983.
        """
        assert self.chunk_tokens is not None
        blocks, (rows, length) = tokens.blocks, tokens.ids.shape
        height = min(max(self.chunk_tokens // length, 1), rows // blocks)
        count = -(-rows // blocks // height)

        def cut(x):
            x = x.reshape(blocks, rows // blocks, *x.shape[1:])
            x = jnp.pad(x, [(0, 0), (0, count * height - x.shape[1])] + [(0, 0)] * (x.ndim - 2))
            x = x.reshape(blocks, count, height, *x.shape[2:])
            return jnp.swapaxes(x, 0, 1).reshape(count, blocks * height, *x.shape[3:])

        by_row = {
            name: cut(jnp.asarray(getattr(tokens, name)))
            for name in ("ids", "segments", "positions", "text_ids")
        }

        @jax.checkpoint
        def chunk(arrays):
            return encode(dataclasses.replace(tokens, **arrays))

        places = jax.lax.map(chunk, by_row)  # [count, blocks * height, S, D]
        places = places.reshape(count, blocks, height, *places.shape[2:])
        places = jnp.swapaxes(places, 0, 1).reshape(blocks, count * height, *places.shape[3:])
        return places[:, : rows // blocks].reshape(rows, *places.shape[2:])


def init_params(module: Any, key: PRNGKeyArray) -> Params:
    """Initializes the parameters of an encoder, float32."""
    ones = jnp.ones((1, 1), jnp.int32)
    tokens = Tokens(ones, ones, ones - 1, ones, jnp.zeros(1, jnp.int32), blocks=1)
    return module.init(key, tokens)["params"]


def shapes_of(module: Any) -> Params:
    """Returns the shapes of an encoder's parameters without allocating them."""
    return jax.eval_shape(lambda: init_params(module, jax.random.key(0)))


def pool(hidden: Float[Array, "R T D"], tokens: Tokens, pooling: Pooling) -> Float[Array, "R S D"]:
    """Pools token vectors into one vector per text slot of each row, in float32.

    For a text with n tokens, mean is (1/n) sum_k h_k, cls is h_1, and last_token is h_n. An empty
    text has the zero vector.

    Args:
      hidden: Token vectors [R, T, D].
      tokens: The R rows of T tokens.
      pooling: "mean", "cls" or "last_token".

    Returns:
      Vectors [R, S, D] of S slots per row; `gather_texts` selects those of the texts.
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
    """Gathers the vector of each text, without communication between the blocks.

    Args:
      places: One vector per text slot of each row [R, S, D].
      tokens: The tokens that were pooled.

    Returns:
      Text vectors [B, D], in the order of the texts.
    """
    by_block = places.reshape(tokens.blocks, -1, places.shape[-1])
    slots = tokens.slots.reshape(tokens.blocks, -1)
    return jax.vmap(lambda text, slot: text[slot])(by_block, slots).reshape(-1, places.shape[-1])

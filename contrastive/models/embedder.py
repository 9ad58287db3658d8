"""Encoder + pooling + normalisation: tokens to embeddings."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt32

from contrastive.losses.similarity import normalize
from contrastive.models.pooling import Pooling, gather_texts, pool
from contrastive.types import Params, Tokens


@dataclasses.dataclass(frozen=True)
class Embedder:
    """A pure function from parameters and tokens to embeddings.

    Attributes:
      module: Flax encoder, tokens to token vectors [R, T, D].
      pooling: How token vectors become a text's.
      normalize: Whether embeddings have unit length.
      chunk_tokens: Tokens a block that are encoded at a time, in whole rows; None is all of them.
        The memory that training takes is that of a chunk; loss and gradient stay as they are.
    """

    module: Any
    pooling: Pooling
    normalize: bool
    chunk_tokens: int | None = None

    def init(self, key: PRNGKeyArray) -> Params:
        """First parameters, float32."""
        return init_params(self.module, key)

    def embed(
        self, params: Params, tokens: Tokens, seed: UInt32[Array, ""] | None = None
    ) -> Float[Array, "B D"]:
        """Embeds texts.

        Args:
          params: The encoder's parameters.
          tokens: B texts.
          seed: 32 random bits for dropout; None embeds without dropout.

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
        """Gradient caching: what a chunk computed is forgotten, and computed again backwards.

        Gao et al., 2021, arXiv:2101.06983. Every chunk takes its rows from all blocks, so that no
        device waits for another.
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
    """First parameters of an encoder, float32."""
    one = jnp.ones((1, 1), jnp.int32)
    tokens = Tokens(one, one, one - 1, one, jnp.zeros(1, jnp.int32), blocks=1)
    return module.init(key, tokens)["params"]


def shapes_of(module: Any) -> Params:
    """Shapes of an encoder's parameters, without making them."""
    return jax.eval_shape(lambda: init_params(module, jax.random.key(0)))

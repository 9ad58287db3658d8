"""Encoder + pooling + normalisation: tokens to embeddings."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from contrastive import config
from contrastive.losses.similarity import normalize
from contrastive.models.pooling import Pooling, pool
from contrastive.models.static import StaticEncoder
from contrastive.models.transformer import TransformerEncoder
from contrastive.types import Params, Tokens


@dataclasses.dataclass(frozen=True)
class Embedder:
    """A pure function from parameters and tokens to embeddings.

    Attributes:
      module: Flax encoder, tokens to token vectors [R, T, D].
      pooling: How token vectors become a text's.
      normalize: Whether embeddings have unit length.
    """

    module: nn.Module
    pooling: Pooling
    normalize: bool

    def init(self, key: PRNGKeyArray) -> Params:
        """First parameters, float32."""
        one = jnp.ones((1, 1), jnp.int32)
        tokens = Tokens(one, one, one, jnp.zeros(1, jnp.int32), texts_per_row=1, blocks=1)
        return self.module.init(key, tokens)["params"]

    def embed(
        self, params: Params, tokens: Tokens, rng: PRNGKeyArray | None = None
    ) -> Float[Array, "B D"]:
        """Embeds texts.

        Args:
          params: The encoder's parameters.
          tokens: B texts.
          rng: Randomness of dropout; None embeds without dropout.

        Returns:
          Embeddings [B, D], float32.
        """
        hidden = self.module.apply(
            {"params": params},
            tokens,
            deterministic=rng is None,
            rngs=None if rng is None else {"dropout": rng},
        )
        embeddings = pool(jnp.asarray(hidden), tokens, self.pooling)
        return normalize(embeddings) if self.normalize else embeddings


def build(
    model: config.Static | config.Transformer,
    *,
    vocab_size: int,
    pooling: Pooling,
    normalize: bool,
) -> Embedder:
    """The embedder a config describes.

    Args:
      model: Config of the encoder.
      vocab_size: Number of vocabulary ids.
      pooling: How token vectors become a text's.
      normalize: Whether embeddings have unit length.

    Returns:
      The embedder, without parameters.
    """
    if isinstance(model, config.Static):
        module = StaticEncoder(vocab_size, model.width)
    else:
        module = TransformerEncoder(
            vocab_size=vocab_size,
            width=model.width,
            depth=model.depth,
            heads=model.heads,
            mlp_width=model.mlp_width,
            dropout=model.dropout,
            dtype=jnp.dtype(model.dtype),
        )
    return Embedder(module, pooling, normalize)

"""The static encoder: one vector per token, without context."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array, Float, UInt32

from contrastive.models.families.family import Compute, Family, HFConfig
from contrastive.types import Tokens


class StaticEncoder(nn.Module):
    """Looks up a vector for each token, independent of the other tokens.

    Attributes:
      vocab_size: Vocabulary size V.
      width: Embedding width, D.
    """

    vocab_size: int
    width: int

    @property
    def max_length(self) -> None:
        """None: texts may have any number of tokens."""
        return

    @nn.compact
    def __call__(
        self, tokens: Tokens, *, seed: UInt32[Array, ""] | None = None
    ) -> Float[Array, "R T D"]:
        del seed  # there is no dropout
        # Small, since the untrained vectors of rare tokens are noise in the mean of a text.
        init = nn.initializers.normal(0.01)
        table = self.param("embedding", init, (self.vocab_size, self.width))
        return table[tokens.ids]


class StaticEmbedding(Family):
    """The family of StaticEmbedding in sentence-transformers: a table of token vectors."""

    model_types: ClassVar[tuple[str, ...]] = ()
    modules: ClassVar[tuple[tuple[str, str], ...]] = ((r"", r"embedding"),)
    prefixes: ClassVar[tuple[str, ...]] = ()
    heads: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def build(cls, config: HFConfig, compute: Compute) -> StaticEncoder:
        del compute  # a table has neither layers nor dropout
        return StaticEncoder(config["vocab_size"], config["hidden_size"])

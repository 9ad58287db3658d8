"""The static encoder: a vector a token, without context."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float, UInt32

from contrastive.models.family import Compute, Family, HFConfig
from contrastive.types import Tokens


class StaticEncoder(nn.Module):
    """Looks each token's vector up; mean pooling then makes a bag of word pieces.

    Attributes:
      vocab_size: Rows of the table, V.
      width: Embedding width, D.
    """

    vocab_size: int
    width: int

    @property
    def max_length(self) -> None:
        """Texts may have any number of tokens."""
        return

    @nn.compact
    def __call__(
        self, tokens: Tokens, *, seed: UInt32[Array, ""] | None = None
    ) -> Float[Array, "R T D"]:
        del seed  # nothing is dropped
        # Small beside what training adds: a rare token's random vector would be noise in the mean.
        init = nn.initializers.normal(0.01)
        table = self.param("embedding", init, (self.vocab_size, self.width))
        return table[tokens.ids]


def _build(config: HFConfig, compute: Compute) -> StaticEncoder:
    del compute  # a table has no layers
    return StaticEncoder(config["vocab_size"], config["hidden_size"])


STATIC = Family(build=_build, modules=((r"", r"embedding"),), prefixes=(), heads=())

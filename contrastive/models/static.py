"""The static encoder: a vector a token, without context."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from contrastive.types import Tokens


class StaticEncoder(nn.Module):
    """Looks each token's vector up; mean pooling then makes a bag of word pieces.

    Attributes:
      vocab_size: Rows of the table, V.
      width: Embedding width, D.
    """

    vocab_size: int
    width: int

    @nn.compact
    def __call__(self, tokens: Tokens, *, deterministic: bool = True) -> Float[Array, "R T D"]:
        del deterministic
        # Small beside what training adds: a rare token's random vector would be noise in the mean.
        init = nn.initializers.normal(0.01)
        table = self.param("embedding", init, (self.vocab_size, self.width))
        return table[tokens.ids]

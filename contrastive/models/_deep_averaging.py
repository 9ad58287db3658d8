"""A bag-of-words encoder: token vectors, each passed through dense layers."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import NonNegativeInt, PositiveInt

from contrastive.models._model import Model

if TYPE_CHECKING:
    from jaxtyping import Array, Float, UInt32

    from contrastive.types import Tokens

__all__ = ["DeepAveraging"]


class DeepAveraging(Model):
    """Mean of token vectors that dense layers have transformed; fast, without word order.

    x_0 = E[token],  x_l = x_(l-1) + tanh(x_(l-1) W_l + b_l),  embedding = mean of x_L over tokens

    The layers are applied before the mean and not after it as in the paper, so that a text's
    embedding remains a mean over its tokens, which is what pooling computes.

    Source:
      Iyyer et al., 2015, doi:10.3115/v1/P15-1162.
    """

    width: PositiveInt = 256
    """Embedding width D."""
    layers: NonNegativeInt = 2
    """Number of dense layers."""

    adds_special_tokens: ClassVar[bool] = False
    poolings: ClassVar[tuple[str, ...]] = ("mean",)

    def build(self, vocab_size: int) -> Any:
        return _encoder()(vocab_size, self.width, self.layers)


@functools.cache
def _encoder() -> Any:
    """Defines the Flax module on first use, so that reading settings does not import Flax."""
    import flax.linen as nn

    class DeepAveragingEncoder(nn.Module):
        """Token vectors through residual dense layers, each token on its own.

        Attributes:
          vocab_size: Vocabulary size V.
          width: Embedding width, D.
          layers: Number of dense layers.
        """

        vocab_size: int
        width: int
        layers: int

        @nn.compact
        def __call__(
            self, tokens: Tokens, *, seed: UInt32[Array, ""] | None = None
        ) -> Float[Array, "R T D"]:
            del seed  # there is no dropout
            # Small, since the untrained vectors of rare tokens are noise in the mean of a text.
            init = nn.initializers.normal(0.01)
            x = self.param("embedding", init, (self.vocab_size, self.width))[tokens.ids]
            for layer in range(self.layers):
                x += nn.tanh(nn.Dense(self.width, name=f"layer_{layer}")(x))
            return x

    return DeepAveragingEncoder

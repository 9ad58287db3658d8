"""Settings of a transformer that is trained from scratch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, PositiveInt

from contrastive.models._model import Model

__all__ = ["Transformer"]

_THETA = 10_000.0


class Transformer(Model):
    """A small pre-norm transformer, trained from scratch and saved as a ModernBERT."""

    width: PositiveInt = 256
    """Embedding width D."""
    depth: PositiveInt = 4
    """Number of layers."""
    heads: PositiveInt = 4
    """Number of attention heads; `width` must be a multiple of twice this."""
    mlp_width: PositiveInt = 512
    """Width of the gated feed-forward layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout rate of embeddings, attention and the feed-forward layer."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype of the layers; parameters, pooling and loss stay float32. float32 layers use
    the backend's default matmul precision: TF32 on recent NVIDIA GPUs, bfloat16 passes on TPUs. Set
    the environment variable JAX_DEFAULT_MATMUL_PRECISION=highest, or JAX's option
    jax_default_matmul_precision, for full float32."""

    @pydantic.model_validator(mode="after")
    def _heads_divide(self):
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width is {self.width}, but {self.heads} heads need a multiple of "
                f"{2 * self.heads}; change width or heads"
            )
        return self

    def build(self, vocab_size: int) -> Any:
        import jax.numpy as jnp

        from contrastive.models.families.modernbert import ModernBertEncoder

        return ModernBertEncoder(self._spec(vocab_size), jnp.dtype(self.dtype))

    def hugging_face(self, vocab_size: int) -> Any:
        from contrastive.models.families.modernbert import ModernBert, hf_config

        return ModernBert, hf_config(self._spec(vocab_size))

    def _spec(self, vocab_size: int) -> Any:
        from contrastive.models.families.modernbert import Spec

        return Spec(
            vocab_size=vocab_size,
            width=self.width,
            heads=self.heads,
            mlp_width=self.mlp_width,
            windows=(None,) * self.depth,
            thetas=(_THETA,) * self.depth,
            embedding_dropout=self.dropout,
            attention_dropout=self.dropout,
            mlp_dropout=self.dropout,
        )

"""The encoder."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import pydantic
from pydantic import Field, PositiveInt
from tyro.conf import Suppress

from contrastive.config.base import Config


class Static(Config):
    """Mean of token vectors: fast, and a sentence-transformers StaticEmbedding once saved."""

    kind: Annotated[Literal["static"], Suppress] = "static"
    width: PositiveInt = 256
    """Embedding width D."""


class Transformer(Config):
    """A small pre-norm transformer from scratch; a ModernBERT once saved."""

    kind: Annotated[Literal["transformer"], Suppress] = "transformer"
    width: PositiveInt = 256
    """Embedding width D."""
    depth: PositiveInt = 4
    """Layers."""
    heads: PositiveInt = 4
    """Attention heads; divide the width into even parts."""
    mlp_width: PositiveInt = 512
    """Width of the gated feed-forward layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of values dropped while training."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What layers compute in; parameters, pooling and loss stay float32. float32 layers multiply
    matrices in the backend's default precision: TF32 on recent NVIDIA GPUs, bfloat16 passes on
    TPUs. JAX_DEFAULT_MATMUL_PRECISION=highest in the environment, JAX's own setting
    jax_default_matmul_precision, makes them whole float32."""

    @pydantic.model_validator(mode="after")
    def _heads_divide(self):
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width is {self.width}, which {self.heads} heads do not divide into even parts; "
                f"make it a multiple of {2 * self.heads}"
            )
        return self


class Checkpoint(Config):
    """Published weights: BERT, RoBERTa, XLM-RoBERTa or ModernBERT in safetensors."""

    kind: Annotated[Literal["checkpoint"], Suppress] = "checkpoint"
    name: str
    """A folder of Hugging Face or sentence-transformers, or a name on the Hub."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    cache_dir: str | None = None
    """Where downloads from the Hub are kept; None is the Hub's own cache."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Replaces every dropout rate of the checkpoint; None keeps its own."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What layers compute in; parameters, pooling and loss stay float32. float32 layers multiply
    matrices in the backend's default precision: TF32 on recent NVIDIA GPUs, bfloat16 passes on
    TPUs. JAX_DEFAULT_MATMUL_PRECISION=highest in the environment, JAX's own setting
    jax_default_matmul_precision, makes them whole float32."""
    remat: bool = False
    """Compute activations again in the backward pass instead of keeping them."""


Model: TypeAlias = Annotated[Static | Transformer | Checkpoint, Field(discriminator="kind")]

"""Settings of a published checkpoint to fine-tune."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contrastive.models._model import Model

__all__ = ["Checkpoint"]


class Checkpoint(Model):
    """A published BERT, RoBERTa, XLM-RoBERTa or ModernBERT checkpoint in safetensors format."""

    name: str
    """Model folder (Hugging Face or sentence-transformers), or a model name on the Hub."""
    revision: str | None = None
    """Branch, tag or commit on the Hub; None is the default branch."""
    cache_dir: str | None = None
    """Folder for downloads from the Hub; None is the Hub's default cache."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Replaces every dropout rate of the checkpoint; None keeps the checkpoint's rates."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype of the layers; parameters, pooling and loss stay float32. float32 layers use
    the backend's default matmul precision: TF32 on recent NVIDIA GPUs, bfloat16 passes on TPUs. Set
    the environment variable JAX_DEFAULT_MATMUL_PRECISION=highest, or JAX's option
    jax_default_matmul_precision, for full float32."""
    remat: bool = False
    """Whether to recompute activations in the backward pass instead of storing them."""

    is_pretrained: ClassVar[bool] = True

"""A model with its tokenizer and settings, as stored in a model folder."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tokenizers

from contrastive.models._model import Model
from contrastive.models.families.family import Family
from contrastive.models.families.static import StaticEmbedding
from contrastive.models.linen.embedder import Pooling
from contrastive.types import Params


@dataclasses.dataclass(frozen=True)
class PretrainedModel:
    """An encoder with its weights, tokenizer and settings.

    Attributes:
      module: Flax encoder.
      family: Family that names the weights in files; None for a custom architecture.
      config: Fields of config.json.
      params: Parameters of the encoder, as NumPy arrays.
      tokenizer: The tokenizer, without truncation and padding.
      names: Special tokens of the tokenizer by role, as in special_tokens_map.json.
      tokenizer_config: Fields of tokenizer_config.json.
      pooling: How token vectors are pooled; None if the folder does not specify it.
      normalize: Whether embeddings have unit length; None if the folder does not specify it.
      query_length: Maximum number of tokens per query.
      document_length: Maximum number of tokens per document.
      query_prompt: Prompt that is prepended to every query.
      document_prompt: Prompt that is prepended to every document.
      temperature: The last training temperature; None if unknown.
      heads: Weights that the encoder does not use, by PyTorch name; they are saved unchanged.
      spec: Settings of a custom architecture; None for architectures of other libraries.
    """

    module: Any
    family: type[Family] | None
    config: dict[str, Any]
    params: Params
    tokenizer: tokenizers.Tokenizer
    names: dict[str, Any]
    tokenizer_config: dict[str, Any]
    pooling: Pooling | None
    normalize: bool | None
    query_length: int
    document_length: int
    query_prompt: str = ""
    document_prompt: str = ""
    temperature: float | None = None
    heads: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    spec: Model | None = None

    @property
    def is_static(self) -> bool:
        """Whether the model is static; sentence-transformers stores such models differently."""
        return self.family is StaticEmbedding

    @property
    def adds_special_tokens(self) -> bool:
        """Whether the tokenizer's special first and last tokens are added to each text."""
        return not self.is_static if self.spec is None else self.spec.adds_special_tokens

"""A model and all that a folder says about it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tokenizers

from contrastive.models.family import Family
from contrastive.models.pooling import Pooling
from contrastive.types import Params


@dataclasses.dataclass(frozen=True)
class Model:
    """An encoder with weights, tokenizer and the words that belong to them.

    Attributes:
      module: Flax encoder.
      family: What its weights are called in files.
      config: Fields of config.json.
      params: The encoder's parameters, NumPy arrays.
      tokenizer: Without truncation and padding.
      names: What the tokenizer's special tokens are called, as in special_tokens_map.json.
      tokenizer_config: Fields of tokenizer_config.json.
      pooling: How token vectors become a text's; None where the folder does not say.
      normalize: Whether embeddings have unit length; None where the folder does not say.
      query_length: Most tokens of a query.
      document_length: Most tokens of a document.
      query_prompt: Put before every query.
      document_prompt: Put before every document.
      temperature: The last it was trained at, None where nobody knows.
      heads: Weights that embedding does not use, by PyTorch's name; they are saved as they were.
    """

    module: Any
    family: Family
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

    @property
    def is_static(self) -> bool:
        """Whether it is a bag of token vectors, which sentence-transformers keeps differently."""
        return "model_type" not in self.config


def largest_id(tokenizer: tokenizers.Tokenizer) -> int:
    """The largest vocabulary id; ids may have gaps."""
    return max(tokenizer.get_vocab().values())

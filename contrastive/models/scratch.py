"""Encoders that are trained from scratch."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from contrastive import config
from contrastive.models import modernbert
from contrastive.models.family import Family
from contrastive.models.static import STATIC, StaticEncoder

_THETA = 10_000.0


class Architecture(NamedTuple):
    """A module, what its weights are called in files, and its config.json."""

    module: Any
    family: Family
    config: dict[str, Any]


def from_scratch(model: config.Static | config.Transformer, vocab_size: int) -> Architecture:
    """The encoder a config describes, without parameters.

    Args:
      model: Its config.
      vocab_size: Number of vocabulary ids.

    Returns:
      The architecture.
    """
    if isinstance(model, config.Static):
        fields = {"vocab_size": vocab_size, "hidden_size": model.width}
        return Architecture(StaticEncoder(vocab_size, model.width), STATIC, fields)
    spec = modernbert.Spec(
        vocab_size=vocab_size,
        width=model.width,
        heads=model.heads,
        mlp_width=model.mlp_width,
        windows=(None,) * model.depth,
        thetas=(_THETA,) * model.depth,
        embedding_dropout=model.dropout,
        attention_dropout=model.dropout,
        mlp_dropout=model.dropout,
    )
    module = modernbert.ModernBert(spec, jnp.dtype(model.dtype))
    return Architecture(module, modernbert.MODERNBERT, modernbert.hf_config(spec))

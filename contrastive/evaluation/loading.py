"""From a model folder to an encoder with its parameters."""

from __future__ import annotations

from pathlib import Path

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from contrastive import config
from contrastive.data.tokenization import Tokenizer
from contrastive.evaluation.encoder import Encoder
from contrastive.interop import sentence_transformers
from contrastive.models.embedder import build
from contrastive.types import Params


def load(folder: Path, mesh: Mesh) -> tuple[Encoder, Params]:
    """Loads the model of a run.

    Args:
      folder: A run's folder, or the model folder in it.
      mesh: Devices to embed on.

    Returns:
      The encoder and its parameters, on every device.

    Raises:
      FolderError: Naming the file that is missing or does not fit.
    """
    inside = folder / "model"
    saved = sentence_transformers.load(inside if inside.is_dir() else folder)
    static = isinstance(saved.model, config.Static)
    tokenizer = Tokenizer(saved.tokenizer, special_tokens=not static, names=saved.names)
    embedder = build(
        saved.model,
        vocab_size=tokenizer.vocab_size,
        pooling=saved.pooling,
        normalize=saved.normalize,
    )
    encoder = Encoder(
        embedder,
        tokenizer,
        query_length=saved.query_length,
        document_length=saved.document_length,
        mesh=mesh,
    )
    return encoder, jax.device_put(saved.params, NamedSharding(mesh, PartitionSpec()))

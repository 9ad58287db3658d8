"""From a model folder to an encoder with its parameters."""

from __future__ import annotations

from pathlib import Path

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from contrastive.data.tokenization import Tokenizer
from contrastive.errors import FolderError
from contrastive.evaluation.encoder import Encoder
from contrastive.interop.reading import load as load_model
from contrastive.models.embedder import Embedder
from contrastive.models.pooling import Pooling
from contrastive.types import Params


def load(folder: Path, mesh: Mesh, pooling: Pooling | None = None) -> tuple[Encoder, Params]:
    """Loads a model to encode with.

    Args:
      folder: A run's folder, or a model folder: ours, sentence-transformers' or Hugging Face's.
      mesh: Devices to embed on.
      pooling: For a folder that does not say how it pools.

    Returns:
      The encoder and its parameters, on every device.

    Raises:
      FolderError: Naming the file that is missing or does not fit.
    """
    inside = folder / "model"
    model = load_model(inside if inside.is_dir() else folder)
    if pooling is None and model.pooling is None:
        raise FolderError(f"{folder} does not say how it pools; choose mean, cls or last_token")
    if pooling and model.pooling not in (None, pooling):
        raise FolderError(f"{folder} says that it pools by {model.pooling}, not by {pooling}")
    encoder = Encoder(
        Embedder(model.module, pooling or model.pooling or "mean", model.normalize is not False),
        Tokenizer(model.tokenizer, special_tokens=not model.is_static, names=model.names),
        query_length=model.query_length,
        document_length=model.document_length,
        mesh=mesh,
        query_prompt=model.query_prompt,
        document_prompt=model.document_prompt,
    )
    return encoder, jax.device_put(model.params, NamedSharding(mesh, PartitionSpec()))

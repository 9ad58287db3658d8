"""Creates the initial model of a run from its config."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tokenizers

from contrastive.data.config import Data
from contrastive.data.tokenizers import open_tokenizer
from contrastive.errors import ConfigError
from contrastive.interop.guide import Guide
from contrastive.interop.hf_import import files_read, load
from contrastive.interop.pretrained import PretrainedModel
from contrastive.interop.run_model import model_folder
from contrastive.models._checkpoint import Checkpoint
from contrastive.models._model import Model
from contrastive.models.families.family import Compute
from contrastive.models.linen.embedder import Embedder, Pooling, init_params
from contrastive.sources._examples import Examples
from contrastive.types import Params

_TEXTS = ("query", "document")


@dataclasses.dataclass(frozen=True)
class InitialModel:
    """The model that training starts from.

    Attributes:
      model: The model with the lengths and prompts of the run, but without parameters.
      params: Parameters of the checkpoint; None for a model that is trained from scratch.
      fingerprint: Digest of the checkpoint files or the tokenizer.
      notices: Messages about differences between the run and the checkpoint.
    """

    model: PretrainedModel
    params: Params | None
    fingerprint: str
    notices: tuple[str, ...] = ()

    def init(self, seed: int) -> Params:
        """Returns the initial parameters, a pure function of the seed."""
        if self.params is not None:
            return self.params
        return init_params(self.model.module, jax.random.key(seed))


def initial_model(
    spec: Model,
    data: Data,
    examples: Examples,
    *,
    pooling: Pooling | None,
    normalize: bool,
) -> InitialModel:
    """Loads a checkpoint, or builds an encoder from scratch, with its tokenizer.

    Args:
      spec: Settings of the encoder.
      data: Settings of the tokenizer, lengths and prompts.
      examples: Training examples, to train a tokenizer on.
      pooling: How token vectors are pooled; None is the checkpoint's pooling, or the mean.
      normalize: Whether embeddings have unit length.

    Returns:
      The model that training starts from.

    Raises:
      FolderError: If the checkpoint cannot be loaded.
      ConfigError: If the settings do not fit the checkpoint.
    """
    if isinstance(spec, Checkpoint):
        return _checkpoint(spec, data, pooling, normalize)
    tokenizer = open_tokenizer(data, examples, special_tokens=spec.adds_special_tokens)
    vocab_size = tokenizer.vocab_size
    family, config = spec.hugging_face(vocab_size) or (None, {"vocab_size": vocab_size})
    model = PretrainedModel(
        module=spec.build(vocab_size),
        family=family,
        config=config,
        params={},
        tokenizer=tokenizer.backend,
        names=tokenizer.names,
        tokenizer_config={},
        pooling=pooling or "mean",
        normalize=normalize,
        query_length=data.query_max_length,
        document_length=data.document_max_length,
        query_prompt=data.query_prompt or "",
        document_prompt=data.document_prompt or "",
        spec=spec if family is None else None,
    )
    _check_lengths(model)
    return InitialModel(model, None, tokenizer.fingerprint)


def _checkpoint(
    spec: Checkpoint, data: Data, pooling: Pooling | None, normalize: bool
) -> InitialModel:
    folder = model_folder(spec.name, revision=spec.revision, cache_dir=spec.cache_dir)
    loaded = load(folder, Compute(jnp.dtype(spec.dtype), spec.dropout, spec.remat))
    pooling = pooling or loaded.pooling
    if pooling is None:
        raise ConfigError(
            f"is not set, and {folder} does not specify it; choose mean, cls or last_token",
            field="pooling",
        )
    prompts = {
        name: default if prompt is None else prompt
        for name, prompt, default in (
            ("query_prompt", data.query_prompt, loaded.query_prompt),
            ("document_prompt", data.document_prompt, loaded.document_prompt),
        )
    }
    model = dataclasses.replace(
        loaded,
        params={},
        pooling=pooling,
        normalize=normalize,
        query_length=data.query_max_length,
        document_length=data.document_max_length,
        **prompts,
    )
    _check_lengths(model)
    notices = tuple(_changes(folder, loaded, model))
    return InitialModel(model, loaded.params, _digest(folder), notices)


@dataclasses.dataclass(frozen=True)
class LoadedGuide:
    """A frozen encoder that embeds the training tokens.

    Attributes:
      embedder: Maps tokens to normalized embeddings.
      params: Parameters of the guide.
      fingerprint: Digest of the guide's files.
      notices: Messages about differences between the run and the guide.
    """

    embedder: Embedder
    params: Params
    fingerprint: str
    notices: tuple[str, ...]


def load_guide(guide: Guide, trained: PretrainedModel, chunk_tokens: int | None) -> LoadedGuide:
    """Loads the frozen encoder that detects false negatives.

    Args:
      guide: Settings of the guide.
      trained: The model that is trained, whose tokens the guide reads.
      chunk_tokens: As in `Embedder`.

    Returns:
      The guide.

    Raises:
      FolderError: If the checkpoint cannot be loaded.
      ConfigError: If the guide has no pooling, another tokenizer, or too few positions.
    """
    folder = model_folder(guide.name, revision=guide.revision, cache_dir=guide.cache_dir)
    loaded = load(folder, Compute(jnp.dtype(guide.dtype)))
    if loaded.pooling is None:
        raise ConfigError(
            f"is {folder}, which does not specify its pooling; choose another guide",
            field="loss.guide",
        )
    if loaded.adds_special_tokens != trained.adds_special_tokens:
        raise ConfigError(
            f"is {folder}, but only one of the guide and the trained model adds special tokens to "
            "texts; choose a guide that treats special tokens like the trained model",
            field="loss.guide",
        )
    if _tokenization(loaded.tokenizer) != _tokenization(trained.tokenizer):
        raise ConfigError(
            f"is {folder}, whose tokenizer differs from that of the trained model; choose a guide "
            "with the same tokenizer",
            field="loss.guide",
        )
    lengths = {f"{name}_length": getattr(trained, f"{name}_length") for name in _TEXTS}
    _check_lengths(dataclasses.replace(loaded, **lengths))
    prompts = {name: getattr(loaded, f"{name}_prompt") for name in _TEXTS}
    notices = [
        f"the guide {folder} has the {name} prompt {prompt!r}, but this run does not add it"
        for name, prompt in prompts.items()
        if prompt and prompt != getattr(trained, f"{name}_prompt")
    ]
    embedder = Embedder(loaded.module, loaded.pooling, normalize=True, chunk_tokens=chunk_tokens)
    return LoadedGuide(embedder, loaded.params, _digest(folder), tuple(notices))


def _tokenization(tokenizer: tokenizers.Tokenizer) -> dict[str, Any]:
    """Returns the settings that determine the token ids of a text."""
    settings = json.loads(tokenizer.to_str())
    names = ("added_tokens", "normalizer", "pre_tokenizer", "model", "post_processor")
    return {name: settings[name] for name in names}


def _changes(folder: Path, loaded: PretrainedModel, model: PretrainedModel) -> Iterator[str]:
    """Yields the differences between the settings of the run and of the checkpoint."""
    for label, name in (
        ("pooling", "pooling"),
        ("query prompt", "query_prompt"),
        ("document prompt", "document_prompt"),
    ):
        old, new = getattr(loaded, name), getattr(model, name)
        if old is not None and old != new:
            yield f"the {label} of {folder} is {old!r}, but this run uses {new!r}"
    if loaded.normalize is False and model.normalize:
        yield f"{folder} does not normalize embeddings, but this run does"


def _check_lengths(model: PretrainedModel) -> None:
    limit = getattr(model.module, "max_length", None)
    for name in _TEXTS:
        length = getattr(model, f"{name}_length")
        if limit is not None and length > limit:
            raise ConfigError(
                f"is {length}, but the model has positions for {limit} tokens; lower it to {limit} "
                "or less",
                field=f"data.{name}_max_length",
            )


def _digest(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in files_read(folder):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()

"""From a config to the model that is trained."""

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

from contrastive import config
from contrastive.data.example import Source
from contrastive.data.opening import open_tokenizer
from contrastive.errors import ConfigError
from contrastive.interop.hub import local_folder
from contrastive.interop.model import Model
from contrastive.interop.reading import files_read, load
from contrastive.models.embedder import Embedder, init_params
from contrastive.models.family import Compute
from contrastive.models.scratch import from_scratch
from contrastive.types import Params

_TEXTS = ("query", "document")


@dataclasses.dataclass(frozen=True)
class Start:
    """Where training starts from.

    Attributes:
      model: Without parameters, its lengths and prompts those of the run.
      params: Of a checkpoint; None for a model from scratch.
      fingerprint: A digest of what `model` names but does not hold.
      notices: What a user may not expect.
    """

    model: Model
    params: Params | None
    fingerprint: str
    notices: tuple[str, ...] = ()

    def init(self, seed: int) -> Params:
        """First parameters, NumPy arrays; a pure function of the seed."""
        if self.params is not None:
            return self.params
        return init_params(self.model.module, jax.random.key(seed))


def open_model(experiment: config.Experiment, source: Source) -> Start:
    """Loads a checkpoint, or builds an encoder from scratch with its tokenizer.

    Args:
      experiment: Its model, tokenizer, pooling, lengths and prompts.
      source: Training examples, for a tokenizer that is trained on them.

    Returns:
      The start of the run.

    Raises:
      FolderError: For a checkpoint that cannot be loaded.
      ConfigError: For settings that do not fit the checkpoint.
    """
    if isinstance(experiment.model, config.Checkpoint):
        return _checkpoint(experiment, experiment.model)
    data, static = experiment.data, isinstance(experiment.model, config.Static)
    tokenizer = open_tokenizer(data, source, special_tokens=not static)
    made = from_scratch(experiment.model, tokenizer.vocab_size)
    model = Model(
        module=made.module,
        family=made.family,
        config=made.config,
        params={},
        tokenizer=tokenizer.backend,
        names=tokenizer.names,
        tokenizer_config={},
        pooling=experiment.pooling or "mean",
        normalize=experiment.normalize,
        query_length=data.query_max_length,
        document_length=data.document_max_length,
        query_prompt=data.query_prompt or "",
        document_prompt=data.document_prompt or "",
    )
    _check_lengths(model)
    return Start(model, None, tokenizer.fingerprint)


def _checkpoint(experiment: config.Experiment, chosen: config.Checkpoint) -> Start:
    folder = local_folder(chosen.name, revision=chosen.revision, cache_dir=chosen.cache_dir)
    found = load(folder, Compute(jnp.dtype(chosen.dtype), chosen.dropout, chosen.remat))
    pooling = experiment.pooling or found.pooling
    if pooling is None:
        raise ConfigError(
            f"{folder} does not say how it pools; set pooling to mean, cls or last_token"
        )
    data = experiment.data
    prompts = {
        name: found_prompt if prompt is None else prompt
        for name, prompt, found_prompt in (
            ("query_prompt", data.query_prompt, found.query_prompt),
            ("document_prompt", data.document_prompt, found.document_prompt),
        )
    }
    model = dataclasses.replace(
        found,
        params={},
        pooling=pooling,
        normalize=experiment.normalize,
        query_length=data.query_max_length,
        document_length=data.document_max_length,
        **prompts,
    )
    _check_lengths(model)
    return Start(model, found.params, _digest(folder), tuple(_changes(folder, found, model)))


@dataclasses.dataclass(frozen=True)
class Guide:
    """A frozen encoder of the tokens that are trained on.

    Attributes:
      embedder: Tokens to embeddings, normalised.
      params: Its parameters.
      fingerprint: A digest of its files.
      notices: What a user may not expect.
    """

    embedder: Embedder
    params: Params
    fingerprint: str
    notices: tuple[str, ...]


def open_guide(wanted: config.Guide, trained: Model, chunk_tokens: int | None) -> Guide:
    """Loads the encoder that says which negatives are false.

    Args:
      wanted: Which.
      trained: The model that is trained, whose tokens the guide reads.
      chunk_tokens: As in `Embedder`.

    Returns:
      The guide.

    Raises:
      FolderError: For a checkpoint that cannot be loaded.
      ConfigError: For another tokenizer, or lengths that it has no positions for.
    """
    folder = local_folder(wanted.name, revision=wanted.revision, cache_dir=wanted.cache_dir)
    found = load(folder, Compute(jnp.dtype(wanted.dtype)))
    if found.pooling is None:
        raise ConfigError(f"loss.guide: {folder} does not say how it pools; take another guide")
    if found.is_static != trained.is_static:
        raise ConfigError(
            f"loss.guide: of {folder} and the model that is trained one is static and reads texts "
            "without first and last tokens; take a guide of the same kind"
        )
    if _reads(found.tokenizer) != _reads(trained.tokenizer):
        raise ConfigError(
            f"loss.guide: {folder} has another tokenizer than the model that is trained, whose "
            "tokens it would read; take a guide with the same one"
        )
    lengths = {f"{name}_length": getattr(trained, f"{name}_length") for name in _TEXTS}
    _check_lengths(dataclasses.replace(found, **lengths))
    prompts = {name: getattr(found, f"{name}_prompt") for name in _TEXTS}
    notices = [
        f"the guide {folder} has the {name} prompt {own!r}, but reads this run's texts as they are"
        for name, own in prompts.items()
        if own and own != getattr(trained, f"{name}_prompt")
    ]
    embedder = Embedder(found.module, found.pooling, normalize=True, chunk_tokens=chunk_tokens)
    return Guide(embedder, found.params, _digest(folder), tuple(notices))


def _reads(tokenizer: tokenizers.Tokenizer) -> dict[str, Any]:
    """What decides which ids a text becomes."""
    said = json.loads(tokenizer.to_str())
    names = ("added_tokens", "normalizer", "pre_tokenizer", "model", "post_processor")
    return {name: said[name] for name in names}


def _changes(folder: Path, found: Model, model: Model) -> Iterator[str]:
    """Where the run departs from what the checkpoint says of itself."""
    for what, name in (
        ("pooling", "pooling"),
        ("query prompt", "query_prompt"),
        ("document prompt", "document_prompt"),
    ):
        own, new = getattr(found, name), getattr(model, name)
        if own is not None and own != new:
            yield f"the {what} of {folder} is {own!r}; this run has {new!r}"
    if found.normalize is False and model.normalize:
        yield f"embeddings of {folder} are not normalised; this run's are"


def _check_lengths(model: Model) -> None:
    most = model.module.max_length
    for name in _TEXTS:
        length = getattr(model, f"{name}_length")
        if most is not None and length > most:
            raise ConfigError(
                f"data.{name}_max_length is {length}, but the model has positions for {most} "
                f"tokens; lower it to {most} or less"
            )


def _digest(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in files_read(folder):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()

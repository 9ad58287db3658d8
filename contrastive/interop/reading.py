"""Model folders in: plain Hugging Face, sentence-transformers, and our own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import normalizers

from contrastive.errors import ConfigError, FolderError
from contrastive.interop.model import Model, largest_id
from contrastive.interop.weights import FILE, from_torch, read_json, read_weights, weight_files
from contrastive.models.embedder import shapes_of
from contrastive.models.families import family_of
from contrastive.models.family import Compute
from contrastive.models.pooling import Pooling
from contrastive.models.static import STATIC

OURS = "contrastive.json"
_SENTENCE_TRANSFORMERS = "config_sentence_transformers.json"
_TOKENIZER_OPTIONS = ("tokenizer_config.json", "special_tokens_map.json")
_OF_TEXTS = "sentence_*_config.json"  # bert, in older folders roberta and the like
_UNLIMITED = 1 << 20  # tokenizer_config.json says 10^30 where there is no limit
_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last_token",
    "cls": "cls",
    "mean": "mean",
    "lasttoken": "last_token",
}
_STATIC_LENGTH = 512  # a bag of token vectors has no length of its own


def load(folder: Path, compute: Compute | None = None) -> Model:
    """Loads a folder with config.json, safetensors and a tokenizer.

    Pooling, normalisation, prompts and lengths come from the files of sentence-transformers where
    they are there.

    Args:
      folder: The folder.
      compute: What layers compute in, and dropout.

    Returns:
      The model.

    Raises:
      FolderError: Naming the file that is missing or broken, or every weight that does not fit.
      ConfigError: For an architecture, or a setting of it, that is not supported.
    """
    if not folder.is_dir():
        raise FolderError(f"{folder}: no such folder")
    modules = _modules(folder)
    weights_in = _weights_in(folder, modules)
    static = "StaticEmbedding" in modules
    family, config = _architecture(weights_in, static)
    try:
        module = family.build(config, compute or Compute())
    except KeyError as error:
        raise FolderError(f"{weights_in / 'config.json'}: {error} is missing") from None
    except ConfigError as error:
        raise ConfigError(f"{weights_in / 'config.json'}: {error}") from None
    weights = read_weights(weights_in)
    try:
        params, heads = from_torch(weights, family, shapes_of(module))
    except ValueError as error:
        raise FolderError(f"{weights_in}: {error}") from None
    tokenizer, names, tokenizer_config = _tokenizer(weights_in, module.vocab_size)
    said = _said_of_texts(weights_in)
    length = _length(said, tokenizer_config, module.max_length)
    if said.get("do_lower_case") and not _lower_cases(tokenizer):
        own = [tokenizer.normalizer] if tokenizer.normalizer else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
        tokenizer_config = {}  # transformers' class of the tokenizer would make the old one again
    ours = read_json(folder / OURS) if (folder / OURS).is_file() else {}
    query_prompt, document_prompt = _prompts(folder)
    return Model(
        module=module,
        family=family,
        config=config,
        params=params,
        tokenizer=tokenizer,
        names=names,
        tokenizer_config=tokenizer_config,
        pooling="mean" if static else _pooling(folder, modules),
        normalize="Normalize" in modules if modules else None,
        query_length=ours.get("query_length", length),
        document_length=ours.get("document_length", length),
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        temperature=ours.get("temperature"),
        heads=heads,
    )


def files_read(folder: Path) -> list[Path]:
    """The files that decide what `load` returns.

    Args:
      folder: One that can be loaded.

    Returns:
      Their paths, sorted.
    """
    modules = _modules(folder)
    weights_in = _weights_in(folder, modules)
    paths = [
        *(folder / name for name in ("modules.json", _SENTENCE_TRANSFORMERS, OURS)),
        *(weights_in / name for name in ("config.json", "tokenizer.json", *_TOKENIZER_OPTIONS)),
        *weights_in.glob(_OF_TEXTS),
        *weight_files(weights_in),
    ]
    if "Pooling" in modules:
        paths.append(folder / modules["Pooling"] / "config.json")
    return sorted(path for path in set(paths) if path.is_file())


def _weights_in(folder: Path, modules: Mapping[str, str]) -> Path:
    return folder / modules.get("Transformer", modules.get("StaticEmbedding", ""))


def _modules(folder: Path) -> dict[str, str]:
    """Modules of a sentence-transformers folder by type, with their paths; none in a plain one."""
    path = folder / "modules.json"
    if not path.is_file():
        return {}
    known = ("Transformer", "StaticEmbedding", "Pooling", "Normalize")
    modules = {entry["type"].rpartition(".")[2]: entry["path"] for entry in read_json(path)}
    if unknown := set(modules) - set(known):
        raise FolderError(
            f"{path} has a module {', '.join(sorted(unknown))}, which is not supported; "
            f"supported are {', '.join(known)}"
        )
    return modules


def _architecture(folder: Path, static: bool):
    if static:
        weights = read_weights(folder).get("embedding.weight")
        if weights is None:
            raise FolderError(f"{folder / FILE}: embedding.weight is missing")
        vocab_size, width = weights.shape
        return STATIC, {"vocab_size": vocab_size, "hidden_size": width}
    config = read_json(folder / "config.json")
    try:
        return family_of(config), config
    except ConfigError as error:
        raise ConfigError(f"{folder / 'config.json'}: {error}") from None


def _pooling(folder: Path, modules: Mapping[str, str]) -> Pooling | None:
    if "Pooling" not in modules:
        return None
    path = folder / modules["Pooling"] / "config.json"
    config = read_json(path)
    mode = config.get("pooling_mode")  # newer folders name it, older ones have a switch for each
    named = [mode] if isinstance(mode, str) else list(mode or ())
    switched = [name for name, on in config.items() if name.startswith("pooling_mode_") and on]
    chosen = switched or named
    if len(chosen) != 1 or chosen[0] not in _POOLINGS:
        raise FolderError(
            f"{path} pools by {', '.join(chosen) or 'nothing'}; supported is one of "
            f"{', '.join(_POOLINGS)}"
        )
    if config.get("include_prompt") is False and any(_prompts(folder)):
        raise FolderError(f"{path}: include_prompt is false, which is not supported with prompts")
    return _POOLINGS[chosen[0]]


def _prompts(folder: Path) -> tuple[str, str]:
    path = folder / _SENTENCE_TRANSFORMERS
    if not path.is_file():
        return "", ""
    config = read_json(path)
    prompts: dict[str, str] = config.get("prompts") or {}
    default = prompts.get(config.get("default_prompt_name") or "", "")
    document = prompts.get("document", prompts.get("passage", default))
    return prompts.get("query", default), document


def _tokenizer(folder: Path, vocab_size: int):
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise FolderError(
            f"{path}: no such file; a folder with an older tokenizer gets one by\n"
            f'  python -c "from transformers import AutoTokenizer; '
            f'AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"'
        )
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exceptions
        raise FolderError(f"{path} cannot be read: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if largest_id(tokenizer) >= vocab_size:
        raise FolderError(
            f"{path} has ids up to {largest_id(tokenizer)} but the model {vocab_size} embeddings; "
            "they do not belong together"
        )
    config, special = (_optional(folder / name) for name in _TOKENIZER_OPTIONS)
    names = special or {
        name: value
        for name, value in config.items()
        if name.endswith("_token") and isinstance(value, str | Mapping)  # add_bos_token is neither
    }
    plain = {n: t["content"] if isinstance(t, Mapping) else t for n, t in names.items()}
    return tokenizer, plain, config


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _said_of_texts(folder: Path) -> dict[str, Any]:
    paths = sorted(folder.glob(_OF_TEXTS))
    return read_json(paths[0]) if paths else {}


def _lower_cases(tokenizer: tokenizers.Tokenizer) -> bool:
    """Whether it does by itself what do_lower_case asks for; BERT's uncased ones do."""
    normalizer = tokenizer.normalizer
    return normalizer is not None and normalizer.normalize_str("Aa").endswith("aa")


def _length(
    said: Mapping[str, Any], tokenizer_config: Mapping[str, Any], positions: int | None
) -> int:
    """Most tokens: as sentence-transformers says, else the tokenizer; no more than positions."""
    most = said.get("max_seq_length") or tokenizer_config.get("model_max_length") or _UNLIMITED
    length = min(int(most), positions or _UNLIMITED)
    return length if length < _UNLIMITED else _STATIC_LENGTH

"""Import of model folders: plain Hugging Face, sentence-transformers, and this library's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import normalizers

from contrastive.errors import ConfigError, FolderError
from contrastive.interop.pretrained import PretrainedModel, largest_id
from contrastive.interop.weights import FILE, from_torch, read_json, read_weights, weight_files
from contrastive.models._model import Model
from contrastive.models.families.family import Compute, family_of
from contrastive.models.families.static import StaticEmbedding
from contrastive.models.linen.embedder import Pooling, shapes_of
from contrastive.parts import KIND

OURS = "contrastive.json"
_SENTENCE_TRANSFORMERS = "config_sentence_transformers.json"
_TOKENIZER_OPTIONS = ("tokenizer_config.json", "special_tokens_map.json")
_OF_TEXTS = (
    "sentence_*_config.json"  # sentence_bert_config.json; in older folders also roberta, etc.
)
_UNLIMITED = 1 << 20  # tokenizer_config.json contains 10^30 if there is no limit
_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last_token",
    "cls": "cls",
    "mean": "mean",
    "lasttoken": "last_token",
}
_STATIC_LENGTH = 512  # default for static encoders, which have no maximum length


def load(folder: Path, compute: Compute | None = None) -> PretrainedModel:
    """Loads a model folder with config.json, safetensors weights and a tokenizer.

    Pooling, normalization, prompts and lengths come from the files of sentence-transformers, if
    there are any.

    Args:
      folder: The model folder.
      compute: Dtype, dropout and rematerialization; None is the default `Compute`.

    Returns:
      The model.

    Raises:
      FolderError: If a file is missing or invalid, or if weights do not match config.json.
      ConfigError: If the architecture or one of its settings is not supported.
    """
    if not folder.is_dir():
        raise FolderError(f"{folder}: no such folder; give the path of a model folder")
    ours = read_json(folder / OURS) if (folder / OURS).is_file() else {}
    if "model" in ours:
        return _load_own(folder, ours)
    modules = _modules(folder)
    weights_in = _weights_in(folder, modules)
    static = "StaticEmbedding" in modules
    family, config = _architecture(weights_in, static)
    try:
        module = family.build(config, compute or Compute())
    except KeyError as error:
        raise FolderError(
            f"{weights_in / 'config.json'}: field {error} is missing; add it"
        ) from None
    except ConfigError as error:
        raise ConfigError(f"{weights_in / 'config.json'}: {error}") from None
    weights = read_weights(weights_in)
    try:
        params, heads = from_torch(weights, family, shapes_of(module))
    except ValueError as error:
        raise FolderError(f"{weights_in}: {error}") from None
    tokenizer, names, tokenizer_config = _tokenizer(weights_in, module.vocab_size)
    text_config = _text_config(weights_in)
    length = _length(text_config, tokenizer_config, module.max_length)
    if text_config.get("do_lower_case") and not _lower_cases(tokenizer):
        original = [tokenizer.normalizer] if tokenizer.normalizer else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *original])
        tokenizer_config = {}  # its tokenizer class would rebuild the original normalizer
    query_prompt, document_prompt = _prompts(folder)
    return PretrainedModel(
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


def _load_own(folder: Path, ours: dict[str, Any]) -> PretrainedModel:
    """Loads a custom architecture, which a registered `Model` builds."""
    kind = ours["model"].get(KIND)
    known = Model.known()
    if kind not in known:
        module = str(kind).partition(":")[0]
        raise FolderError(
            f"{folder} contains a model of {kind}, which was not imported; for security, loading a "
            f"folder does not import code. Import {module} in Python first, or pass the file that "
            "defines it to the command with --parts FILE.py"
        )
    try:
        spec = known[kind](**ours["model"])
    except ConfigError as error:
        raise FolderError(f"{folder / OURS}: {error}") from None
    module = spec.build(ours["vocab_size"])
    weights = read_weights(folder)
    try:
        params, _ = from_torch(weights, None, shapes_of(module))
    except ValueError as error:
        raise FolderError(f"{folder}: {error}") from None
    tokenizer, names, tokenizer_config = _tokenizer(folder, ours["vocab_size"])
    query_prompt, document_prompt = _prompts(folder)
    return PretrainedModel(
        module=module,
        family=None,
        config={"vocab_size": ours["vocab_size"]},
        params=params,
        tokenizer=tokenizer,
        names=names,
        tokenizer_config=tokenizer_config,
        pooling=ours["pooling"],
        normalize=ours["normalize"],
        query_length=ours["query_length"],
        document_length=ours["document_length"],
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        temperature=ours.get("temperature"),
        spec=spec,
    )


def files_read(folder: Path) -> list[Path]:
    """Returns the files that `load` reads.

    Args:
      folder: A folder that can be loaded.

    Returns:
      Paths of the files, sorted.
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
    """Returns module paths of a sentence-transformers folder by type; empty for other folders."""
    path = folder / "modules.json"
    if not path.is_file():
        return {}
    known = ("Transformer", "StaticEmbedding", "Pooling", "Normalize")
    modules = {entry["type"].rpartition(".")[2]: entry["path"] for entry in read_json(path)}
    if unknown := set(modules) - set(known):
        raise FolderError(
            f"{path} contains {', '.join(sorted(unknown))}, which is not supported; choose a model "
            f"whose modules are among {', '.join(known)}"
        )
    return modules


def _architecture(folder: Path, static: bool):
    if static:
        weights = read_weights(folder).get("embedding.weight")
        if weights is None:
            raise FolderError(f"{folder / FILE}: embedding.weight is missing; download it again")
        vocab_size, width = weights.shape
        return StaticEmbedding, {"vocab_size": vocab_size, "hidden_size": width}
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
    mode = config.get("pooling_mode")  # newer folders; older ones have one flag per mode
    modes = [mode] if isinstance(mode, str) else list(mode or ())
    flags = [name for name, on in config.items() if name.startswith("pooling_mode_") and on]
    chosen = flags or modes
    if len(chosen) != 1 or chosen[0] not in _POOLINGS:
        raise FolderError(
            f"{path} specifies the pooling {', '.join(chosen) or 'nothing'}; exactly one of "
            f"{', '.join(_POOLINGS)} is supported"
        )
    if config.get("include_prompt") is False and any(_prompts(folder)):
        raise FolderError(
            f"{path}: include_prompt is false, which is not supported with prompts; remove the "
            f"prompts from {folder / _SENTENCE_TRANSFORMERS} or set include_prompt to true"
        )
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
            f"{path}: no such file; convert an older tokenizer with\n"
            f'  python -c "from transformers import AutoTokenizer; '
            f'AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"'
        )
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exceptions
        raise FolderError(f"{path} cannot be read: {error}; copy or download it again") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if largest_id(tokenizer) >= vocab_size:
        raise FolderError(
            f"{path} has ids up to {largest_id(tokenizer)}, but the model has {vocab_size} "
            "embeddings, so they do not belong together; use the tokenizer of this model"
        )
    config, special = (_optional(folder / name) for name in _TOKENIZER_OPTIONS)
    names = special or {
        name: value
        for name, value in config.items()
        if name.endswith("_token")
        and isinstance(value, str | Mapping)  # excludes the Boolean add_bos_token
    }
    strings = {n: t["content"] if isinstance(t, Mapping) else t for n, t in names.items()}
    return tokenizer, strings, config


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _text_config(folder: Path) -> dict[str, Any]:
    paths = sorted(folder.glob(_OF_TEXTS))
    return read_json(paths[0]) if paths else {}


def _lower_cases(tokenizer: tokenizers.Tokenizer) -> bool:
    """Returns whether the tokenizer already lowercases, as those of uncased BERTs do."""
    normalizer = tokenizer.normalizer
    return normalizer is not None and normalizer.normalize_str("Aa").endswith("aa")


def _length(
    text_config: Mapping[str, Any], tokenizer_config: Mapping[str, Any], positions: int | None
) -> int:
    """Returns the maximum length of sentence-transformers or the tokenizer, within `positions`."""
    limit = text_config.get("max_seq_length") or tokenizer_config.get("model_max_length")
    length = min(int(limit or _UNLIMITED), positions or _UNLIMITED)
    return length if length < _UNLIMITED else _STATIC_LENGTH

"""Import of model folders: plain Hugging Face, sentence-transformers, and this library's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import normalizers

from contrastive.digests import changed
from contrastive.errors import ConfigError, FolderError
from contrastive.interop.model_files import (
    OURS,
    SENTENCE_TRANSFORMERS,
    OurFile,
    SpecialToken,
    TextFile,
    TokenizerFile,
    read_optional,
    read_ours,
)
from contrastive.interop.modules import modules_of, prompts_of, stored_pooling
from contrastive.interop.pretrained import PretrainedModel
from contrastive.interop.tokenizer_files import open_tokenizer
from contrastive.interop.weights import FILE, from_torch, read_weights, weight_files
from contrastive.json_files import checked, read_json
from contrastive.models._model import Model
from contrastive.models.families.family import Compute, family_of
from contrastive.models.families.static import StaticEmbedding
from contrastive.models.linen.embedder import shapes_of
from contrastive.parts import KIND

_TOKENIZER_OPTIONS = ("tokenizer_config.json", "special_tokens_map.json")
_OF_TEXTS = (
    "sentence_*_config.json"  # sentence_bert_config.json; in older folders also roberta, etc.
)
_UNLIMITED = 1 << 20  # tokenizer_config.json contains 10^30 if there is no limit
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
    ours = read_ours(folder)
    if (name := changed(folder, ours.files)) is not None:
        raise FolderError(
            f"{folder / name} is missing or has changed since the model was exported; copy the "
            f'folder again, or remove "files" and "digest" from {folder / OURS} if you changed it'
        )
    model = _load_known(folder, ours, compute) if ours.model is None else _load_own(folder, ours)
    _check_texts(folder, model)
    return model


def _load_known(folder: Path, ours: OurFile, compute: Compute | None) -> PretrainedModel:
    """Loads an architecture of other libraries."""
    modules = modules_of(folder)
    weights_in = _weights_in(folder, modules)
    static = "StaticEmbedding" in modules
    weights = read_weights(weights_in)
    family, config = _architecture(weights_in, weights, static)
    try:
        module = family.build(config, compute or Compute())
    except ConfigError as error:
        raise ConfigError(f"{weights_in / 'config.json'}: {error}") from None
    try:
        params, heads = from_torch(weights, family, shapes_of(module))
    except ValueError as error:
        raise FolderError(f"{weights_in}: {error}") from None
    tokenizer, names, tokenizer_config = _tokenizer(weights_in, module.vocab_size)
    text_file = _text_file(weights_in)
    length = _length(text_file, tokenizer_config, module.max_length)
    if text_file.do_lower_case and not _lower_cases(tokenizer):
        original = [tokenizer.normalizer] if tokenizer.normalizer else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *original])
        tokenizer_config = {}  # its tokenizer class would rebuild the original normalizer
    query_prompt, document_prompt = prompts_of(folder)
    return PretrainedModel(
        module=module,
        family=family,
        config=config,
        params=params,
        tokenizer=tokenizer,
        names=names,
        tokenizer_config=tokenizer_config,
        pooling=stored_pooling(folder),
        normalize="Normalize" in modules if modules else None,
        query_length=ours.query_length or length,
        document_length=ours.document_length or length,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        temperature=ours.temperature,
        heads=heads,
    )


def _load_own(folder: Path, ours: OurFile) -> PretrainedModel:
    """Loads a custom architecture, which a registered `Model` builds."""
    settings, vocab_size = ours.model or {}, ours.vocab_size
    if not (vocab_size and ours.pooling and ours.query_length and ours.document_length):
        raise FolderError(
            f"{folder / OURS} lacks the vocab_size, pooling, query_length or document_length of "
            "the model; copy it again"
        )
    kind = settings.get(KIND)
    known = Model.known()
    if kind not in known:
        module = str(kind).partition(":")[0]
        raise FolderError(
            f"{folder} contains a model of {kind}, which was not imported; for security, loading a "
            f"folder does not import code. Import {module} in Python first, or pass the file that "
            "defines it to the command with --parts FILE.py"
        )
    try:
        spec = known[kind](**settings)
    except ConfigError as error:
        raise FolderError(f"{folder / OURS}: {error}") from None
    module = spec.build(vocab_size)
    weights = read_weights(folder)
    try:
        params, _ = from_torch(weights, None, shapes_of(module))
    except ValueError as error:
        raise FolderError(f"{folder}: {error}") from None
    tokenizer, names, tokenizer_config = _tokenizer(folder, vocab_size)
    query_prompt, document_prompt = prompts_of(folder)
    return PretrainedModel(
        module=module,
        family=None,
        config={"vocab_size": vocab_size},
        params=params,
        tokenizer=tokenizer,
        names=names,
        tokenizer_config=tokenizer_config,
        pooling=ours.pooling,
        normalize=ours.normalize,
        query_length=ours.query_length,
        document_length=ours.document_length,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        temperature=ours.temperature,
        spec=spec,
    )


def files_read(folder: Path) -> list[Path]:
    """Returns the files that `load` reads.

    Args:
      folder: A folder that can be loaded.

    Returns:
      Paths of the files, sorted.
    """
    modules = modules_of(folder)
    weights_in = _weights_in(folder, modules)
    paths = [
        *(folder / name for name in ("modules.json", SENTENCE_TRANSFORMERS, OURS)),
        *(weights_in / name for name in ("config.json", "tokenizer.json", *_TOKENIZER_OPTIONS)),
        *weights_in.glob(_OF_TEXTS),
        *weight_files(weights_in),
    ]
    if "Pooling" in modules:
        paths.append(folder / modules["Pooling"] / "config.json")
    return sorted(path for path in set(paths) if path.is_file())


def _weights_in(folder: Path, modules: Mapping[str, str]) -> Path:
    return folder / modules.get("Transformer", modules.get("StaticEmbedding", ""))


def _architecture(folder: Path, weights: Mapping[str, np.ndarray], static: bool):
    if static:
        table = weights.get("embedding.weight")
        if table is None or table.ndim != 2:
            raise FolderError(
                f"{folder / FILE} has no matrix embedding.weight, which a static model consists "
                "of; copy or download it again"
            )
        return StaticEmbedding, {"vocab_size": table.shape[0], "hidden_size": table.shape[1]}
    path = folder / "config.json"
    config = read_json(path, dict[str, Any])
    layers = config.get("num_hidden_layers")
    if isinstance(layers, int) and layers > len(weights):  # building them would take forever
        raise FolderError(
            f"{path}: num_hidden_layers is {layers}, but there are only {len(weights)} arrays in "
            f"{FILE}; use files of the same model"
        )
    try:
        return family_of(config), config
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _tokenizer(folder: Path, vocab_size: int):
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise FolderError(
            f"{path}: no such file; convert an older tokenizer with\n"
            f'  python -c "from transformers import AutoTokenizer; '
            f'AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"'
        )
    tokenizer = open_tokenizer(path, vocab_size)
    settings, special_tokens = (folder / name for name in _TOKENIZER_OPTIONS)
    config = read_optional(settings, dict[str, Any]) or {}
    checked(config, TokenizerFile, str(settings), remedy="copy or download it again")
    special = read_optional(special_tokens, dict[str, str | SpecialToken | list[Any]])
    names = special or {
        name: value
        for name, value in config.items()
        if name.endswith("_token")
        and isinstance(value, str | Mapping)  # excludes the Boolean add_bos_token
    }
    strings = {name: _content(token, settings) for name, token in names.items()}
    return tokenizer, strings, config


def _content(token: Any, path: Path) -> Any:
    """Returns the text of a special token."""
    if isinstance(token, SpecialToken):
        return token.content
    if isinstance(token, Mapping):
        return checked(token, SpecialToken, str(path), remedy="copy it again").content
    return token


def _text_file(folder: Path) -> TextFile:
    paths = sorted(folder.glob(_OF_TEXTS))
    return read_json(paths[0], TextFile) if paths else TextFile()


def _lower_cases(tokenizer: tokenizers.Tokenizer) -> bool:
    """Returns whether the tokenizer already lowercases, as those of uncased BERTs do."""
    normalizer = tokenizer.normalizer
    return normalizer is not None and normalizer.normalize_str("Aa").endswith("aa")


def _length(text_file: TextFile, tokenizer_config: Mapping[str, Any], positions: int | None) -> int:
    """Returns the maximum length of sentence-transformers or the tokenizer, within `positions`."""
    limit = text_file.max_seq_length or tokenizer_config.get("model_max_length")
    length = min(int(limit or _UNLIMITED), positions or _UNLIMITED)
    return length if length < _UNLIMITED else _STATIC_LENGTH


def _check_texts(folder: Path, model: PretrainedModel) -> None:
    """Checks that the lengths fit the positions, and the prompts fit the lengths."""
    positions = getattr(model.module, "max_length", None) or _UNLIMITED
    for kind in ("query", "document"):
        length, prompt = getattr(model, f"{kind}_length"), getattr(model, f"{kind}_prompt")
        if length > positions:
            raise FolderError(
                f"{folder / OURS}: {kind}_length is {length}, but the model has positions for "
                f"{positions} tokens; lower it"
            )
        needed = len(model.tokenizer.encode(prompt, add_special_tokens=False).ids) if prompt else 0
        if needed >= length:
            raise FolderError(
                f"the {kind} prompt in {folder / SENTENCE_TRANSFORMERS} has {needed} tokens, which "
                f"leaves no room in the {length} tokens of a {kind}; shorten it"
            )

"""Export of model folders that sentence-transformers and transformers load."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tokenizers

from contrastive.digests import DIGEST, changed, digests, sealed
from contrastive.errors import FolderError
from contrastive.interop.hf_import import files_read
from contrastive.interop.model_card import Training, has_own_card, model_card, write_card
from contrastive.interop.model_files import OURS, read_ours
from contrastive.interop.pretrained import PretrainedModel
from contrastive.interop.weights import to_torch, write_weights
from contrastive.json_files import read_json
from contrastive.whole_folders import replacing_folder

_ST = "sentence_transformers.models."
# Without this, transformers rounds the weights to the dtype of the original checkpoint. The field
# is torch_dtype before transformers 5, and dtype since.
_FLOAT32 = {"torch_dtype": "float32", "dtype": "float32"}


def save(folder: Path, model: PretrainedModel, training: Training | None = None) -> str:
    """Writes a complete sentence-transformers folder: weights, pooling, normalization, length.

    The folder is replaced as a whole: an older model in it stays until the new one is complete.
    Files that are not of an earlier export stay.

    sentence-transformers has one maximum length; it is set to the longer of the query and document
    lengths, so that no text is truncated more than here. contrastive.json contains both lengths,
    and the digests of the other files.

    Args:
      folder: Output folder, created if necessary.
      model: The model; its pooling and normalization must be set.
      training: How it was trained, for the README.md; None if unknown.

    Returns:
      The digest of the model.

    Raises:
      SaveError: If a file cannot be written.
    """
    with replacing_folder(folder, disposable=_exported(folder)) as new:
        about = _write_own(new, model) if model.spec else _write_known(new, model)
        kept = {name: getattr(model, name) for name in _KEPT}
        about = sealed({**kept, **about, "files": digests(new, files_read(new))})
        _write(new / OURS, about)
        if not has_own_card(folder):
            write_card(new, model_card(model, training))
    return about[DIGEST]


_KEPT = ("query_length", "document_length", "temperature")


def model_digest(folder: Path) -> str | None:
    """Returns the digest that `save` returned for the model in a folder; None if it is damaged."""
    try:
        stored, files = read_json(folder / OURS, dict[str, Any]), read_ours(folder).files
    except FolderError:
        return None
    return stored.get(DIGEST) if changed(folder, files) is None else None


def _exported(folder: Path) -> set[str]:
    """Returns the names of the entries of a folder that an earlier export wrote."""
    try:
        files = read_ours(folder).files
    except FolderError:  # damaged; what the new model does not replace stays
        return set()
    return {Path(name).parts[0] for name in files}


def _write_known(folder: Path, model: PretrainedModel) -> dict[str, Any]:
    """Writes an architecture of other libraries; returns what only our file can hold."""
    assert model.family is not None
    modules = [_module(0, "StaticEmbedding" if model.is_static else "Transformer", "")]
    if not model.is_static:
        modules.append(_module(1, "Pooling", "1_Pooling"))
        _write(folder / "1_Pooling" / "config.json", _pooling(model))
        _write(folder / "config.json", {**_token_ids(model), **model.config, **_FLOAT32})
        length = {"max_seq_length": _length(model), "do_lower_case": False}
        _write(folder / "sentence_bert_config.json", length)
    if model.normalize:
        number = len(modules)
        modules.append(_module(number, "Normalize", f"{number}_Normalize"))
        (folder / f"{number}_Normalize").mkdir()
    _write(folder / "modules.json", modules)
    _write(folder / "config_sentence_transformers.json", _sentence_transformers(model))
    _write_tokenizer(folder, model)
    write_weights(folder, {**model.heads, **to_torch(model.params, model.family)})
    return {}


def _write_own(folder: Path, model: PretrainedModel) -> dict[str, Any]:
    """Writes a custom architecture, which only this library loads."""
    assert model.spec is not None
    _write(folder / "config_sentence_transformers.json", _sentence_transformers(model))
    _write_tokenizer(folder, model)
    write_weights(folder, to_torch(model.params, None))
    return {
        "pooling": model.pooling,
        "normalize": model.normalize,
        "model": model.spec.model_dump(mode="json"),
        "vocab_size": model.config["vocab_size"],
    }


def _length(model: PretrainedModel) -> int:
    return max(model.query_length, model.document_length)


def _module(number: int, name: str, path: str) -> dict[str, Any]:
    return {"idx": number, "name": str(number), "path": path, "type": _ST + name}


def _pooling(model: PretrainedModel) -> dict[str, Any]:
    modes = {"cls_token": "cls", "mean_tokens": "mean", "lasttoken": "last_token"}
    unused = ("max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens")
    return {
        "word_embedding_dimension": model.module.width,
        **{f"pooling_mode_{name}": model.pooling == ours for name, ours in modes.items()},
        **{f"pooling_mode_{name}": False for name in unused},
        "include_prompt": True,
    }


def _token_ids(model: PretrainedModel) -> dict[str, int | None]:
    """Returns the special token ids that config.json needs for a newly trained tokenizer."""
    names, find = model.names, model.tokenizer.token_to_id
    first = names.get("cls_token") or names.get("bos_token")
    last = names.get("sep_token") or names.get("eos_token")
    pad = names.get("pad_token")
    ids = {"bos": first, "cls": first, "eos": last, "sep": last, "pad": pad}
    return {f"{kind}_token_id": find(name) if name else None for kind, name in ids.items()}


def _sentence_transformers(model: PretrainedModel) -> dict[str, Any]:
    return {
        "model_type": "SentenceTransformer",
        "__version__": {"contrastive": version("contrastive")},
        "prompts": {"query": model.query_prompt, "document": model.document_prompt},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine" if model.normalize else "dot",
    }


def _write_tokenizer(folder: Path, model: PretrainedModel) -> None:
    tokenizer = tokenizers.Tokenizer.from_str(model.tokenizer.to_str())
    # StaticEmbedding has no maximum length; it relies on the truncation of the tokenizer.
    tokenizer.enable_truncation(_length(model))
    # Not its own `save`, whose errors about a full disk have no number.
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    _write(folder / "special_tokens_map.json", model.names)
    fast = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        **model.names,
    }
    config = model.tokenizer_config or fast
    _write(folder / "tokenizer_config.json", {**config, "model_max_length": _length(model)})


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

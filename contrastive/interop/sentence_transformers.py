"""Folders that `SentenceTransformer(path)` loads: written, and read back."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from contrastive import config
from contrastive.types import Params

_ST = "sentence_transformers.models."
_OURS = "contrastive.json"

# Flax name -> ModernBERT's name in PyTorch. Kernels are transposed: Flax multiplies from the left.
_MODERNBERT = (
    (r"embedding/embedding", r"embeddings.tok_embeddings.weight"),
    (r"embedding_norm/scale", r"embeddings.norm.weight"),
    (r"final_norm/scale", r"final_norm.weight"),
    (r"layer_(\d+)/attention_norm/scale", r"layers.\1.attn_norm.weight"),
    (r"layer_(\d+)/qkv/kernel", r"layers.\1.attn.Wqkv.weight"),
    (r"layer_(\d+)/attention_out/kernel", r"layers.\1.attn.Wo.weight"),
    (r"layer_(\d+)/mlp_norm/scale", r"layers.\1.mlp_norm.weight"),
    (r"layer_(\d+)/mlp_in/kernel", r"layers.\1.mlp.Wi.weight"),
    (r"layer_(\d+)/mlp_out/kernel", r"layers.\1.mlp.Wo.weight"),
)
_STATIC = ((r"embedding", r"embedding.weight"),)


class FolderError(ValueError):
    """A model folder that cannot be loaded; the message names the file."""


@dataclasses.dataclass(frozen=True)
class Saved:
    """A model as it is in a folder.

    Attributes:
      model: Which encoder.
      params: The encoder's parameters, NumPy arrays.
      tokenizer: Its tokenizer, without truncation.
      pooling: How token vectors become a text's.
      normalize: Whether embeddings have unit length.
      query_length: Most tokens of a query.
      document_length: Most tokens of a document.
      temperature: The last the model was trained at.
    """

    model: config.Static | config.Transformer
    params: Params
    tokenizer: tokenizers.Tokenizer
    pooling: Literal["mean", "cls", "last_token"]
    normalize: bool
    query_length: int
    document_length: int
    temperature: float


def save(folder: Path, saved: Saved) -> None:
    """Writes a complete sentence-transformers folder: weights, pooling, normalisation, length.

    A query longer than `query_length` is cut there by this library, and at `document_length` by
    sentence-transformers, which knows one length.

    Args:
      folder: Made if it is not there; files of the same names are replaced.
      saved: The model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    static = isinstance(saved.model, config.Static)
    modules = [_module(0, "StaticEmbedding" if static else "Transformer", "")]
    if not static:
        modules.append(_module(1, "Pooling", "1_Pooling"))
        _write(folder / "1_Pooling" / "config.json", _pooling(saved))
        _write(folder / "config.json", _modernbert(saved))
        _write(folder / "sentence_bert_config.json", _length(saved))
    if saved.normalize:
        number = len(modules)
        modules.append(_module(number, "Normalize", f"{number}_Normalize"))
        (folder / f"{number}_Normalize").mkdir(exist_ok=True)
    _write(folder / "modules.json", modules)
    _write(folder / "config_sentence_transformers.json", _sentence_transformers())
    _write_tokenizer(folder, saved)
    weights = to_torch_names(saved.params, _names(saved.model))
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    kept = ("pooling", "normalize", "query_length", "document_length", "temperature")
    ours = {name: getattr(saved, name) for name in kept}
    _write(folder / _OURS, {"model": saved.model.model_dump(mode="json"), **ours})


def load(folder: Path) -> Saved:
    """Reads a folder that `save` has written.

    Args:
      folder: The folder.

    Returns:
      The model.

    Raises:
      FolderError: Naming the file that is missing or does not fit.
    """
    try:
        ours = json.loads((folder / _OURS).read_text(encoding="utf-8"))
        kind = {"static": config.Static, "transformer": config.Transformer}
        model = kind[ours["model"]["kind"]](**ours.pop("model"))
        weights = load_file(str(folder / "model.safetensors"))
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    except FileNotFoundError as error:
        raise FolderError(
            f"{error.filename or folder}: no such file; expected the model/ folder of a run"
        ) from None
    except (SafetensorError, ValueError, KeyError) as error:
        raise FolderError(f"{folder} cannot be loaded: {error}") from None
    tokenizer.no_truncation()
    params = from_torch_names(weights, _names(model), folder)
    return Saved(model=model, params=params, tokenizer=tokenizer, **ours)


def to_torch_names(params: Params, names: tuple[tuple[str, str], ...]) -> dict[str, np.ndarray]:
    """Parameters by PyTorch's names, kernels transposed."""
    weights = {}
    for path, value in _flat(params):
        array = np.asarray(value, np.float32)
        array = array.T if path.endswith("kernel") else array
        weights[_rename(path, names)] = np.ascontiguousarray(array)
    return weights


def from_torch_names(
    weights: Mapping[str, np.ndarray], names: tuple[tuple[str, str], ...], folder: Path
) -> Params:
    """The inverse of `to_torch_names`; all names that do not fit are reported together."""
    params: dict[str, Any] = {}
    inverse = [(_backwards(ours, theirs)) for ours, theirs in names]
    strange = []
    for name, array in weights.items():
        match = next((m.expand(to) for p, to in inverse if (m := re.fullmatch(p, name))), None)
        if match is None:
            strange.append(name)
            continue
        *branches, leaf = match.split("/")
        branch = params
        for part in branches:
            branch = branch.setdefault(part, {})
        branch[leaf] = array.T if leaf == "kernel" else array
    if strange:
        raise FolderError(f"{folder}/model.safetensors has unknown weights: {', '.join(strange)}")
    return params


def _names(model) -> tuple[tuple[str, str], ...]:
    return _STATIC if isinstance(model, config.Static) else _MODERNBERT


def _rename(path, names):
    return next(m.expand(to) for pattern, to in names if (m := re.fullmatch(pattern, path)))


def _backwards(ours: str, theirs: str) -> tuple[str, str]:
    pattern = re.escape(theirs).replace(r"\\1", r"(\d+)")
    return pattern, ours.replace(r"(\d+)", r"\1")


def _flat(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def _module(number: int, name: str, path: str) -> dict[str, Any]:
    return {"idx": number, "name": str(number), "path": path, "type": _ST + name}


def _pooling(saved: Saved) -> dict[str, Any]:
    modes = {"cls_token": "cls", "mean_tokens": "mean", "lasttoken": "last_token"}
    unused = ("max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens")
    return {
        "word_embedding_dimension": saved.model.width,
        **{f"pooling_mode_{name}": saved.pooling == ours for name, ours in modes.items()},
        **{f"pooling_mode_{name}": False for name in unused},
        "include_prompt": True,
    }


def _modernbert(saved: Saved) -> dict[str, Any]:
    model, tokenizer = saved.model, saved.tokenizer
    assert isinstance(model, config.Transformer)
    first, last, pad = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]", "[PAD]"))
    return {
        "model_type": "modernbert",
        "architectures": ["ModernBertModel"],
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": model.width,
        "intermediate_size": model.mlp_width,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.heads,
        "hidden_activation": "gelu",
        "norm_eps": 1e-5,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "embedding_dropout": model.dropout,
        "mlp_dropout": 0.0,
        "max_position_embeddings": 8192,
        "global_attn_every_n_layers": 1,
        "local_attention": 8192,
        "global_rope_theta": 10000.0,
        "local_rope_theta": 10000.0,
        "bos_token_id": first,
        "cls_token_id": first,
        "eos_token_id": last,
        "sep_token_id": last,
        "pad_token_id": pad,
        "torch_dtype": "float32",
    }


def _length(saved: Saved) -> dict[str, Any]:
    return {"max_seq_length": saved.document_length, "do_lower_case": False}


def _sentence_transformers() -> dict[str, Any]:
    return {
        "model_type": "SentenceTransformer",
        "__version__": {"contrastive": version("contrastive")},
        "prompts": {"query": "", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }


def _write_tokenizer(folder: Path, saved: Saved) -> None:
    tokenizer = tokenizers.Tokenizer.from_str(saved.tokenizer.to_str())
    # StaticEmbedding has no length of its own: it cuts where the tokenizer does.
    tokenizer.enable_truncation(saved.document_length)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {
        name: token
        for name, token in (
            ("cls_token", "[CLS]"),
            ("sep_token", "[SEP]"),
            ("pad_token", "[PAD]"),
            ("unk_token", "[UNK]"),
            ("mask_token", "[MASK]"),
        )
        if tokenizer.token_to_id(token) is not None
    }
    _write(folder / "special_tokens_map.json", special)
    fast = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": saved.document_length,
        **special,
    }
    _write(folder / "tokenizer_config.json", fast)


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

"""Folders that `SentenceTransformer(path)` loads: written, and read back."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers
from safetensors.numpy import load_file, save_file

from contrastive import config
from contrastive.errors import FolderError
from contrastive.types import Params

_ST = "sentence_transformers.models."
_OURS = "contrastive.json"
_NAMES = "special_tokens_map.json"

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
      names: What the tokenizer's special tokens are called, as in special_tokens_map.json.
    """

    model: config.Static | config.Transformer
    params: Params
    tokenizer: tokenizers.Tokenizer
    pooling: Literal["mean", "cls", "last_token"]
    normalize: bool
    query_length: int
    document_length: int
    temperature: float
    names: dict[str, str]


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
    _write(folder / "config_sentence_transformers.json", _sentence_transformers(saved))
    _write_tokenizer(folder, saved)
    weights = to_torch_names(saved.params, saved.model)
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
    for name in (_OURS, "model.safetensors", "tokenizer.json", _NAMES):
        if not (folder / name).is_file():
            raise FolderError(f"{folder / name}: no such file; expected the model/ folder of a run")
    ours, names = (_read(folder / name, _json) for name in (_OURS, _NAMES))
    weights = _read(folder / "model.safetensors", lambda path: load_file(str(path)))
    # tokenizers raises plain Exceptions.
    tokenizer = _read(
        folder / "tokenizer.json", lambda path: tokenizers.Tokenizer.from_file(str(path))
    )
    tokenizer.no_truncation()
    try:
        kind = {"static": config.Static, "transformer": config.Transformer}
        model = kind[ours["model"]["kind"]](**ours.pop("model"))
        params = from_torch_names(weights, model, _vocab_size(tokenizer))
        return Saved(model=model, params=params, tokenizer=tokenizer, names=names, **ours)
    except (KeyError, TypeError, ValueError) as error:
        raise FolderError(f"{folder} cannot be loaded: {error}") from None


def _vocab_size(tokenizer: tokenizers.Tokenizer) -> int:
    return max(tokenizer.get_vocab().values()) + 1  # ids may have gaps


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    try:
        return reader(path)
    except Exception as error:
        raise FolderError(f"{path} cannot be read: {error}") from None


def to_torch_names(
    params: Params, model: config.Static | config.Transformer
) -> dict[str, np.ndarray]:
    """Parameters by PyTorch's names, kernels transposed."""
    weights = {}
    for path, value in _flat(params):
        array = np.asarray(value, np.float32)
        array = array.T if path.endswith("kernel") else array
        weights[_torch_name(path, model)] = np.ascontiguousarray(array)
    return weights


def from_torch_names(
    weights: Mapping[str, np.ndarray], model: config.Static | config.Transformer, vocab_size: int
) -> Params:
    """The inverse of `to_torch_names`.

    Args:
      weights: Arrays by PyTorch's name.
      model: What they must make.
      vocab_size: Number of vocabulary ids.

    Returns:
      The encoder's parameters.

    Raises:
      ValueError: Naming every weight that is missing, unknown or of another shape, together.
    """
    expected = {_torch_name(p, model): (p, s) for p, s in _shapes(model, vocab_size).items()}
    wrong = [f"{name} is missing" for name in expected if name not in weights]
    params: dict[str, Any] = {}
    for name, array in weights.items():
        if name not in expected:
            wrong.append(f"{name} is unknown")
            continue
        path, shape = expected[name]
        array = array.T if path.endswith("kernel") else array
        if array.shape != shape:
            wrong.append(f"{name} has shape {weights[name].shape}, of a {shape} {path}")
        *branches, leaf = path.split("/")
        branch = params
        for part in branches:
            branch = branch.setdefault(part, {})
        branch[leaf] = array
    if wrong:
        raise ValueError(f"in model.safetensors, {'; '.join(wrong)}")
    return params


def _shapes(model: config.Static | config.Transformer, vocab: int) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by its path in the Flax tree."""
    if isinstance(model, config.Static):
        return {"embedding": (vocab, model.width)}
    width, mlp = model.width, model.mlp_width
    shapes: dict[str, tuple[int, ...]] = {
        "embedding/embedding": (vocab, width),
        "embedding_norm/scale": (width,),
        "final_norm/scale": (width,),
    }
    for layer in (f"layer_{number}" for number in range(model.depth)):
        shapes[f"{layer}/attention_norm/scale"] = (width,)
        shapes[f"{layer}/qkv/kernel"] = (width, 3 * width)
        shapes[f"{layer}/attention_out/kernel"] = (width, width)
        shapes[f"{layer}/mlp_norm/scale"] = (width,)
        shapes[f"{layer}/mlp_in/kernel"] = (width, 2 * mlp)
        shapes[f"{layer}/mlp_out/kernel"] = (mlp, width)
    del shapes["layer_0/attention_norm/scale"]  # the embedding's norm is the first layer's
    return shapes


def _torch_name(path: str, model: config.Static | config.Transformer) -> str:
    names = _STATIC if isinstance(model, config.Static) else _MODERNBERT
    return next(m.expand(to) for pattern, to in names if (m := re.fullmatch(pattern, path)))


def _flat(tree: Params, prefix: str = "") -> Iterator[tuple[str, Any]]:
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
    names = saved.names
    first, last, pad = (
        tokenizer.token_to_id(name) if name else None
        for name in (
            names.get("cls_token") or names.get("bos_token"),
            names.get("sep_token") or names.get("eos_token"),
            names.get("pad_token"),
        )
    )
    return {
        "model_type": "modernbert",
        "architectures": ["ModernBertModel"],
        "vocab_size": _vocab_size(tokenizer),
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


def _sentence_transformers(saved: Saved) -> dict[str, Any]:
    return {
        "model_type": "SentenceTransformer",
        "__version__": {"contrastive": version("contrastive")},
        "prompts": {"query": "", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine" if saved.normalize else "dot",
    }


def _write_tokenizer(folder: Path, saved: Saved) -> None:
    tokenizer = tokenizers.Tokenizer.from_str(saved.tokenizer.to_str())
    # StaticEmbedding has no length of its own: it cuts where the tokenizer does.
    tokenizer.enable_truncation(saved.document_length)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(folder / _NAMES, saved.names)
    fast = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": saved.document_length,
        **saved.names,
    }
    _write(folder / "tokenizer_config.json", fast)


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

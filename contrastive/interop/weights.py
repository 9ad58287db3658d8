"""Safetensors files, and PyTorch's names for Flax's parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.flax import load_file
from safetensors.numpy import save_file

from contrastive.errors import FolderError
from contrastive.models.family import Family
from contrastive.types import Params

FILE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# Flax's name of an array in its module, PyTorch's, and the name in BERTs of before 2019.
_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
_OLD_LEAVES = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of model.safetensors, or of the shards its index names, in float32.

    Args:
      folder: Of a checkpoint.

    Returns:
      Arrays by PyTorch's name.

    Raises:
      FolderError: If there is none, a shard is missing or cut short, or the weights are a pickle.
    """
    weights: dict[str, np.ndarray] = {}
    for path in weight_files(folder):
        weights.update(_read_shard(path))
    return weights


def weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the shards that its index names.

    Args:
      folder: Of a checkpoint.

    Returns:
      Files that are there.

    Raises:
      FolderError: If there is none, a shard is missing, or the weights are a pickle.
    """
    if (folder / FILE).is_file():  # before shards, as transformers does
        return [folder / FILE]
    if (folder / _INDEX).is_file():
        index = read_json(folder / _INDEX)
        names = sorted(set(index.get("weight_map", {}).values()))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing or not names:
            raise FolderError(f"{folder / _INDEX} names {missing or 'no files'}, not in the folder")
        return [folder / name for name in names]
    if pickles := [name for name in PICKLES if (folder / name).is_file()]:
        raise is_pickle(folder / pickles[0], folder)
    raise FolderError(f"{folder / FILE}: no such file")


def is_pickle(file: Path | str, folder: Path | str, download: str = "") -> FolderError:
    """The error for weights that are a pickle, with the way out.

    Args:
      file: The pickle.
      folder: Of the model; the converted weights are saved beside the pickle.
      download: Python statements that make the folder, if it is not there.

    Returns:
      The error.
    """
    instead = f", and give the folder {str(folder)!r} instead" if download else ""
    return FolderError(
        f"{file} is a pickle, which can run any code when it is read, and is not loaded here; "
        f"convert it where PyTorch is installed{instead}:\n"
        f'  python -c "{download}from transformers import AutoModel; '
        f'AutoModel.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"'
    )


def _read_shard(path: Path) -> dict[str, np.ndarray]:
    try:
        # safetensors' NumPy reader knows no bfloat16. On the CPU: an accelerator gets them placed.
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            arrays = load_file(path)
    except Exception as error:  # safetensors raises an exception of its own, which it hides
        raise FolderError(
            f"{path} cannot be read: {error}. It may be cut short ({path.stat().st_size:,} bytes); "
            "copy or download it again"
        ) from None
    return {
        name: np.asarray(array, np.float32)
        for name, array in arrays.items()
        if np.issubdtype(array.dtype, np.number) or array.dtype.name == "bfloat16"
    }


def write_weights(folder: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Writes model.safetensors as transformers does."""
    whole = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    save_file(whole, str(folder / FILE), metadata={"format": "pt"})


def to_torch(params: Params, family: Family) -> dict[str, np.ndarray]:
    """Parameters by PyTorch's names, kernels transposed: PyTorch multiplies from the right.

    Args:
      params: Of the encoder.
      family: Whose names.

    Returns:
      float32 arrays.
    """
    weights = {}
    for path, value in flatten(params):
        array = np.asarray(value, np.float32)
        weights[_torch_name(path, family)] = array.T if path.endswith("kernel") else array
    return weights


def from_torch(
    weights: Mapping[str, np.ndarray], family: Family, shapes: Params
) -> tuple[Params, dict[str, np.ndarray]]:
    """The inverse of `to_torch`.

    Args:
      weights: Arrays by PyTorch's name, perhaps with a head and a prefix before the encoder's.
      family: Whose names.
      shapes: Tree of what the encoder needs, with `.shape`.

    Returns:
      The encoder's parameters; and, by PyTorch's name, what belongs to heads.

    Raises:
      ValueError: Naming every weight that is missing, unknown or of another shape, together.
    """
    found = {_plain_name(name, family): array for name, array in weights.items()}
    wrong, params = [], {}
    for path, shape in flatten(shapes):
        name = _torch_name(path, family)
        if name not in found:
            wrong.append(f"{name} is missing")
            continue
        array, turned = found.pop(name), path.endswith("kernel")
        expected = shape.shape[::-1] if turned else shape.shape
        if array.shape != expected:
            wrong.append(f"{name} has shape {array.shape}, config.json asks for {expected}")
        _put(params, path, array.T if turned else array)
    heads = {name: found.pop(name) for name in list(found) if _is_head(name, family)}
    wrong += [f"{name} is unknown" for name in found]
    if wrong:
        raise ValueError(f"weights in {FILE} that do not fit config.json: {'; '.join(wrong)}")
    return params, heads


def _plain_name(name: str, family: Family) -> str:
    name = next((name[len(p) :] for p in family.prefixes if name.startswith(p)), name)
    for old, new in _OLD_LEAVES:
        name = re.sub(old, new, name)
    return name


def _is_head(name: str, family: Family) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in family.heads)


def _torch_name(path: str, family: Family) -> str:
    module, _, leaf = path.rpartition("/")
    for pattern, name in family.modules:
        if match := re.fullmatch(pattern, module):
            return f"{match.expand(name)}.{_LEAVES[leaf]}"
    raise AssertionError(f"{path} is in no table")


def flatten(tree: Params, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a parameter tree with their paths, `layer_0/query/kernel`."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def _put(params: dict[str, Any], path: str, array: np.ndarray) -> None:
    *branches, leaf = path.split("/")
    for branch in branches:
        params = params.setdefault(branch, {})
    params[leaf] = array


def read_json(path: Path) -> Any:
    """A JSON file of a model folder.

    Raises:
      FolderError: If it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FolderError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise FolderError(f"{path} cannot be read: {error}") from None

"""Safetensors files, and the mapping between PyTorch weights and Flax parameters."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.flax import load_file
from safetensors.numpy import save_file

from contrastive.errors import FolderError
from contrastive.interop.model_files import ShardIndex
from contrastive.json_files import read_json
from contrastive.models.families.family import Family
from contrastive.types import Params

FILE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# Flax and PyTorch names of the arrays in a module, and the names in BERT checkpoints before 2019.
_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
_OLD_LEAVES = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    """Reads the weights from model.safetensors or its shards, as float32.

    Args:
      folder: Folder of a checkpoint.

    Returns:
      Arrays by PyTorch name.

    Raises:
      FolderError: If a file is missing or truncated, or if the weights are a pickle.
    """
    weights: dict[str, np.ndarray] = {}
    for path in weight_files(folder):
        weights.update(_read_shard(path))
    return weights


def weight_files(folder: Path) -> list[Path]:
    """Returns model.safetensors, or the shards listed in its index.

    Args:
      folder: Folder of a checkpoint.

    Returns:
      Paths of the existing files.

    Raises:
      FolderError: If a file is missing, or if the weights are a pickle.
    """
    if (folder / FILE).is_file():  # takes precedence over shards, as in transformers
        return [folder / FILE]
    if (folder / _INDEX).is_file():
        index: ShardIndex = read_json(folder / _INDEX, ShardIndex)
        names = sorted(set(index.weight_map.values()))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing or not names:
            raise FolderError(
                f"{folder / _INDEX} lists {missing or 'no files'}, not in the folder; download the "
                "missing files"
            )
        return [folder / name for name in names]
    if pickles := [name for name in PICKLES if (folder / name).is_file()]:
        raise is_pickle(folder / pickles[0], folder)
    raise FolderError(f"{folder / FILE}: no such file; weights must be in safetensors format")


def is_pickle(file: Path | str, folder: Path | str, download: str = "") -> FolderError:
    """Returns the error for weights that are a pickle, with a command that converts them.

    Args:
      file: Path of the pickle.
      folder: Model folder, where the command saves the converted weights.
      download: Python statements that download the folder, if it does not exist.

    Returns:
      The error.
    """
    instead = f", and give the folder {str(folder)!r} instead" if download else ""
    return FolderError(
        f"{file} is a pickle, which can execute arbitrary code, and is therefore not loaded; "
        f"convert it where PyTorch is installed{instead}:\n"
        f'  python -c "{download}from transformers import AutoModel; '
        f'AutoModel.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"'
    )


def _read_shard(path: Path) -> dict[str, np.ndarray]:
    try:
        # safetensors' NumPy reader does not support bfloat16. Loading on the CPU
        # saves device memory.
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            arrays = load_file(path)
    except Exception as error:  # the exception type of safetensors is not public
        raise FolderError(
            f"{path} cannot be read: {error}. The file may be cut short "
            f"({path.stat().st_size:,} bytes); copy or download it again"
        ) from None
    weights = {
        name: np.asarray(array, np.float32)
        for name, array in arrays.items()
        if np.issubdtype(array.dtype, np.number) or array.dtype.name == "bfloat16"
    }
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise FolderError(
                f"{path}: {name} has values that are not finite, as after a training that "
                "diverged or a damaged copy; copy it again, or use an earlier checkpoint"
            )
    return weights


def write_weights(folder: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Writes weights to model.safetensors in the format of transformers.

    Args:
      folder: The folder to write to.
      weights: Arrays by PyTorch name.

    Raises:
      OSError: If the file cannot be written.
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    try:
        save_file(contiguous, str(folder / FILE), metadata={"format": "pt"})
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder / FILE)) from None


def to_torch(params: Params, family: type[Family] | None) -> dict[str, np.ndarray]:
    """Converts Flax parameters to PyTorch weights, which store kernels transposed.

    Args:
      params: Parameters of the encoder.
      family: Family that defines the PyTorch names; None keeps the Flax names.

    Returns:
      float32 arrays by name.
    """
    weights = {}
    for path, value in flatten(params):
        array = np.asarray(value, np.float32)
        weights[_torch_name(path, family)] = array.T if _is_transposed(path, family) else array
    return weights


def from_torch(
    weights: Mapping[str, np.ndarray], family: type[Family] | None, shapes: Params
) -> tuple[Params, dict[str, np.ndarray]]:
    """Converts PyTorch weights to Flax parameters; the inverse of `to_torch`.

    Args:
      weights: Arrays by PyTorch name, which may include heads and a prefix.
      family: Family that defines the PyTorch names; None keeps the Flax names.
      shapes: Tree of the shapes of the encoder's parameters.

    Returns:
      The encoder's parameters, and the weights of heads by PyTorch name.

    Raises:
      ValueError: If weights are missing, unknown or of the wrong shape; lists all of them.
    """
    unmatched = {_plain_name(name, family): array for name, array in weights.items()}
    problems, params = [], {}
    for path, shape in flatten(shapes):
        name = _torch_name(path, family)
        if name not in unmatched:
            problems.append(f"{name} is missing")
            continue
        array, transposed = unmatched.pop(name), _is_transposed(path, family)
        expected = shape.shape[::-1] if transposed else shape.shape
        if array.shape != expected:
            problems.append(f"{name} has shape {array.shape}, but needs {expected}")
        _put(params, path, array.T if transposed else array)
    heads = {name: unmatched.pop(name) for name in list(unmatched) if _is_head(name, family)}
    problems += [f"{name} is unknown" for name in unmatched]
    if problems:
        raise ValueError(
            f"weights in {FILE} do not match config.json; use files of the same model: "
            f"{'; '.join(problems)}"
        )
    return params, heads


def _is_transposed(path: str, family: type[Family] | None) -> bool:
    """Returns whether the file stores the transpose; custom architectures are never transposed."""
    return family is not None and path.endswith("kernel")


def _plain_name(name: str, family: type[Family] | None) -> str:
    if family is None:
        return name
    name = next((name[len(p) :] for p in family.prefixes if name.startswith(p)), name)
    for old, new in _OLD_LEAVES:
        name = re.sub(old, new, name)
    return name


def _is_head(name: str, family: type[Family] | None) -> bool:
    return family is not None and any(re.fullmatch(pattern, name) for pattern in family.heads)


def _torch_name(path: str, family: type[Family] | None) -> str:
    if family is None:
        return path.replace("/", ".")
    module, _, leaf = path.rpartition("/")
    for pattern, name in family.modules:
        if match := re.fullmatch(pattern, module):
            return f"{match.expand(name)}.{_LEAVES[leaf]}"
    raise AssertionError(f"{path} does not match any pattern in {family.__name__}.modules")


def flatten(tree: Params, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of a parameter tree with their paths, such as `layer_0/query/kernel`."""
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

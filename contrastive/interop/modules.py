"""What the files of sentence-transformers say about a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from contrastive.errors import FolderError
from contrastive.interop.model_files import (
    SENTENCE_TRANSFORMERS,
    ModuleEntry,
    PoolingFile,
    PromptsFile,
    read_optional,
    read_ours,
)
from contrastive.json_files import read_json
from contrastive.models.linen.embedder import Pooling

_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last_token",
    "cls": "cls",
    "mean": "mean",
    "lasttoken": "last_token",
}


def stored_pooling(folder: Path) -> Pooling | None:
    """Returns how a model folder says that token vectors are pooled; None if it does not say.

    Args:
      folder: The model folder.

    Raises:
      FolderError: If a file is invalid, or the pooling is not supported.
    """
    ours = read_ours(folder)
    if ours.model is not None:
        return ours.pooling
    modules = modules_of(folder)
    return "mean" if "StaticEmbedding" in modules else _pooling(folder, modules)


def modules_of(folder: Path) -> dict[str, str]:
    """Returns module paths of a sentence-transformers folder by type; empty for other folders."""
    path = folder / "modules.json"
    entries = read_optional(path, list[ModuleEntry]) or []
    known = ("Transformer", "StaticEmbedding", "Pooling", "Normalize")
    modules = {entry.type.rpartition(".")[2]: entry.path for entry in entries}
    if unknown := set(modules) - set(known):
        raise FolderError(
            f"{path} contains {', '.join(sorted(unknown))}, which is not supported; choose a model "
            f"whose modules are among {', '.join(known)}"
        )
    return modules


def prompts_of(folder: Path) -> tuple[str, str]:
    """Returns the prompts of queries and of documents; empty ones for other folders."""
    prompts = read_optional(folder / SENTENCE_TRANSFORMERS, PromptsFile) or PromptsFile()
    return prompts.prompt("query"), prompts.prompt("document", "passage")


def _pooling(folder: Path, modules: Mapping[str, str]) -> Pooling | None:
    if "Pooling" not in modules:
        return None
    path = folder / modules["Pooling"] / "config.json"
    config: PoolingFile = read_json(path, PoolingFile)
    chosen = config.modes
    if len(chosen) != 1 or chosen[0] not in _POOLINGS:
        raise FolderError(
            f"{path} specifies the pooling {', '.join(chosen) or 'nothing'}; exactly one of "
            f"{', '.join(_POOLINGS)} is supported"
        )
    if config.include_prompt is False and any(prompts_of(folder)):
        raise FolderError(
            f"{path}: include_prompt is false, which is not supported with prompts; remove the "
            f"prompts from {folder / SENTENCE_TRANSFORMERS} or set include_prompt to true"
        )
    return _POOLINGS[chosen[0]]

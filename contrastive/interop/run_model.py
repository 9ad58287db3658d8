"""Finds the model of a run, of a model folder or of a name on the Hub, and the run of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contrastive.errors import FolderError
from contrastive.interop.hub import local_folder
from contrastive.interop.model_files import OURS
from contrastive.json_files import read_json

FINETUNED = "training"
"""Name of the run's folder in the output folder of `contrastive finetune`."""
_OF_RUNS = "inputs.json"  # every run and every sweep has this file
_MODEL = "model"


def model_folder(
    name: str | Path, *, revision: str | None = None, cache_dir: str | None = None
) -> Path:
    """Returns the model folder that a name stands for, after a download if it is on the Hub.

    Args:
      name: The folder of a run, a model folder, or a model name on the Hub.
      revision: Branch, tag or commit on the Hub; None is the default branch.
      cache_dir: Folder for downloads from the Hub; None is the Hub's default cache.

    Returns:
      The model folder.

    Raises:
      FolderError: If the folder is that of an unfinished run, or there is no such folder.
    """
    folder = Path(name)
    if (folder / _MODEL).is_dir():
        return folder / _MODEL
    if not _is_run(folder):
        return local_folder(str(name), revision=revision, cache_dir=cache_dir)
    above = folder.absolute().parent  # where `contrastive finetune` saves the model
    if (above / OURS).is_file():
        return above
    if (folder / "programs").is_dir():
        raise FolderError(
            f"{folder} is the folder of a sweep, which keeps no models; train the setting that you "
            "want by itself, with contrastive train, and give its folder"
        )
    raise FolderError(
        f"{folder} is the folder of a run, but contains no model: the run is not finished, or its "
        "model was removed; give the command that trained it again, which exports the model"
    )


def run_folder(folder: Path) -> Path:
    """Returns the folder of the run or sweep that a folder belongs to.

    Args:
      folder: The folder of a run or a sweep, the output folder of `contrastive finetune`, or the
        model folder of a run.

    Returns:
      The folder of the run or sweep; `folder` itself if it is no model folder either.

    Raises:
      FolderError: If it is the folder of a model that belongs to no run.
    """
    if _is_run(folder):
        return folder
    if _is_run(folder / FINETUNED):
        return folder / FINETUNED
    if folder.name == _MODEL and _is_run(folder.parent):
        return folder.parent
    if _is_model(folder):
        raise FolderError(
            f"{folder} is the folder of a model, which has no config and no metrics of a run; give "
            "the folder that contrastive train, sweep or finetune wrote"
        )
    return folder


def _is_run(folder: Path) -> bool:
    return (folder / _OF_RUNS).is_file()


def _is_model(folder: Path) -> bool:
    """Returns whether a folder is that of a model, whose config.json is Hugging Face's."""
    if (folder / "modules.json").is_file() or (folder / OURS).is_file():
        return True
    try:
        return "model_type" in read_json(folder / "config.json", dict[str, Any])
    except FolderError:
        return False

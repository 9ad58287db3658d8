"""Finds the model of a run, of a model folder, or of a name on the Hub."""

from __future__ import annotations

from pathlib import Path

from contrastive.errors import FolderError
from contrastive.interop.hf_import import OURS
from contrastive.interop.hub import local_folder


def model_folder(name: str | Path, *, revision: str | None, cache_dir: str | None) -> Path:
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
    if (folder / "model").is_dir():
        return folder / "model"
    if not (folder / "inputs.json").is_file():
        return local_folder(str(name), revision=revision, cache_dir=cache_dir)
    above = folder.absolute().parent  # where `contrastive finetune` saves the model
    if (above / OURS).is_file():
        return above
    raise FolderError(
        f"{folder} is the folder of a run that is not finished, or of a sweep, and contains no "
        "model; run the same command again to finish a run"
    )

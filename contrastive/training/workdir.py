"""The folder of a run, and whose it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pydantic

from contrastive.config import Experiment, differences
from contrastive.errors import FolderError


def claim(workdir: Path, config: Experiment, *, write: bool) -> None:
    """Makes the folder this config's, or checks that it is.

    Args:
      workdir: The folder; made if it is not there.
      config: Of the run.
      write: Whether this process writes.

    Raises:
      FolderError: If the folder has another config, naming the fields that differ, or holds
        something else.
    """
    path = workdir / "config.json"
    if path.exists():
        different = differences(load_config(workdir), config)
        if different:
            fields = "\n  ".join(different)
            raise FolderError(
                f"{workdir} belongs to a run with another config:\n  {fields}\n"
                "Give another --workdir, or the settings it was started with to go on with it."
            )
    elif workdir.is_dir() and any(not p.name.startswith(".") for p in workdir.iterdir()):
        raise FolderError(
            f"{workdir} is not empty and holds no config.json of a run; give another --workdir"
        )
    elif write:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(path, config.model_dump(mode="json"))


def load_config(workdir: Path) -> Experiment:
    """The config a run was started with.

    Args:
      workdir: The run's folder.

    Returns:
      The config.

    Raises:
      FolderError: If there is none, or it cannot be read.
    """
    path = workdir / "config.json"
    try:
        return Experiment.model_validate_json(path.read_bytes())
    except OSError:
        raise FolderError(f"{path}: no such file; is {workdir} the folder of a run?") from None
    except pydantic.ValidationError as error:
        raise FolderError(f"{path} is not a config of this version: {error}") from None


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all.

    Args:
      path: The file.
      value: What JSON can hold.
    """
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)

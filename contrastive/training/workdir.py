"""The folder of a run, and whose it is."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pydantic
from filelock import FileLock, Timeout

from contrastive.config import Experiment, differences
from contrastive.errors import FolderError

_CONFIG, _INPUTS, _LOCK = "config.json", "inputs.json", ".lock"


def check(workdir: Path, config: Experiment, *, overwrite: bool = False) -> None:
    """Whether a run may use the folder; looks, and changes nothing.

    Args:
      workdir: The folder, there or not.
      config: Of the run.
      overwrite: Whether it may take the place of another run.

    Raises:
      FolderError: If the folder has another config, naming the fields that differ, holds something
        else, or cannot be written.
    """
    if (workdir / _CONFIG).exists():
        different = [] if overwrite else differences(load_config(workdir), config)
        if different:
            fields = "\n  ".join(different)
            raise FolderError(
                f"{workdir} belongs to a run with another config:\n  {fields}\n"
                "Give another --workdir, or the settings it was started with to go on with it."
            )
    elif workdir.is_dir() and any(not p.name.startswith(".") for p in workdir.iterdir()):
        raise FolderError(
            f"{workdir} is not empty and holds no {_CONFIG} of a run; give another --workdir"
        )
    existing = next(p for p in (workdir, *workdir.absolute().parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise FolderError(f"{workdir} cannot be written: {existing} is not a folder of yours")


@contextlib.contextmanager
def claimed(
    workdir: Path, config: Experiment, inputs: Mapping[str, str], *, overwrite: bool = False
) -> Iterator[None]:
    """Makes the folder this run's, alone, while entered.

    Args:
      workdir: The folder; made if it is not there.
      config: Of the run.
      inputs: Fingerprints of what the config names but does not hold: data and tokenizer.
      overwrite: Whether a run with another config, or other inputs, is removed from the folder.

    Raises:
      FolderError: If another process is at work in the folder, or the run was started with other
        inputs.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(workdir / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FolderError(
            f"another process is at work in {workdir}; wait for it, or give another --workdir"
        ) from None
    with lock:
        if overwrite:
            _remove_other_run(workdir, config, inputs)
        check(workdir, config)
        if not (workdir / _CONFIG).exists():
            write_json(workdir / _INPUTS, inputs)
            write_json(workdir / _CONFIG, config.model_dump(mode="json"))
        check_inputs(workdir, inputs)
        yield


def _remove_other_run(workdir: Path, config: Experiment, inputs: Mapping[str, str]) -> None:
    """Empties the folder of a run that is not this one; what is no run stays as it is."""
    if not (workdir / _CONFIG).is_file():
        return
    try:
        check(workdir, config)
        check_inputs(workdir, inputs)
    except (FolderError, FileNotFoundError):
        # Without the lock another process would think itself alone, and without the config what is
        # left by a removal that is cut short would be nobody's.
        names = sorted({path.name for path in workdir.iterdir()} - {_LOCK, _CONFIG})
        print(f"contrastive: removing the other run in {workdir}: {', '.join((*names, _CONFIG))}")
        for path in (workdir / name for name in (*names, _CONFIG)):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def check_inputs(workdir: Path, inputs: Mapping[str, str]) -> None:
    """Whether the run was started with these inputs.

    Args:
      workdir: The run's folder.
      inputs: Fingerprints by name.

    Raises:
      FolderError: Naming those that differ.
    """
    started = json.loads((workdir / _INPUTS).read_text(encoding="utf-8"))
    names = dict.fromkeys([*inputs, *started])
    changed = [name for name in names if inputs.get(name) != started.get(name)]
    if changed:
        kind = "sweep" if "axes" in started else "run"
        raise FolderError(
            f"since the {kind} in {workdir} was started, its inputs have changed: "
            f"{', '.join(changed)}. Bring them back to go on with it, or give another --workdir."
        )


def load_config(workdir: Path) -> Experiment:
    """The config a run was started with.

    Args:
      workdir: The run's folder.

    Returns:
      The config.

    Raises:
      FolderError: If there is none, or it cannot be read.
    """
    path = workdir / _CONFIG
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
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)

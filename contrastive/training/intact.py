"""Finds checkpoints that were damaged after they were written, and sets them aside."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pydantic

from contrastive.digests import check_manifest
from contrastive.errors import FolderError
from contrastive.json_files import read_json

_RESTORE = "restore it from a copy"


class _Progress(pydantic.BaseModel):
    saved_step: pydantic.NonNegativeInt


def set_damaged_aside(latest: Path, best: Path) -> None:
    """Moves damaged checkpoints into `damaged/`, so that the one before them is the latest.

    A checkpoint is intact if its files, and the best parameters that it refers to, have the digests
    with which they were written.

    Args:
      latest: Folder with one folder per checkpoint, named by step.
      best: Folder with one folder of parameters per step.

    Raises:
      FolderError: If all checkpoints are damaged; none is moved then.
    """
    problems: dict[Path, str] = {}
    for checkpoint in sorted(_checkpoints(latest), key=lambda path: -int(path.name)):
        problem = _problem(checkpoint, best)
        if problem is None:
            break
        problems[checkpoint] = problem
    else:
        if problems:
            raise FolderError(
                f"every checkpoint in {latest} is damaged: {'; '.join(problems.values())}. Restore "
                f"one from a copy, or remove {latest.parent} to train from the beginning",
                see=("workdir",),
            )
        return
    for damaged, problem in problems.items():
        lost = int(damaged.name) - int(checkpoint.name)
        print(
            f"contrastive: the checkpoint of step {damaged.name} is damaged ({problem}) and was "
            f"moved to {_moved(damaged)}; training resumes from step {checkpoint.name}, {lost} "
            f"{'step' if lost == 1 else 'steps'} earlier",
            file=sys.stderr,
        )


def check_best(folder: Path) -> None:
    """Checks that the best parameters are as they were written.

    Args:
      folder: The folder of the parameters.

    Raises:
      FolderError: If they are damaged.
    """
    try:
        check_manifest(folder)
    except FolderError as error:
        raise FolderError(
            f"the best parameters are damaged: {error}; run the same command again to resume from "
            "an earlier checkpoint",
            see=("workdir",),
        ) from None


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if path.name.isdecimal()]


def _problem(checkpoint: Path, best: Path) -> str | None:
    """Returns what is wrong with a checkpoint; None if it is intact."""
    try:
        if check_manifest(checkpoint):
            progress = checkpoint / "progress" / "metadata"
            best_step = read_json(progress, _Progress, remedy=_RESTORE).saved_step
            if best_step and (best / str(best_step)).is_dir():
                check_manifest(best / str(best_step))
    except FolderError as error:
        return str(error)
    return None


def _moved(damaged: Path) -> Path:
    """Moves a damaged checkpoint to a new name in the folder `damaged`, and returns that name."""
    room = damaged.parent.parent / "damaged"
    room.mkdir(exist_ok=True)
    number = sum(1 for _ in room.iterdir()) + 1
    target = room / f"{damaged.parent.name}-{damaged.name}-{number}"
    os.replace(damaged, target)
    return target

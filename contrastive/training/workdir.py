"""The folder of a run: checks, locking and the stored config."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from contrastive.errors import FolderError, Naming
from contrastive.files import write_json
from contrastive.json_files import read_json
from contrastive.parts import foreign_parts, foreign_traits
from contrastive.settings import differences
from contrastive.training.experiment import Experiment
from contrastive.training.old_configs import current, is_old

_CONFIG, _INPUTS, _LOCK = "config.json", "inputs.json", ".lock"
_PARTS = "parts.json"  # traits of custom parts, for commands that do not import them


def check(workdir: Path, config: Experiment, *, overwrite: bool = False) -> None:
    """Checks that a run may use a folder; changes nothing.

    Args:
      workdir: The folder, which need not exist.
      config: Config of the run.
      overwrite: Whether the run may replace another one.

    Raises:
      FolderError: If the folder belongs to another config (the message names the fields that
        differ), contains something else, or cannot be written.
    """
    if (workdir / _CONFIG).exists():
        _refuse_other_folders(workdir)
        if not overwrite:
            _refuse_older_version(workdir)
        different = []
        if not overwrite:
            different = differences(load_config(workdir, "import"), config)
        if different:
            raise FolderError(
                lambda name: (
                    f"{workdir} belongs to a run with another config:\n"
                    f"{_lines(different, name)}\n"
                    "Choose another folder, or use the settings it was started with to resume it"
                    f"{_about_steps(different, name)}"
                ),
                see=("workdir",),
            )
    elif workdir.is_dir() and any(
        # A run that was killed at its very start leaves only the fingerprints.
        not p.name.startswith(".") and p.name != _INPUTS
        for p in workdir.iterdir()
    ):
        raise FolderError(
            f"{workdir} is not empty and contains no {_CONFIG} of a run; choose another folder",
            see=("workdir",),
        )
    existing = next(p for p in (workdir, *workdir.absolute().parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise FolderError(
            f"{workdir} cannot be written: {existing} is not a folder that you may write to"
        )


def _refuse_other_folders(workdir: Path) -> None:
    """Rejects folders with another config.json, such as model folders of Hugging Face."""
    stored = _stored_config(workdir)
    if stored is not None and not (
        isinstance(stored, dict) and {"name", "steps", "data"} <= stored.keys()
    ):
        raise FolderError(
            f"{workdir / _CONFIG} is not the config of a run; choose another folder",
            see=("workdir",),
        )


def _refuse_older_version(workdir: Path) -> None:
    if is_old(_stored_config(workdir)):
        raise FolderError(
            f"{workdir} belongs to a run of an earlier version, whose checkpoints this version "
            "cannot resume; choose another folder. evaluate, encode, search, report and advise can "
            "still read its results",
            see=("workdir",),
        )


def _stored_config(workdir: Path) -> object:
    """Returns the contents of config.json; None if it is damaged, which `load_config` reports."""
    try:
        return read_json(workdir / _CONFIG, Any)
    except FolderError:
        return None


def _about_steps(different: Sequence[str], name: Naming) -> str:
    """Returns how to train for more steps, if the number of steps is among the differences."""
    if not any(line.startswith("steps: ") for line in different):
        return ""
    return (
        ". A run cannot be extended, because its learning rate depends on the number of steps: to "
        f"train its model further, start another run with that model as {name('model.name')}"
    )


def _lines(different: Sequence[str], name: Naming) -> str:
    """Lines of `differences`, with the fields named; one line for fields of the same name."""
    changes: dict[str, str] = {}
    for field, _, change in (line.partition(": ") for line in different):
        changes.setdefault(name(field), change)
    return "\n".join(f"  {field}: {change}" for field, change in changes.items())


@contextlib.contextmanager
def claimed(
    workdir: Path, config: Experiment, inputs: Mapping[str, str], *, overwrite: bool = False
) -> Iterator[None]:
    """Context in which this process has exclusive use of the folder.

    Args:
      workdir: The folder; created if it does not exist.
      config: Config of the run.
      inputs: Fingerprints of what the config names but does not contain, such as data.
      overwrite: Whether to remove a run with another config or other inputs from the folder.

    Raises:
      FolderError: If another process is using the folder, or the run was started with other
        inputs.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(workdir / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FolderError(
            f"another process is using {workdir}; wait for it, or choose another folder",
            see=("workdir",),
        ) from None
    with lock:
        if overwrite:
            _remove_other_run(workdir, config, inputs)
        check(workdir, config)
        if not (workdir / _CONFIG).exists():
            write_json(workdir / _INPUTS, inputs)
            write_json(workdir / _CONFIG, config.model_dump(mode="json"))
        check_inputs(workdir, inputs)
        if traits := foreign_traits(config):
            write_json(workdir / _PARTS, traits)
        yield


def _remove_other_run(workdir: Path, config: Experiment, inputs: Mapping[str, str]) -> None:
    """Removes another run from the folder; a folder that is not a run's is left alone."""
    if not (workdir / _CONFIG).is_file():
        return
    _refuse_other_folders(workdir)
    try:
        check(workdir, config)
        check_inputs(workdir, inputs)
    except FolderError:
        # The lock stays so that no other process uses the folder, and the config is removed last so
        # that the rest still belongs to a run if the removal is interrupted.
        names = sorted({path.name for path in workdir.iterdir()} - {_LOCK, _CONFIG})
        print(f"contrastive: removing the other run in {workdir}: {', '.join((*names, _CONFIG))}")
        for path in (workdir / name for name in (*names, _CONFIG)):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def check_inputs(workdir: Path, inputs: Mapping[str, str]) -> None:
    """Checks that the run was started with these inputs.

    Args:
      workdir: Folder of the run.
      inputs: Fingerprints by name.

    Raises:
      FolderError: If some inputs differ; the message names them. Also if the folder is that of a
        sweep and the inputs are those of a run, or the other way round.
    """
    started = _stored_inputs(workdir)
    if ("axes" in started) != ("axes" in inputs):
        kinds = ("sweep", "run") if "axes" in started else ("run", "sweep")
        raise FolderError(
            f"{workdir} is the folder of a {kinds[0]}, not of a {kinds[1]}; choose another folder",
            see=("workdir",),
        )
    names = dict.fromkeys([*inputs, *started])
    changed = [name for name in names if inputs.get(name) != started.get(name)]
    if changed:
        kind = "sweep" if "axes" in started else "run"
        raise FolderError(
            lambda name: (
                f"since the {kind} in {workdir} was started, its inputs have changed: "
                f"{', '.join(map(name, changed))}. Restore them to resume it, or choose another "
                "folder"
            ),
            see=("workdir",),
        )


def is_sweep(workdir: Path) -> bool:
    """Returns whether a folder is that of a sweep, which may be unfinished."""
    return (workdir / _INPUTS).exists() and "axes" in _stored_inputs(workdir)


def _stored_inputs(workdir: Path) -> dict[str, Any]:
    return read_json(workdir / _INPUTS, dict[str, Any], remedy="restore it from a copy")


def load_config(
    workdir: Path, foreign: Literal["refuse", "import", "inert"] = "inert"
) -> Experiment:
    """Loads the config that a run was started with.

    Args:
      workdir: Folder of the run.
      foreign: How to handle parts from outside of this package; see `foreign_parts`.

    Returns:
      The config.

    Raises:
      FolderError: If there is no config, or it cannot be read.
    """
    path = workdir / _CONFIG
    if not path.exists():
        raise FolderError(f"{path}: no such file; is {workdir} the folder of a run?")
    stored = read_json(path, dict[str, Any], remedy="restore it from a copy")
    try:
        with foreign_parts(foreign, _traits(workdir)):
            return Experiment(**current(stored))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise FolderError(f"{path} is not a config of this version: {error}") from None


def _traits(workdir: Path) -> dict[str, Any]:
    """Returns the stored traits of custom parts; older folders have none."""
    path = workdir / _PARTS
    if not path.exists():
        return {}
    remedy = "remove it; a resumed run restores it"
    stored = read_json(path, dict[str, dict[str, Any] | None], remedy=remedy)
    return {kind: traits for kind, traits in stored.items() if traits is not None}

"""Checkpoints of a run: state, data position and progress, saved atomically."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from pathlib import Path
from typing import Any, NamedTuple

import orbax.checkpoint as ocp
from jaxtyping import PyTree

from contrastive.devices import distributed
from contrastive.digests import read_sealed, write_manifest, write_sealed
from contrastive.errors import FolderError, SaveError
from contrastive.training.intact import check_best, set_damaged_aside
from contrastive.training.progress import Progress


class Restored(NamedTuple):
    """A restored checkpoint.

    Attributes:
      step: Number of updates made.
      state: State, as it was saved.
      position: Position of the data iterator before the next batch.
      progress: Progress of the evaluations.
    """

    step: int
    state: PyTree
    position: dict[str, Any]
    progress: Progress


class Checkpoints:
    """Saves checkpoints in the background; a checkpoint gets its name once it is complete.

    Args:
      folder: Folder in which `latest/` and `best/` are created.
      keep: Number of latest checkpoints to keep; None keeps all.
    """

    def __init__(self, folder: Path, keep: int | None):
        logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports every save at length
        self._latest = self._manager(folder / "latest", keep)
        self._best = self._manager(folder / "best", None)
        self._raised = folder / "raised.json"
        self._known_best = 0  # the best step that the latest checkpoint refers to
        self._writing: int | None = None

    def save(self, step: int, state: PyTree, position: dict[str, Any], progress: Progress) -> None:
        """Starts to save everything that a resumed run needs.

        Args:
          step: Number of updates made.
          state: State after these updates.
          position: Position of the data iterator before the next batch.
          progress: Progress of the evaluations.

        Raises:
          SaveError: If this save or the previous one fails.
        """
        if step == self._latest.latest_step():
            return
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=ocp.args.JsonSave(position),
            progress=ocp.args.JsonSave(dataclasses.asdict(progress)),
        )
        self._save(self._latest, step, args)
        self._known_best = progress.saved_step

    def save_best(self, step: int, params: PyTree) -> None:
        """Starts to save parameters as the best so far.

        The best parameters that the latest checkpoint refers to are kept: they are needed if the
        run ends before a checkpoint refers to the new ones.

        Args:
          step: Number of updates made.
          params: Parameters after these updates.

        Raises:
          SaveError: If this save or the previous one fails.
        """
        self.wait()  # until the latest checkpoint is complete, the one before it is the latest
        for saved in self._best.all_steps():
            if saved != self._known_best:
                self._best.delete(saved)
        args = ocp.args.Composite(params=ocp.args.StandardSave(params))
        self._save(self._best, step, args)

    def resume(self, like: PyTree) -> Restored | None:
        """Restores the latest complete checkpoint.

        Args:
          like: Shapes of the state, with shardings if there are any; devices may have changed.

        Returns:
          The checkpoint, or None if there is none.

        Raises:
          FolderError: If the best parameters that it refers to are missing.
        """
        self._set_damaged_aside()
        step = self._latest.latest_step()
        restored = None
        if step is not None:
            args = ocp.args.Composite(
                state=ocp.args.StandardRestore(like),
                data=ocp.args.JsonRestore(),
                progress=ocp.args.JsonRestore(),
            )
            stored = self._restore(self._latest, step, args)
            progress: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in stored["progress"].items()
            }
            restored = Restored(step, stored["state"], stored["data"], Progress(**progress))
            self._known_best = restored.progress.saved_step
            self._check_best(restored.progress)
        for best in self._best.all_steps():
            if best > self._known_best:
                self._best.delete(best)  # saved after this checkpoint, so it will be saved again
        return restored

    def restore_best(self, like: PyTree, progress: Progress) -> PyTree:
        """Restores the best parameters.

        Args:
          like: Shapes of the parameters, with shardings if there are any.
          progress: Progress of the evaluations, which has a best step.

        Returns:
          The parameters.

        Raises:
          FolderError: If they are missing.
        """
        self.wait()
        self._check_best(progress)
        if distributed.is_first():
            check_best(Path(self._best.directory) / str(progress.saved_step))
        args = ocp.args.Composite(params=ocp.args.StandardRestore(like))
        return self._restore(self._best, progress.saved_step, args)["params"]

    def save_raised(self, times: int) -> None:
        """Records how often the temperature was raised, as the next checkpoint may be far away.

        Args:
          times: Total number of raises in the run.
        """
        if distributed.is_first():
            write_sealed(self._raised, {"times": times})

    def raised(self) -> int:
        """Returns how often the temperature was raised, also since the latest checkpoint."""
        times = 0
        if distributed.is_first() and self._raised.exists():
            remedy = "remove it to resume at the temperature of the latest checkpoint"
            times = read_sealed(self._raised, dict[str, int], remedy=remedy).get("times", 0)
        return int(distributed.from_first({"times": times})["times"])

    def _set_damaged_aside(self) -> None:
        if distributed.is_first():
            set_damaged_aside(Path(self._latest.directory), Path(self._best.directory))
        distributed.barrier("damaged checkpoints are set aside")
        self._latest.reload()

    def _restore(self, manager: ocp.CheckpointManager, step: int, args: Any) -> Any:
        try:
            return manager.restore(step, args=args)
        except Exception as error:  # as in _save; of files without digests, or of another model
            folder = Path(manager.directory) / str(step)
            raise FolderError(
                f"the checkpoint in {folder} cannot be restored: {_reason(error)}. If it is "
                "damaged, restore it from a copy, or remove it to resume from the one before it",
                see=("workdir",),
            ) from error

    def _check_best(self, progress: Progress) -> None:
        steps = self._best.all_steps()
        if progress.saved_step and progress.saved_step not in steps:
            raise FolderError(
                f"the best evaluation was that of step {progress.saved_step}, whose parameters are "
                f"not in {self._best.directory} (it has steps {sorted(steps)}); copy them back, or "
                "start in a new folder",
                see=("workdir",),
            )

    def wait(self) -> None:
        """Waits until everything is on disk.

        Raises:
          SaveError: If a save failed.
        """
        for manager in (self._latest, self._best):
            try:
                manager.wait_until_finished()
                manager.check_for_errors()
            except Exception as error:  # as in _save
                raise self._failed(manager, error) from error

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *exception) -> None:
        for manager in (self._latest, self._best):
            # Failures were already reported by wait(), or another error is being raised.
            with contextlib.suppress(Exception):
                manager.close()

    def _save(self, manager: ocp.CheckpointManager, step: int, args: ocp.args.Composite) -> None:
        # One save at a time: with several processes, concurrent saves block at each other's
        # barriers.
        self.wait()
        self._writing = step
        try:
            manager.save(step, args=args, force=True)
        except Exception as error:  # TensorStore and Orbax raise many types of exceptions
            raise self._failed(manager, error) from error

    def _failed(self, manager: ocp.CheckpointManager, error: Exception) -> SaveError:
        # Orbax's other writers fail too; their tracebacks would bury this message at exit.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        self._latest.reload()  # what a resumed run starts from, whichever of the two failed
        whole = self._latest.latest_step()
        latest = (
            f"The checkpoint of step {whole} is complete"
            if whole is not None
            else "No earlier checkpoint was saved"
        )
        reason = _reason(error)
        full = re.search(r"space|too large|quota", reason, re.IGNORECASE)
        advice = "Free some space" if full else "Fix the problem"
        return SaveError(
            f"cannot save the checkpoint of step {self._writing} in {manager.directory}: {reason}. "
            f"{latest}. {advice}, then run the same command again to resume."
        )

    def _manager(self, folder: Path, keep: int | None) -> ocp.CheckpointManager:
        def complete() -> None:
            # Called when all files are written, before the folder gets its final name.
            if distributed.is_first():
                (partial,) = folder.glob(f"{self._writing}.*")
                write_manifest(partial)

        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=complete),
        )
        return ocp.CheckpointManager(folder.absolute(), options=options)


def _reason(error: Exception) -> str:
    """Returns what went wrong; TensorStore wraps "what: why" in one '"path": ' after another."""
    return str(error).strip().split("\n")[0].rsplit('": ', 1)[-1][:300]

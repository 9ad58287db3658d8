"""Checkpoints of a run: state, data position and progress, saved atomically."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orbax.checkpoint as ocp
from jaxtyping import PyTree

from contrastive.devices import distributed
from contrastive.errors import FolderError, SaveError
from contrastive.files import write_json


@dataclasses.dataclass(frozen=True)
class Progress:
    """Progress of the evaluations. Tuples have one entry per run, of which a sweep has several.

    Attributes:
      best: Best value of the metric so far; None before the first evaluation.
      best_step: Step of the best value.
      worse: Number of evaluations since the best one.
      saved_step: Last step at which some run improved and parameters were saved.
      raised: How often the temperature was raised after the run diverged.
      evaluated_step: Step of the last evaluation.
    """

    best: tuple[float | None, ...]
    best_step: tuple[int, ...]
    worse: tuple[int, ...]
    saved_step: int = 0
    raised: int = 0
    evaluated_step: int = 0

    @classmethod
    def start(cls, runs: int) -> Progress:
        """Returns the progress before the first evaluation."""
        return cls((None,) * runs, (0,) * runs, (0,) * runs)

    def after(
        self, values: Sequence[float | None], step: int, patience: int | None
    ) -> tuple[Progress, list[bool]]:
        """Adds an evaluation.

        Args:
          values: The metric of each run; None for a run that was not evaluated.
          step: Step of the evaluation.
          patience: Number of evaluations without improvement after which a run's best is final.

        Returns:
          The new progress, and which runs improved.
        """
        settled = [patience is not None and worse >= patience for worse in self.worse]
        improved = [
            # A score that is not a number, as of a collapsed encoder, is never the best.
            value is not None
            and math.isfinite(value)
            and not done
            and (best is None or value > best)
            for value, best, done in zip(values, self.best, settled, strict=True)
        ]
        each = zip(values, self.best, self.best_step, self.worse, improved, settled, strict=True)
        new = [
            (value, step, 0) if better else (best, at, worse if done else worse + 1)
            for value, best, at, worse, better, done in each
        ]
        best, best_step, worse = zip(*new, strict=True)
        saved_step = step if any(improved) else self.saved_step
        return Progress(best, best_step, worse, saved_step, self.raised, step), improved

    def is_over(self, patience: int | None) -> bool:
        """Whether all runs have exhausted the patience."""
        return patience is not None and all(worse >= patience for worse in self.worse)


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
        self._latest = _manager(folder / "latest", keep)
        self._best = _manager(folder / "best", None)
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
        step = self._latest.latest_step()
        restored = None
        if step is not None:
            args = ocp.args.Composite(
                state=ocp.args.StandardRestore(like),
                data=ocp.args.JsonRestore(),
                progress=ocp.args.JsonRestore(),
            )
            stored = self._latest.restore(step, args=args)
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
        args = ocp.args.Composite(params=ocp.args.StandardRestore(like))
        return self._best.restore(progress.saved_step, args=args)["params"]

    def save_raised(self, times: int) -> None:
        """Records how often the temperature was raised, as the next checkpoint may be far away.

        Args:
          times: Total number of raises in the run.
        """
        if distributed.is_first():
            write_json(self._raised, {"times": times})

    def raised(self) -> int:
        """Returns how often the temperature was raised, also since the latest checkpoint."""
        times = 0
        if distributed.is_first() and self._raised.exists():
            times = json.loads(self._raised.read_text(encoding="utf-8"))["times"]
        return int(distributed.from_first({"times": times})["times"])

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
        # TensorStore wraps "what: why" in one '"path": ' after another.
        reason = str(error).strip().split("\n")[0].rsplit('": ', 1)[-1][:300]
        full = re.search(r"space|too large|quota", reason, re.IGNORECASE)
        advice = "Free some space" if full else "Fix the problem"
        return SaveError(
            f"cannot save the checkpoint of step {self._writing} in {manager.directory}: {reason}. "
            f"{latest}. {advice}, then run the same command again to resume."
        )


def _manager(folder: Path, keep: int | None) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
    return ocp.CheckpointManager(folder.absolute(), options=options)

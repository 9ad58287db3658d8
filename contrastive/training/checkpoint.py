"""Checkpoints of a run: state, position in the data and progress, whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import re
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from contrastive.errors import FolderError, SaveError
from contrastive.training import distributed
from contrastive.training.step import TrainState
from contrastive.training.workdir import write_json


@dataclasses.dataclass(frozen=True)
class Progress:
    """What the loop knows beside the state.

    Attributes:
      best: Best value of the metric so far, None before the first evaluation.
      best_step: Its step.
      worse: Evaluations since.
      raised: How often the temperature was raised after the run had diverged.
    """

    best: float | None = None
    best_step: int = 0
    worse: int = 0
    raised: int = 0

    def after(self, value: float, step: int) -> Progress:
        """Progress with one more evaluation."""
        if self.best is None or value > self.best:
            return dataclasses.replace(self, best=value, best_step=step, worse=0)
        return dataclasses.replace(self, worse=self.worse + 1)


class Checkpoints:
    """Saves in the background; a folder appears under its step's name once it is whole.

    Args:
      folder: `latest/` and `best/` are made in it.
      keep: Latest checkpoints that are kept; None is all.
    """

    def __init__(self, folder: Path, keep: int | None):
        logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every save at length
        self._latest = _manager(folder / "latest", keep)
        self._best = _manager(folder / "best", None)
        self._raised = folder / "raised.json"
        self._known_best = 0  # the best step that the latest checkpoint knows of
        self._writing: int | None = None

    def save(self, state: TrainState, position: dict[str, Any], progress: Progress) -> None:
        """Starts to save all that a resumed run needs.

        Args:
          state: State after its step.
          position: Of the data iterator, before the next batch.
          progress: Of the evaluations.

        Raises:
          SaveError: If this save, or the one before it, fails.
        """
        step = int(state.step)
        if step == self._latest.latest_step():
            return
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=ocp.args.JsonSave(position),
            progress=ocp.args.JsonSave(dataclasses.asdict(progress)),
        )
        self._save(self._latest, step, args)
        self._known_best = progress.best_step

    def save_best(self, state: TrainState) -> None:
        """Starts to save the parameters as the best so far.

        If the run ends before a checkpoint knows of them, those that the latest checkpoint knows of
        are the best again: they stay.

        Args:
          state: State after its step.

        Raises:
          SaveError: If this save, or the one before it, fails.
        """
        self.wait()  # until the latest checkpoint is whole, the one before it is the latest
        for step in self._best.all_steps():
            if step != self._known_best:
                self._best.delete(step)
        args = ocp.args.Composite(params=ocp.args.StandardSave(state.params))
        self._save(self._best, int(state.step), args)

    def resume(self, like: TrainState) -> tuple[TrainState, dict[str, Any], Progress] | None:
        """The latest whole checkpoint.

        Args:
          like: Shapes and shardings to restore to; the devices may have changed.

        Returns:
          State, position of the data iterator and progress; None to start from the beginning.

        Raises:
          FolderError: If the best parameters it knows of are gone.
        """
        step = self._latest.latest_step()
        found = None
        if step is not None:
            args = ocp.args.Composite(
                state=ocp.args.StandardRestore(like),
                data=ocp.args.JsonRestore(),
                progress=ocp.args.JsonRestore(),
            )
            kept = self._latest.restore(step, args=args)
            found = kept["state"], kept["data"], Progress(**kept["progress"])
            self._known_best = found[2].best_step
            self._check_best(found[2])
        for best in self._best.all_steps():
            if best > self._known_best:
                self._best.delete(best)  # found after this checkpoint; it will be found again
        return found

    def save_raised(self, times: int) -> None:
        """Writes how often the temperature was raised: the next checkpoint may be far.

        Args:
          times: In all of the run.
        """
        if distributed.is_first():
            write_json(self._raised, {"times": times})

    def raised(self) -> int:
        """How often the temperature was raised, of which the latest checkpoint may not know."""
        times = 0
        if distributed.is_first() and self._raised.exists():
            times = json.loads(self._raised.read_text(encoding="utf-8"))["times"]
        return int(distributed.from_first({"times": times})["times"])

    def restore_best(self, like: TrainState, progress: Progress) -> TrainState:
        """The state with the best parameters, or as it is if nothing was evaluated.

        Args:
          like: The state that takes them.
          progress: Of the evaluations.

        Returns:
          The state.

        Raises:
          FolderError: If they are gone.
        """
        self.wait()
        self._check_best(progress)
        if progress.best is None:
            return like
        best = progress.best_step
        args = ocp.args.Composite(params=ocp.args.StandardRestore(_shapes(like.params)))
        return dataclasses.replace(like, params=self._best.restore(best, args=args)["params"])

    def _check_best(self, progress: Progress) -> None:
        steps = self._best.all_steps()
        if progress.best is not None and progress.best_step not in steps:
            raise FolderError(
                f"the best evaluation was that of step {progress.best_step}, whose parameters are "
                f"not in {self._best.directory} (there are {sorted(steps)}); copy them back, or "
                "start in a new --workdir"
            )

    def wait(self) -> None:
        """Returns once everything is on disk.

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
            # What failed was already reported by wait(), or is hidden by what is being raised.
            with contextlib.suppress(Exception):
                manager.close()

    def _save(self, manager: ocp.CheckpointManager, step: int, args: ocp.args.Composite) -> None:
        # One save at a time: with several processes, two at once wait at each other's barriers.
        self.wait()
        self._writing = step
        try:
            manager.save(step, args=args, force=True)
        except Exception as error:  # TensorStore and Orbax raise many kinds
            raise self._failed(manager, error) from error

    def _failed(self, manager: ocp.CheckpointManager, error: Exception) -> SaveError:
        # Orbax's other writers fail too; their tracebacks would bury this message at exit.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        self._latest.reload()  # what a resumed run goes on from, whichever of the two has failed
        whole = self._latest.latest_step()
        kept = f"the checkpoint of step {whole} is whole" if whole is not None else "none was saved"
        # TensorStore wraps "what: why" in one '"path": ' after another.
        reason = str(error).strip().split("\n")[0].rsplit('": ', 1)[-1][:300]
        full = re.search(r"space|too large|quota", reason, re.IGNORECASE)
        advice = "Free some space" if full else "Mend that"
        return SaveError(
            f"cannot save the checkpoint of step {self._writing} in {manager.directory}: {reason}. "
            f"Of those before it, {kept}. {advice}, then give the same command to go on."
        )


def _manager(folder: Path, keep: int | None) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
    return ocp.CheckpointManager(folder.absolute(), options=options)


def _shapes(tree):
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)

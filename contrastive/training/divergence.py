"""Handles steps that are not finite: stop, or continue at a higher temperature."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jaxtyping import PyTree

from contrastive.data.batches import DeviceBatch
from contrastive.devices import distributed
from contrastive.errors import DivergedError
from contrastive.training.checkpoints import Checkpoints
from contrastive.training.log import Log
from contrastive.training.metrics_file import METRICS, read_metrics
from contrastive.training.progress import Progress
from contrastive.training.runs import Runs, SingleRun

_MOST_RAISED = 3
_RAISED_BY = 2.0


class Place(NamedTuple):
    """A point in the training to continue from.

    Attributes:
      step: Number of updates made.
      state: State after these updates.
      progress: Progress of the evaluations.
      batch: Batch of the next step.
      raised: Whether the temperature was raised at this step.
    """

    step: int
    state: PyTree
    progress: Progress
    batch: DeviceBatch
    raised: bool = False


def known_raises(runs: Runs, checkpoints: Checkpoints, place: Place) -> Place:
    """Applies the temperature raises that the latest checkpoint does not include."""
    if runs.experiment.on_divergence == "stop":
        return place
    assert isinstance(runs, SingleRun)
    times = checkpoints.raised()
    return _raised(runs, place, times) if times > place.progress.raised else place


def go_on_after(
    error: DivergedError,
    runs: Runs,
    checkpoints: Checkpoints,
    resume: Callable[[], Place],
) -> Place:
    """Returns the point to continue from after a step that was not finite.

    Args:
      error: Describes the step that diverged.
      runs: The runs.
      checkpoints: Checkpoints of the runs; the raise is recorded beside them for a resumed run.
      resume: Restores the latest checkpoint.

    Returns:
      The point of the latest checkpoint, at a temperature above the one that diverged.

    Raises:
      DivergedError: If the config says to stop, or if raising the temperature did not help.
    """
    if runs.experiment.on_divergence == "stop":
        raise error
    assert isinstance(runs, SingleRun)
    checkpoints.wait()
    failed = known_raises(runs, checkpoints, resume())
    times = failed.progress.raised + 1
    if times > _MOST_RAISED:
        raise error
    place = _raised(runs, failed, times)
    before, after = runs.temperature(failed.state), runs.temperature(place.state)
    if after == before:  # the same steps would have the same outcome
        raise DivergedError(
            f"{error} The temperature was not raised: it is at its maximum, {before:.4g}."
        ) from error
    checkpoints.save_raised(times)
    if distributed.is_first():
        print(
            f"contrastive: {str(error).split(';')[0]}. Continuing from step {place.step} at "
            f"temperature {after:.4g}; this is raise {times} of at most {_MOST_RAISED}",
            file=sys.stderr,
        )
    return place


def write_raise(log: Log, runs: Runs, workdir: Path, step: int, state: PyTree) -> None:
    """Logs, only once, that a run continues from a step at a higher temperature."""
    assert isinstance(runs, SingleRun)
    raised = {"raised_temperature": runs.temperature(state)}
    # A run that ended before its next checkpoint continues from there a second time.
    if {"step": step, **raised} not in read_metrics(workdir / METRICS):
        log.write_values(step, raised)


def _raised(runs: SingleRun, place: Place, times: int) -> Place:
    factor = _RAISED_BY ** (times - place.progress.raised)
    progress = dataclasses.replace(place.progress, raised=times)
    state = runs.with_higher_temperature(place.state, factor)
    return place._replace(state=state, progress=progress, raised=True)

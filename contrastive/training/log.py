"""Logs metrics and timings of a training run, and detects steps that are not finite."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PyTree

from contrastive.data.batches import DeviceBatch, Feed
from contrastive.devices import distributed
from contrastive.errors import DivergedError
from contrastive.training.metrics_file import HISTOGRAMS, METRICS, JsonLines, read_metrics
from contrastive.training.runs import Runs
from contrastive.training.step import Metrics
from contrastive.writers._writer import OpenWriter

_SHOWN = ("loss", "accuracy", "temperature")


class Log:
    """Logs metrics one step late, so that the devices never wait for the host.

    Args:
      runs: The runs. Each of several runs has its own lines, up to the step at which it diverged.
      workdir: Folder that metrics are written to.
      step: Step that training continues from.
      feed: Reports how long training waited for data.
    """

    def __init__(self, runs: Runs, workdir: Path, step: int, feed: Feed):
        self._runs = runs
        self._workdir = workdir
        self._feed = feed
        self._noted: tuple[int, Metrics, float] | None = None
        self._writers: list[OpenWriter | JsonLines] = []
        self._histograms: JsonLines | None = None
        self._diverged: set[int] = set()
        if distributed.is_first():
            config = runs.experiment
            self._writers = [
                JsonLines(workdir / METRICS, step),
                *(writer.open(workdir, config.name, step) for writer in config.writers),
            ]
            self._histograms = JsonLines(workdir / HISTOGRAMS, step)
            rows = read_metrics(workdir / METRICS)
            self._diverged = {
                int(x["member"]) for x in rows if x.get("finite") == 0 and "member" in x
            }
        self._steps, self._queries = 0, 0
        self.seconds = 0.0
        """Number of seconds of training in this session, excluding evaluations and checkpoints."""
        self.waited = 0.0
        """The part of `seconds` that was spent waiting for data."""
        self.resume()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exception) -> None:
        for writer in (*self._writers, self._histograms):
            if writer is not None:
                writer.close()

    def note(self, step: int, metrics: Metrics, batch: DeviceBatch) -> bool:
        """Stores the metrics of a step.

        Args:
          step: Number of updates made.
          metrics: Metrics of the last update.
          batch: The batch of the last update.

        Returns:
          Whether the previous step was sound; if not, its metrics are kept instead.
        """
        if not self.is_sound():
            return False
        self._noted = step, metrics, batch.padding
        self._steps += 1
        self._queries += len(batch.batch.numbers)
        return True

    def is_sound(self) -> bool:
        """Returns whether training can continue after the stored step; waits for that step."""
        return self._noted is None or self._runs.is_sound(self._noted[1])

    def diverged(self) -> DivergedError:
        """Writes the stored step and returns an error that describes it."""
        assert self._noted is not None
        step, metrics, _ = self._noted
        self.write_values(step, {name: float(value) for name, value in metrics.items()})
        shown = {name: f"{float(value):.4g}" for name, value in metrics.items()}
        return DivergedError(
            f"step {step}: the loss is {shown['loss']} and the gradient norm {shown['grad_norm']} "
            f"at temperature {shown['temperature']}; the largest logit is "
            f"{shown['largest_logit']}. The update was not applied, and the checkpoints in "
            f"{self._workdir / 'checkpoints'} are from earlier steps. Raise the temperature or "
            f"lower the learning rate, and start in a new folder; `contrastive advise "
            f"{self._workdir}` says which",
            see=("loss.temperature", "optimizer.learning_rate"),
        )

    def write(self, state: PyTree) -> dict[str, str]:
        """Writes the stored step.

        Args:
          state: State after the step.

        Returns:
          Values to show beside the progress bar.
        """
        assert self._noted is not None
        step, metrics, padding = self._noted
        steps, queries, (seconds, waited) = self._steps, self._queries, self.pause()
        timing = {
            "seconds_per_step": seconds / steps,
            "queries_per_second": queries / seconds,
            "waiting_share": waited / seconds,
            "padding_share": padding,
        }
        for place, (ended, name) in self._runs.ended(state).items():
            if place not in self._diverged:
                self._diverged.add(place)
                self.write_values(ended, {**name, "finite": 0.0})
        shown = {}
        for name, own in self._runs.rows(metrics, state):
            values = {metric: float(value) for metric, value in own.items()}
            self.write_values(step, {**name, **values, **({} if name else timing)})
            shown = {metric: f"{values[metric]:.3f}" for metric in _SHOWN}
        self.resume()
        return shown if self._runs.count == 1 else {"diverged": str(len(self._diverged))}

    def write_scores(self, step: int, scores: Sequence[Mapping[str, float] | None]) -> None:
        """Writes the scores of each run; None for a run that was not evaluated."""
        for name, own in zip(self._runs.names(), scores, strict=True):
            if own is not None:
                self.write_values(step, {**name, **own})

    def write_details(self, step: int, summary: Mapping[str, Any], state: PyTree) -> None:
        """Writes detailed diagnostics; histograms go to a separate file."""
        for name, own in self._runs.rows(summary, state):
            scalars, histograms = divided(own)
            self.write_values(step, {**name, **scalars})
            if self._histograms is not None:
                self._histograms.write(step, {**name, **histograms})

    def write_values(self, step: int, values: Mapping[str, float]) -> None:
        """Writes named values of a step."""
        for writer in self._writers:
            writer.write(step, values)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Context whose time does not count as training."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def pause(self) -> tuple[float, float]:
        """Stops the clock.

        Returns:
          Seconds since the clock was started, and how many of them were spent waiting for data.
        """
        seconds = time.perf_counter() - self._since[0]
        waited = self._feed.waited - self._since[1]
        self.seconds += seconds
        self.waited += waited
        return seconds, waited

    def resume(self) -> None:
        """Restarts the clock and the step count."""
        self._steps, self._queries = 0, 0
        self._since = (time.perf_counter(), self._feed.waited)


def divided(summary: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Splits a summary into scalars and histograms, which lose their prefix."""
    arrays = {name: np.asarray(x) for name, x in summary.items()}
    scalars = {name: float(x) for name, x in arrays.items() if x.ndim == 0}
    histograms = {
        name.rpartition("/")[2]: [round(float(y), 7) for y in x]
        for name, x in arrays.items()
        if x.ndim
    }
    return scalars, histograms

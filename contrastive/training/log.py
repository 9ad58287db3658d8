"""Watches a run: metrics to writers, time to shares, and nothing that is not finite gets past."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from contrastive.config import Experiment
from contrastive.errors import DivergedError
from contrastive.temperature.details import Summary
from contrastive.training import distributed
from contrastive.training.feed import Feed
from contrastive.training.step import Metrics
from contrastive.training.writers import JsonLines, Writer, open_writers, read_metrics

HISTOGRAMS = "histograms.jsonl"


def divided(summary: Summary) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Numbers, and histograms without their prefix."""
    arrays = {name: np.asarray(x) for name, x in summary.items()}
    scalars = {name: float(x) for name, x in arrays.items() if x.ndim == 0}
    histograms = {
        name.rpartition("/")[2]: [round(float(y), 7) for y in x]
        for name, x in arrays.items()
        if x.ndim
    }
    return scalars, histograms


class Log:
    """Reads metrics one step late, so that the devices never wait for the host to look.

    Args:
      config: Of the run.
      workdir: The run's folder.
      step: Step the run starts from.
      feed: Whose waiting is watched.
    """

    def __init__(self, config: Experiment, workdir: Path, step: int, feed: Feed):
        self._config = config
        self._workdir = workdir
        self._feed = feed
        self._noted: tuple[int, Metrics, float] | None = None
        self._writers: list[Writer] = []
        self._histograms: JsonLines | None = None
        if distributed.is_first():
            self._writers = open_writers(config.writers, workdir, config.name, step)
            self._histograms = JsonLines(workdir / HISTOGRAMS, step)
        self._steps = 0
        self.seconds = 0.0
        """Seconds of training in this session, without evaluations and checkpoints."""
        self.waited = 0.0
        """Seconds of them spent waiting for data."""
        self._start()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exception) -> None:
        for writer in (*self._writers, self._histograms):
            if writer is not None:
                writer.close()

    def note(self, step: int, metrics: Metrics, padding: float) -> None:
        """Takes a step's metrics, after checking those of the step before.

        Args:
          step: Updates made.
          metrics: Of the last.
          padding: Share of the row positions without a token.

        Raises:
          DivergedError: If the step before was not finite.
        """
        self.check()
        self._noted = step, metrics, padding
        self._steps += 1

    def check(self) -> None:
        """Waits for the noted step.

        Raises:
          DivergedError: If its loss or gradient is not finite.
        """
        if self._noted is None or self._noted[1]["finite"]:
            return
        step, metrics, _ = self._noted
        for writer in self._writers:
            writer.write(step, {name: float(value) for name, value in metrics.items()})
        shown = {name: f"{float(value):.4g}" for name, value in metrics.items()}
        raise DivergedError(
            f"step {step}: the loss is {shown['loss']} and the gradient norm {shown['grad_norm']} "
            f"at temperature {shown['temperature']}; the largest logit is "
            f"{shown['largest_logit']}. The update was not applied, and the checkpoints in "
            f"{self._workdir / 'checkpoints'} are those of before. Raise loss.temperature or lower "
            "optimizer.learning_rate, and start in a new --workdir; `contrastive advise "
            f"{self._workdir}` says which."
        )

    def write(self) -> dict[str, str]:
        """Writes the noted step.

        Returns:
          What to show beside the progress bar.

        Raises:
          DivergedError: If it was not finite.
        """
        self.check()
        assert self._noted is not None
        step, metrics, padding = self._noted
        values = {name: float(value) for name, value in metrics.items() if name != "finite"}
        steps, (seconds, waited) = self._steps, self._stop()
        values["seconds_per_step"] = seconds / steps
        values["queries_per_second"] = self._config.batch_size * steps / seconds
        values["waiting_share"] = waited / seconds
        values["padding_share"] = padding
        for writer in self._writers:
            writer.write(step, values)
        self._start()
        return {name: f"{values[name]:.3f}" for name in ("loss", "accuracy", "temperature")}

    def pause(self) -> None:
        """Waits for the noted step, checks it and stops the clock; `resume` starts it again."""
        self.check()
        self._stop()

    def resume(self) -> None:
        """Starts the clock again."""
        self._start()

    def write_scores(self, step: int, scores: dict[str, float]) -> None:
        """Writes an evaluation on the validation data."""
        for writer in self._writers:
            writer.write(step, {f"validation/{name}": value for name, value in scores.items()})

    def write_raised(self, step: int, temperature: float) -> None:
        """Writes, once, that the run goes on from a step at a higher temperature."""
        raised = {"raised_temperature": temperature}
        # A run that ended before its next checkpoint goes on from there a second time.
        if {"step": step, **raised} in read_metrics(self._workdir / "metrics.jsonl"):
            return
        for writer in self._writers:
            writer.write(step, raised)

    def write_summary(self, step: int, summary: Summary) -> None:
        """Writes a closer look at the batch after a step; histograms to a file of their own."""
        scalars, histograms = divided(summary)
        for writer in self._writers:
            writer.write(step, scalars)
        if self._histograms is not None:
            self._histograms.write(step, histograms)

    def _start(self) -> None:
        self._steps, self._since = 0, (time.perf_counter(), self._feed.waited)

    def _stop(self) -> tuple[float, float]:
        seconds = time.perf_counter() - self._since[0]
        waited = self._feed.waited - self._since[1]
        self.seconds += seconds
        self.waited += waited
        return seconds, waited

"""Runs that differ in their seed alone, and numbers of them."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from contrastive.config import Experiment
from contrastive.config.function import WITHOUT_TEMPERATURE
from contrastive.lab.table import Interval, interval

_RAISED = "raised_temperature"


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run, alone or of a sweep.

    Attributes:
      scores: At its end, by name; none of one that has diverged or is not finished.
      metrics: Lines of the log, in order.
      histograms: Lines with the shares of positives, negatives and the gradient in each bin of
        cosines; the gradient is not in old files.
      diverged_at: The step whose loss was not finite.
      finished: Whether it has come to its end, or has diverged in a sweep that has.
    """

    scores: Mapping[str, float]
    metrics: Sequence[Mapping[str, Any]]
    histograms: Sequence[Mapping[str, Any]]
    diverged_at: int | None
    finished: bool

    @property
    def last(self) -> dict[str, Any]:
        """What was last logged under each name."""
        return {name: x for row in self.metrics for name, x in row.items()}


@dataclasses.dataclass(frozen=True)
class Histograms:
    """Cosines of a setting after a step, means over its seeds.

    Attributes:
      step: Updates made.
      temperature: At that step.
      positive: Share of the positives in each bin.
      negative: Share of the negatives in each bin.
      gradient: Share of InfoNCE's gradient in the negatives of each bin; None of old files.
    """

    step: int
    temperature: float
    positive: Sequence[float]
    negative: Sequence[float]
    gradient: Sequence[float] | None


@dataclasses.dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed alone.

    Attributes:
      label: The values, or the folder of a run.
      values: Of the fields in which it differs from the settings beside it.
      config: Of the runs.
      runs: The seeds.
    """

    label: str
    values: Mapping[str, Any]
    config: Experiment
    runs: Sequence[Run]

    @property
    def sound(self) -> Sequence[Run]:
        """Runs that have not diverged."""
        return [run for run in self.runs if run.diverged_at is None]

    def score(self, name: str) -> Interval:
        """Mean and 95 % interval over the seeds that have it."""
        return interval([run.scores[name] for run in self.runs if name in run.scores])

    @property
    def has_temperature(self) -> bool:
        """Whether a temperature has a part in the loss."""
        return not isinstance(self.config.loss.function, WITHOUT_TEMPERATURE)

    @property
    def logged(self) -> set[str]:
        """Names of the metrics that have a value, and a meaning, at some step."""
        rows = [row for run in self.runs for row in run.metrics]
        names = {name for row in rows for name, x in row.items() if x is not None}
        without = set() if self.has_temperature else {"temperature"}
        return names - {"step", "member", "finite", _RAISED} - without

    def curve(self, name: str) -> tuple[list[int], list[float | None]]:
        """A metric against steps, the mean over the seeds that have it; None where it was null.

        Of several lines of a run at one step the last counts.
        """
        by_step: dict[int, list[float | None]] = {}
        for run in self.runs:
            for step, value in {r["step"]: r[name] for r in run.metrics if name in r}.items():
                by_step.setdefault(step, []).append(value)
        steps = sorted(by_step)
        return steps, [_mean(by_step[step]) for step in steps]

    @property
    def raised(self) -> list[tuple[int, float]]:
        """Steps from which runs went on after they had diverged, and at which temperatures."""
        rows = [row for run in self.runs for row in run.metrics]
        return [(row["step"], row[_RAISED]) for row in rows if row.get(_RAISED) is not None]

    def steps(self) -> list[int]:
        """After which there are histograms."""
        return sorted({row["step"] for run in self._looked_at for row in run.histograms})

    def histograms(self, until: int) -> Histograms | None:
        """The last that were taken up to a step, the first where that is later.

        Args:
          until: The step.

        Returns:
          The histograms, None of a setting without any.
        """
        steps = self.steps()
        if not steps:
            return None
        step = max((s for s in steps if s <= until), default=steps[0])
        looks = [{row["step"]: row for row in run.histograms} for run in self._looked_at]
        rows = [look[step] for look in looks if step in look]

        def mean(name: str) -> list[float]:
            return [statistics.fmean(bins) for bins in zip(*(r[name] for r in rows), strict=True)]

        return Histograms(
            step=step,
            temperature=self._temperature(step),
            positive=mean("positive"),
            negative=mean("negative"),
            gradient=mean("gradient") if all("gradient" in row for row in rows) else None,
        )

    @property
    def _looked_at(self) -> Sequence[Run]:
        return self.sound or self.runs

    def _temperature(self, step: int) -> float:
        """As logged last up to a step; the config's where none was logged."""
        logged = [
            {row["step"]: row["temperature"] for row in run.metrics if row.get("temperature")}
            for run in self._looked_at
        ]
        until = [[rows[s] for s in sorted(rows) if s <= step] for rows in logged]
        mean = _mean(values[-1] for values in until if values)
        return self.config.loss.temperature if mean is None else mean

    @property
    def state(self) -> str:
        """Whether its runs are finished, in words."""
        diverged = sorted(run.diverged_at for run in self.runs if run.diverged_at is not None)
        if diverged:
            steps = ", ".join(map(str, diverged))
            who = "" if len(self.runs) == 1 else f"{len(diverged)} of {len(self.runs)} "
            return f"{who}diverged at step {steps}"
        if all(run.finished for run in self.runs):
            return "finished"
        step = max((row["step"] for run in self.runs for row in run.metrics), default=0)
        return f"not finished: step {step} of {self.config.steps}"


def _mean(values) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None

"""Runs that differ only in their seed, with statistics over them."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from contrastive.sweeps.table import Interval, interval
from contrastive.training.experiment import Experiment
from contrastive.training.stored import RankedQuery

_RAISED = "raised_temperature"


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run, standalone or part of a sweep.

    Attributes:
      seed: Seed of the initial parameters and of dropout.
      scores: Final scores by the text of their `ScoreName`; empty if the run diverged or is not
        finished.
      metrics: Rows of the metrics log, in order; of a long log, only some steps.
      histograms: Rows with the shares of positives, negatives and gradient in each bin of cosines;
        older files lack the gradient.
      diverged_at: Step at which the loss was not finite; None if there was none.
      finished: Whether the run is complete, or diverged in a sweep that is complete.
      examples: What a few queries retrieved, by split and task, such as
        `test/scifact`.
    """

    seed: int
    scores: Mapping[str, float]
    metrics: Sequence[Mapping[str, Any]]
    histograms: Sequence[Mapping[str, Any]]
    diverged_at: int | None
    finished: bool
    examples: Mapping[str, Sequence[RankedQuery]] = dataclasses.field(default_factory=dict)

    @property
    def last(self) -> dict[str, Any]:
        """Last logged value of each metric."""
        return {name: x for row in self.metrics for name, x in row.items()}


@dataclasses.dataclass(frozen=True)
class Histograms:
    """Histograms of cosines of a setting at one step, averaged over its seeds.

    Attributes:
      step: Number of updates made.
      temperature: Temperature at that step.
      positive: Share of the positives in each bin.
      negative: Share of the negatives in each bin.
      gradient: Share of InfoNCE's gradient in each bin of negatives; None for older files.
    """

    step: int
    temperature: float
    positive: Sequence[float]
    negative: Sequence[float]
    gradient: Sequence[float] | None


@dataclasses.dataclass(frozen=True)
class Setting:
    """Runs that differ only in their seed.

    Attributes:
      label: The swept values as text, or the folder's label for a run.
      values: Values of the swept fields.
      config: Config of the runs.
      runs: The runs, one per seed.
    """

    label: str
    values: Mapping[str, Any]
    config: Experiment
    runs: Sequence[Run]

    @property
    def sound(self) -> Sequence[Run]:
        """Runs that did not diverge."""
        return [run for run in self.runs if run.diverged_at is None]

    def score(self, name: str) -> Interval:
        """Returns the mean and 95% interval of a score over the seeds that have it."""
        return interval([run.scores[name] for run in self.runs if name in run.scores])

    def difference(self, other: Setting, name: str) -> Interval:
        """Returns by how much a score exceeds that of another setting, paired by seed.

        Args:
          other: The setting to compare with.
          name: Name of the score.

        Returns:
          The mean difference and its 95% interval, over the seeds that both settings have.
        """
        return interval(list(self.differences(other, name).values()))

    def differences(self, other: Setting, name: str) -> dict[int, float]:
        """Returns by how much a score exceeds that of another setting, by seed.

        Seeds that only one of the settings has are left out; so are all of them if the settings
        shuffle their data differently, and thus do not share batches.

        Args:
          other: The setting to compare with.
          name: Name of the score.
        """
        if self.config.seed != other.config.seed:
            return {}
        base = {run.seed: run.scores[name] for run in other.runs if name in run.scores}
        ours = {run.seed: run.scores[name] for run in self.runs if name in run.scores}
        return {seed: score - base[seed] for seed, score in ours.items() if seed in base}

    @property
    def has_temperature(self) -> bool:
        """Whether the loss has a temperature."""
        return self.config.loss.function.has_temperature

    @property
    def logged(self) -> set[str]:
        """Names of the metrics that have a meaningful value at some step."""
        rows = [row for run in self.runs for row in run.metrics]
        names = {name for row in rows for name, x in row.items() if x is not None}
        without = set() if self.has_temperature else {"temperature"}
        return names - {"step", "member", "finite", _RAISED} - without

    def curve(self, name: str) -> tuple[list[int], list[float | None]]:
        """Returns the steps of a metric and its means over the seeds that logged it.

        A mean is None if all values were null. If a run logged a step several times, the last value
        counts.
        """
        by_step: dict[int, list[float | None]] = {}
        for run in self.runs:
            for step, value in {r["step"]: r[name] for r in run.metrics if name in r}.items():
                by_step.setdefault(step, []).append(value)
        steps = sorted(by_step)
        return steps, [_mean(by_step[step]) for step in steps]

    @property
    def raised(self) -> list[tuple[int, float]]:
        """Steps from which diverged runs resumed, and the raised temperatures they resumed with."""
        rows = [row for run in self.runs for row in run.metrics]
        return [(row["step"], row[_RAISED]) for row in rows if row.get(_RAISED) is not None]

    def steps(self) -> list[int]:
        """Returns the steps that have histograms, in ascending order."""
        return sorted({row["step"] for run in self._sound_or_all for row in run.histograms})

    def histograms(self, until: int) -> Histograms | None:
        """Returns the latest histograms up to a step, or the first ones if all are later.

        Args:
          until: The step.

        Returns:
          The histograms; None if the setting has none.
        """
        steps = self.steps()
        if not steps:
            return None
        step = max((s for s in steps if s <= until), default=steps[0])
        by_step = [{row["step"]: row for row in run.histograms} for run in self._sound_or_all]
        rows = [rows_of_run[step] for rows_of_run in by_step if step in rows_of_run]

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
    def _sound_or_all(self) -> Sequence[Run]:
        return self.sound or self.runs

    def _temperature(self, step: int) -> float:
        """Returns the last logged temperature up to a step, or else the config's."""
        logged = [
            {row["step"]: row["temperature"] for row in run.metrics if row.get("temperature")}
            for run in self._sound_or_all
        ]
        until = [[rows[s] for s in sorted(rows) if s <= step] for rows in logged]
        mean = _mean(values[-1] for values in until if values)
        return self.config.loss.temperature if mean is None else mean

    @property
    def state(self) -> str:
        """Whether the runs are finished, as text."""
        diverged = sorted(run.diverged_at for run in self.runs if run.diverged_at is not None)
        if diverged:
            steps = ", ".join(map(str, diverged))
            count = "" if len(self.runs) == 1 else f"{len(diverged)} of {len(self.runs)} "
            return f"{count}diverged at step {steps}"
        if all(run.finished for run in self.runs):
            return "finished"
        step = max((row["step"] for run in self.runs for row in run.metrics), default=0)
        return f"not finished: step {step} of {self.config.steps}"


def _mean(values) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None

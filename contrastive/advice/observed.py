"""The logged data of a run, and descriptions of its temperature."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from contrastive.data.config import MixturePart
from contrastive.training.experiment import Experiment

Row: TypeAlias = Mapping[str, Any]

_SAME = 0.05  # relative difference up to which losses at two temperatures are comparable
_SAME_AS_LIMIT = 0.01  # relative difference up to which a temperature counts as at its limit
_FEW = 5  # logged steps: a single batch may be easy or hard


class Finding(NamedTuple):
    """One finding about a run or a sweep.

    Attributes:
      cause: learning_rate, not_learning, duplicates, not_normalized, low_temperature,
        high_temperature, at_limit, raised, few_negatives, narrow_range, no_temperature, too_early
        or healthy; for a sweep, also best.
      seen: What was measured, with numbers.
      advice: What to change, or why no change is needed.
    """

    cause: str
    seen: str
    advice: str


@dataclasses.dataclass(frozen=True)
class Observed:
    """The logged data of a run.

    Attributes:
      config: The experiment.
      log: The rows of its metrics, in order; they cover at least one step.
      diverged_at: The step whose loss, gradient or update was not finite, if any.
    """

    config: Experiment
    log: Sequence[Row]
    diverged_at: int | None = None

    @functools.cached_property
    def steps(self) -> Sequence[Row]:
        """The rows of logged steps whose loss was finite."""
        return [row for row in self.log if row.get("loss") is not None]

    @functools.cached_property
    def first(self) -> Row:
        """The metrics of the first logged step."""
        row = next(row for row in self.log if "loss" in row)
        return {name: x for name, x in row.items() if x is not None}

    @functools.cached_property
    def last(self) -> Row:
        """The latest value of each metric."""
        return {name: x for row in self.log for name, x in row.items() if x is not None}

    @property
    def step(self) -> int:
        """The latest logged step."""
        return int(self.last["step"])

    @property
    def temperature(self) -> float:
        """The latest logged temperature, else that of the config."""
        return self.last.get("temperature", self.config.loss.temperature)

    @property
    def is_scheduled(self) -> bool:
        """Whether the temperature is a function of the step."""
        return self.config.loss.policy.is_scheduled

    @property
    def is_adaptive(self) -> bool:
        """Whether training determines the temperature, so that the config only sets its start."""
        policy = self.config.loss.policy
        return policy.is_learned or policy.is_individual

    @property
    def limit(self) -> str | None:
        """The limit that a learned temperature is at, by its name in `Policy.limits`, or None."""
        limits = self.config.loss.policy.limits
        return next((name for name, x in limits.items() if _are_same(self.temperature, x)), None)

    @property
    def is_at_lower_limit(self) -> bool:
        """Whether the limit that a learned temperature is at keeps it from falling."""
        limits = self.config.loss.policy.limits
        if self.limit is None:
            return False
        if len(limits) == 1:
            return self.config.loss.temperature >= limits[self.limit]
        return limits[self.limit] == min(limits.values())

    @property
    def ends(self) -> dict[str, float]:
        """The temperatures that a schedule moves between, by the name of their setting."""
        return self.config.loss.policy.ends(self.config.loss.temperature)

    @property
    def parts(self) -> Sequence[MixturePart]:
        """The parts of the training mixture, which may override settings."""
        return self.config.data.parts

    @property
    def sources_take_turns(self) -> bool:
        """Whether batches come from different sources, and so differ in difficulty."""
        data = self.config.data
        return data.homogeneous_batches and len(data.parts) > 1

    @property
    def negatives(self) -> int:
        """Number of negatives per query, before any are masked.

        If group sizes differ between sources, the largest counts. If any source does without
        in-batch negatives, only the query's own negatives count.
        """
        loss, data = self.config.loss, self.config.data
        sizes = [part.group_size or data.group_size for part in self.parts] or [data.group_size]
        in_batch = loss.sees_other_documents and all(part.in_batch for part in self.parts)
        queries = self.config.batch_size // loss.negative_groups if in_batch else 1
        return max(queries * max(sizes) - 1, 1)

    @functools.cached_property
    def raised(self) -> Sequence[float]:
        """The temperatures that it was raised to, each after a step that was not finite."""
        return [row["raised_temperature"] for row in self.log if "raised_temperature" in row]

    @functools.cached_property
    def raised_from(self) -> float:
        """The temperature before it was first raised."""
        first = next(n for n, row in enumerate(self.log) if "raised_temperature" in row)
        before = [row["temperature"] for row in self.log[:first] if row.get("temperature")]
        return before[-1] if before else self.config.loss.temperature

    @functools.cached_property
    def comparable(self) -> Sequence[Row]:
        """The logged steps whose losses are comparable with the latest.

        The loss depends on the temperature. Under a schedule, a loss that changes with it says
        nothing about the encoder. A learned temperature minimizes the loss, as the encoder does.
        """
        steps = [row for row in self._since_raised if row.get("loss") is not None]
        return [row for row in steps if self._is_as_hot(row)] if self.is_scheduled else steps

    @property
    def compares(self) -> bool:
        """Whether the latest loss is comparable with one from the first half of the run."""
        return len(self.comparable) > 1 and self.comparable[0]["step"] <= self.step / 2

    @property
    def start(self) -> float:
        """The initial loss that later losses are compared with.

        It is the first loss, or, if sources take turns, the largest of the first few, because the
        first source may be the easiest.
        """
        count = _FEW if self.sources_take_turns else 1
        return max(row["loss"] for row in self.comparable[:count])

    @property
    def lowest(self) -> float:
        """The smallest of the latest few comparable losses."""
        return min(row["loss"] for row in self.comparable[1:][-_FEW:])

    @property
    def accuracy(self) -> float:
        """Mean accuracy over the latest few steps; it does not depend on the temperature."""
        newest = (self.steps[1:] or self.steps)[-_FEW:]
        return statistics.fmean(row.get("accuracy") or 0.0 for row in newest)

    @functools.cached_property
    def latest_details(self) -> Row:
        """The latest detailed diagnostics, empty if the temperature has changed since."""
        details = [row for row in self._since_raised if "top_10_share" in row]
        if not details or not (self.is_scheduled or self.is_adaptive):
            return details[-1] if details else {}
        before = [row for row in self.steps if row["step"] <= details[-1]["step"]]
        return details[-1] if before and self._is_as_hot(before[-1]) else {}

    @property
    def _since_raised(self) -> Sequence[Row]:
        raises = [n for n, row in enumerate(self.log) if "raised_temperature" in row]
        return self.log[raises[-1] :] if raises else self.log

    def _is_as_hot(self, row: Row) -> bool:
        other = row.get("temperature") or self.temperature
        return abs(math.log(other / self.temperature)) < _SAME


def at(run: Observed) -> str:
    """Returns a phrase for the temperature of a run, such as "at temperature 0.02,".

    Args:
      run: The logged data of the run.

    Returns:
      The beginning of a sentence. It names the step under a schedule, and the limit if it is at
      one.
    """
    if run.is_scheduled:
        step = next(row["step"] for row in reversed(run.log) if row.get("temperature"))
        return f"at step {step}, where the schedule is at temperature {run.temperature:.3g},"
    limit = f" the {run.limit} of loss.policy," if run.limit else ""
    return f"at temperature {run.temperature:.3g},{limit}"


def _are_same(temperature: float, limit: float) -> bool:
    return limit > 0 and abs(math.log(temperature / limit)) < _SAME_AS_LIMIT


def temperature_advice(run: Observed, *, up: bool, to: str) -> str:
    """Returns advice to change the setting that controls the temperature.

    Args:
      run: The logged data of the run.
      up: Whether to raise the temperature.
      to: The suggested values.

    Returns:
      The beginning of a sentence.
    """
    verb = "raise" if up else "lower"
    if run.is_adaptive:
        limits = run.config.loss.policy.limits
        # A policy may have no limit on the side that matters.
        limits = {n: x for n, x in limits.items() if n == run.limit or (x < run.temperature) == up}
        if not limits:
            return f"fix the temperature at {to}"
        name = (min if up else max)(limits, key=limits.__getitem__)
        return (
            f"{verb} loss.policy.{name} (now {limits[name]:g}) to {to}, or fix the temperature at "
            "such a value"
        )
    if run.is_scheduled:
        if len(run.ends) < 2:
            return f"change loss.policy so that the temperature at this step is {to}"
        name = (min if up else max)(run.ends, key=run.ends.__getitem__)
        end = "lower" if up else "upper"
        return f"{verb} {name} (now {run.ends[name]:g}), the {end} end of loss.policy, to {to}"
    overridden = any(part.temperature is not None for part in run.parts)
    and_parts = " and the temperatures in data.train.parts" if overridden else ""
    return f"{verb} loss.temperature{and_parts} to {to}"

"""What is known of a run, and the words for its temperature."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from contrastive.config import (
    Experiment,
    Individual,
    Learned,
    Linear,
    Mixture,
    Oscillating,
    Part,
    WarmDown,
)

Row: TypeAlias = Mapping[str, Any]

_SAME = 0.05  # by how much temperatures may differ whose losses and shares compare
_AT = 0.01  # and from a limit
_FEW = 5  # logged steps: one batch alone may be an easy or a hard one


class Finding(NamedTuple):
    """One thing that a run shows.

    Attributes:
      cause: learning_rate, not_learning, duplicates, not_normalized, low_temperature,
        high_temperature, at_limit, raised, few_negatives, narrow_range, no_temperature, too_early
        or healthy; of a sweep, best too.
      seen: What was measured, with numbers.
      advice: What to change, or why nothing needs to.
    """

    cause: str
    seen: str
    advice: str


@dataclasses.dataclass(frozen=True)
class Observed:
    """What is known of a run.

    Attributes:
      config: Its settings.
      log: Lines of its metrics, in order; those of one step at least.
      diverged_at: The step whose loss, gradient or update was not finite.
    """

    config: Experiment
    log: Sequence[Row]
    diverged_at: int | None = None

    @functools.cached_property
    def steps(self) -> Sequence[Row]:
        """Lines of logged steps whose loss was finite."""
        return [row for row in self.log if row.get("loss") is not None]

    @functools.cached_property
    def first(self) -> Row:
        """What the first logged step showed."""
        row = next(row for row in self.log if "loss" in row)
        return {name: x for name, x in row.items() if x is not None}

    @functools.cached_property
    def last(self) -> Row:
        """The newest value of each metric."""
        return {name: x for row in self.log for name, x in row.items() if x is not None}

    @property
    def step(self) -> int:
        """The newest."""
        return int(self.last["step"])

    @property
    def temperature(self) -> float:
        """The newest."""
        return self.last.get("temperature", self.config.loss.temperature)

    @property
    def is_scheduled(self) -> bool:
        """Whether the step alone says what the temperature is."""
        return isinstance(self.config.loss.policy, Linear | Oscillating | WarmDown)

    @property
    def is_found(self) -> bool:
        """Whether training finds the temperature, and the config says only where it starts."""
        return isinstance(self.config.loss.policy, Learned | Individual)

    @property
    def limit(self) -> str | None:
        """Which limit a learned temperature is at, minimum or maximum."""
        policy = self.config.loss.policy
        if not isinstance(policy, Learned):
            return None
        limits = {"minimum": policy.minimum, "maximum": policy.maximum}
        at = (name for name, x in limits.items() if abs(math.log(self.temperature / x)) < _AT)
        return next(at, None)

    @property
    def ends(self) -> dict[str, float]:
        """Between which temperatures a schedule goes, by the settings that say so."""
        ends = {"loss.temperature": self.config.loss.temperature}
        match self.config.loss.policy:
            case Linear(last=other):
                ends["loss.policy.last"] = other
            case Oscillating(other=other):
                ends["loss.policy.other"] = other
            case WarmDown(start=other):
                ends["loss.policy.start"] = other
        return ends

    @property
    def parts(self) -> Sequence[Part]:
        """Sources that may have settings of their own."""
        train = self.config.data.train
        return train.parts if isinstance(train, Mixture) else ()

    @property
    def sources_take_turns(self) -> bool:
        """Whether steps differ in their source, and so in how hard they are."""
        train = self.config.data.train
        return isinstance(train, Mixture) and train.one_source_batches and len(train.parts) > 1

    @property
    def negatives(self) -> int:
        """How many negatives a query has, before any is masked.

        Where sources differ it is the largest group's, of which all that count alike do less than
        seem to; and where one has no others in its batch, what a query has by itself.
        """
        loss, data = self.config.loss, self.config.data
        sizes = [part.group_size or data.group_size for part in self.parts] or [data.group_size]
        in_batch = loss.sees_other_documents and all(part.in_batch for part in self.parts)
        queries = self.config.batch_size // loss.shards if in_batch else 1
        return max(queries * max(sizes) - 1, 1)

    @functools.cached_property
    def raised(self) -> Sequence[float]:
        """Temperatures it was raised to, each after a step that was not finite."""
        return [row["raised_temperature"] for row in self.log if "raised_temperature" in row]

    @functools.cached_property
    def raised_from(self) -> float:
        """The temperature before the first time."""
        first = next(n for n, row in enumerate(self.log) if "raised_temperature" in row)
        before = [row["temperature"] for row in self.log[:first] if row.get("temperature")]
        return before[-1] if before else self.config.loss.temperature

    @functools.cached_property
    def comparable(self) -> Sequence[Row]:
        """Logged steps whose losses compare with the newest.

        Another temperature makes another loss: where a schedule sets it, what rises or falls with
        it says nothing of the encoder. A learned one is minimised over, like the encoder.
        """
        steps = [row for row in self._since_raised if row.get("loss") is not None]
        return [row for row in steps if self._is_as_hot(row)] if self.is_scheduled else steps

    @property
    def compares(self) -> bool:
        """Whether the newest loss compares with one of the first half of the run."""
        return len(self.comparable) > 1 and self.comparable[0]["step"] <= self.step / 2

    @property
    def start(self) -> float:
        """The loss that others are compared with.

        The first; where sources take turns, which may begin with the easiest, the largest of a few.
        """
        count = _FEW if self.sources_take_turns else 1
        return max(row["loss"] for row in self.comparable[:count])

    @property
    def lowest(self) -> float:
        """The smallest of the newest few losses that compare."""
        return min(row["loss"] for row in self.comparable[1:][-_FEW:])

    @property
    def accuracy(self) -> float:
        """Mean of the newest few; the temperature of a step has no part in it."""
        newest = (self.steps[1:] or self.steps)[-_FEW:]
        return statistics.fmean(row.get("accuracy") or 0.0 for row in newest)

    @functools.cached_property
    def look(self) -> Row:
        """The newest closer look, nothing where the temperature was another then."""
        looks = [row for row in self._since_raised if "top_10_share" in row]
        if not looks or not (self.is_scheduled or self.is_found):
            return looks[-1] if looks else {}
        before = [row for row in self.steps if row["step"] <= looks[-1]["step"]]
        return looks[-1] if before and self._is_as_hot(before[-1]) else {}

    @property
    def _since_raised(self) -> Sequence[Row]:
        raises = [n for n, row in enumerate(self.log) if "raised_temperature" in row]
        return self.log[raises[-1] :] if raises else self.log

    def _is_as_hot(self, row: Row) -> bool:
        other = row.get("temperature") or self.temperature
        return abs(math.log(other / self.temperature)) < _SAME


def at(run: Observed) -> str:
    """The temperature that is judged, in words: which of several it is, and whether at a limit.

    Args:
      run: Whose.

    Returns:
      The beginning of a sentence.
    """
    if run.is_scheduled:
        step = next(row["step"] for row in reversed(run.log) if row.get("temperature"))
        return f"at step {step}, where the schedule is at temperature {run.temperature:.3g},"
    limit = f" the {run.limit} of loss.policy," if run.limit else ""
    return f"at temperature {run.temperature:.3g},{limit}"


def dial(run: Observed, *, up: bool, to: str) -> str:
    """The setting that moves the temperature, in words.

    Args:
      run: Whose.
      up: Whether it is to be higher.
      to: What to.

    Returns:
      What to do, for a sentence to go on.
    """
    verb = "raise" if up else "lower"
    if run.is_found:
        name = "minimum" if up else "maximum"
        value = getattr(run.config.loss.policy, name)
        return f"{verb} loss.policy.{name} ({value:g} now) to {to}, or fix the temperature there"
    if run.is_scheduled:
        name = (min if up else max)(run.ends, key=run.ends.__getitem__)
        end = "lower" if up else "upper"
        return f"{verb} {name} ({run.ends[name]:g} now), the {end} end of loss.policy, to {to}"
    own = any(part.temperature is not None for part in run.parts)
    return f"{verb} loss.temperature{' and those of data.train.parts' if own else ''} to {to}"

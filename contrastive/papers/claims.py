"""Predicates that test claims of papers on runs with several seeds.

A claim that one value is higher than another is judged by their difference, paired by seed, since
runs with the same seed share batches and start alike. It holds if the 95% interval of the
difference is above 0, fails if it is below 0, and is undecided if it includes 0 or there are fewer
than two seeds.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from contrastive.sweeps.table import Interval, interval

__all__ = [
    "Curve",
    "Interval",
    "Sample",
    "Verdict",
    "above",
    "all_of",
    "curve",
    "falls",
    "interval",
    "judge",
    "measured",
    "peaks_inside",
    "rises",
    "sample",
    "shown",
]

Outcome: TypeAlias = Literal["held", "partly", "undecided", "failed"]


@dataclasses.dataclass(frozen=True)
class Sample:
    """Values of a metric, by seed.

    Attributes:
      values: The values.
    """

    values: Mapping[Hashable, float]

    @functools.cached_property
    def interval(self) -> Interval:
        """The mean over seeds and its 95% interval."""
        return interval(list(self.values.values()))

    @property
    def mean(self) -> float:
        """The mean; NaN without seeds."""
        return self.interval.mean

    @property
    def low(self) -> float:
        """Lower end of the interval; NaN with fewer than two seeds."""
        return self.interval.low

    @property
    def high(self) -> float:
        """Upper end of the interval; NaN with fewer than two seeds."""
        return self.interval.high

    @property
    def runs(self) -> int:
        """Number of seeds."""
        return len(self.values)

    def __sub__(self, other: Sample | float) -> Sample:
        """Subtracts a number, or the value of another sample with the same seed."""
        if not isinstance(other, Sample):
            return Sample({seed: x - other for seed, x in self.values.items()})
        both = [seed for seed in self.values if seed in other.values]
        return Sample({seed: self.values[seed] - other.values[seed] for seed in both})

    def __mul__(self, factor: float) -> Sample:
        return Sample({seed: factor * x for seed, x in self.values.items()})


Curve: TypeAlias = Mapping[float, Sample]


class Verdict(NamedTuple):
    """Result of testing a claim.

    Attributes:
      outcome: `held` if the claim held at each value that it names; `partly` if it held at some of
        them; `failed` if it held at none, and the opposite holds at one; else `undecided`.
      because: The numbers that support the verdict, or why there is none.
      at: Where the claim held, if that is only partly.
    """

    outcome: Outcome
    because: str
    at: Sequence[str] = ()

    @property
    def words(self) -> str:
        """The outcome in words, such as `held at 0.02 only`."""
        return f"held {', '.join(self.at)} only" if self.outcome == "partly" else self.outcome


def sample(rows: Sequence[Mapping[str, Any]], metric: str, *, seed: str = "init_seed") -> Sample:
    """Returns the values of a metric by seed.

    Args:
      rows: Rows of a sweep's table, with different seeds.
      metric: The column of the metric; rows without a value are ignored.
      seed: The column of the seed.

    Returns:
      The values.
    """
    return Sample({row[seed]: row[metric] for row in rows if row.get(metric) is not None})


def curve(
    rows: Sequence[Mapping[str, Any]], axis: str, metric: str, *, seed: str = "init_seed"
) -> dict[float, Sample]:
    """Returns a metric as a function of one swept field.

    Args:
      rows: Rows of a sweep's table.
      axis: The swept field.
      metric: The column of the metric.
      seed: The column of the seed.

    Returns:
      The values by seed, by the value of the field in ascending order. Values of the field without
      any successful run are omitted.
    """
    points = {
        x: sample([row for row in rows if row[axis] == x], metric, seed=seed)
        for x in sorted({row[axis] for row in rows})
    }
    return {x: point for x, point in points.items() if point.runs}


def judge(differences: Mapping[str, Interval], because: str) -> Verdict:
    """Judges a claim that differences are positive.

    Args:
      differences: The differences, by the words for where each of them is, such as `at 0.02`.
      because: The numbers that support the verdict.

    Returns:
      The verdict: each difference counts as held, failed or undecided.
    """
    return _combined({name: _outcome(x) for name, x in differences.items()}, because)


def measured(facts: Mapping[str, bool], because: str) -> Verdict:
    """Judges a claim about numbers that do not vary, such as bytes.

    Args:
      facts: Whether the claim is true, by the words for where, such as `at 0.02`.
      because: The numbers that support the verdict.

    Returns:
      The verdict: each fact counts as held or failed.
    """
    return _combined({name: "held" if x else "failed" for name, x in facts.items()}, because)


def above(a: Sample, b: Sample, names: tuple[str, str], *, margin: float = 0.0) -> Verdict:
    """Checks that one value is higher than another.

    Args:
      a: The value that should be higher.
      b: The value that should be lower.
      names: Names of `a` and `b` in the verdict.
      margin: By how much it should be higher; negative if it may be lower by less than that.

    Returns:
      The verdict.
    """
    difference = (a - b).interval
    because = f"{names[0]} {shown(a)}, {names[1]} {shown(b)}, difference {shown(difference)}"
    return judge({"": (a - b - margin).interval}, because)


def peaks_inside(points: Curve, low: float, high: float) -> Verdict:
    """Checks that a curve has a peak strictly between two values, and is lower at both of them.

    Args:
      points: The curve.
      low: Value of the field to the left of the peak.
      high: Value of the field to the right of the peak.

    Returns:
      The verdict, about the highest point between the two values. It also has to be above all
      points outside of them.
    """
    if missing := [f"{x:g}" for x in (low, high) if x not in points]:
        return Verdict("undecided", f"no run is left at {' and '.join(missing)}")
    inside = {x: y for x, y in points.items() if low < x < high}
    if not inside:
        return Verdict("undecided", f"no run is left between {low:g} and {high:g}")
    best = max(inside, key=lambda x: inside[x].mean)
    outside = [x for x in points if not low <= x <= high and points[x].mean > inside[best].mean]
    against = sorted([low, high, *outside])
    differences = {x: (points[best] - points[x]).interval for x in against}
    gaps = ", ".join(f"{shown(y)} above {x:g}" for x, y in differences.items())
    because = f"{shown(points[best])} at {best:g}: {gaps}"
    return judge({f"against {x:g}": y for x, y in differences.items()}, because)


def rises(points: Curve) -> Verdict:
    """Checks that a curve rises at each step.

    Args:
      points: The curve.

    Returns:
      The verdict.
    """
    return _monotonic(points, 1)


def falls(points: Curve) -> Verdict:
    """Checks that a curve falls at each step.

    Args:
      points: The curve.

    Returns:
      The verdict.
    """
    return _monotonic(points, -1)


def all_of(verdicts: Mapping[str, Verdict]) -> Verdict:
    """Combines verdicts on the parts of a claim.

    Args:
      verdicts: The verdicts, by the words for where each of them is, such as `at 0.02`.

    Returns:
      The combined verdict, with the numbers of all.
    """
    outcomes: dict[str, Outcome] = {}
    for name, verdict in verdicts.items():
        if verdict.outcome == "partly":
            outcomes.update({f"{at} {name}": "held" for at in verdict.at})
            outcomes[name] = "undecided"
        else:
            outcomes[name] = verdict.outcome
    because = "; ".join(f"{name}: {verdict.because}" for name, verdict in verdicts.items())
    return _combined(outcomes, because)


def shown(x: Sample | Interval) -> str:
    """Formats a mean with half the width of its interval, such as `0.531 ± 0.004`.

    Args:
      x: The values of several seeds, or their mean and interval.

    Returns:
      The text, with three decimals.
    """
    if x.runs < 2:
        return f"{x.mean:.3f} (one run)" if x.runs else "unknown"
    return f"{x.mean:.3f} ± {(x.high - x.low) / 2:.3f}"


def _monotonic(points: Curve, sign: int) -> Verdict:
    steps = {
        f"from {a:g} to {b:g}": ((points[b] - points[a]) * sign).interval
        for a, b in itertools.pairwise(points)
    }
    return judge(steps, ", ".join(f"{shown(y)} at {x:g}" for x, y in points.items()))


def _outcome(difference: Interval) -> Outcome:
    if difference.runs < 2 or math.isnan(difference.low):
        return "undecided"
    if difference.low > 0:
        return "held"
    return "failed" if difference.high < 0 else "undecided"


def _combined(outcomes: Mapping[str, Outcome], because: str) -> Verdict:
    held = [name for name, outcome in outcomes.items() if outcome == "held"]
    if held and len(held) == len(outcomes):
        return Verdict("held", because)
    if held:
        return Verdict("partly", because, tuple(held))
    return Verdict("failed" if "failed" in outcomes.values() else "undecided", because)

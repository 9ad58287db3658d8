"""Predicates that test claims of papers on runs with several seeds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from contrastive.sweeps.table import Interval, interval, over_seeds

__all__ = [
    "Curve",
    "Interval",
    "Verdict",
    "above",
    "all_of",
    "curve",
    "falls",
    "interval",
    "peaks_inside",
    "rises",
    "shown",
]

Curve: TypeAlias = Mapping[float, Interval]


class Verdict(NamedTuple):
    """Result of testing a claim.

    Attributes:
      held: Whether the claim held; None if it could not be decided.
      because: The numbers that support the verdict, or why there is none.
    """

    held: bool | None
    because: str


def curve(rows: Sequence[Mapping[str, Any]], axis: str, metric: str) -> dict[float, Interval]:
    """Computes a metric as a function of one swept field, with 95% intervals over seeds.

    Args:
      rows: Rows of a sweep's table.
      axis: The swept field.
      metric: The column of the metric.

    Returns:
      Means and intervals by the value of the field, in ascending order. Values without any
      successful run are omitted.
    """
    intervals = over_seeds(rows, [axis], metric)
    return {
        setting[0]: intervals[setting] for setting in sorted(intervals) if intervals[setting].runs
    }


def peaks_inside(found: Curve, low: float, high: float) -> Verdict:
    """Checks that a curve peaks strictly between two values and is significantly lower at both.

    As with all checks in this module, two values differ significantly if their 95% intervals do
    not overlap. A check fails if a value has fewer than two runs, and thus no interval.

    Args:
      found: The curve.
      low: Value of the field to the left of the peak.
      high: Value of the field to the right of the peak.

    Returns:
      The verdict.
    """
    if not {low, high} <= found.keys():
        return Verdict(False, f"no run is left at {low:g} or {high:g}")
    best = max(found, key=lambda x: found[x].mean)
    apart = all(found[best].low > found[end].high for end in (low, high))
    words = ", ".join(f"{shown(found[x])} at {x:g}" for x in (low, best, high))
    return Verdict(low < best < high and apart, words)


def rises(found: Curve) -> Verdict:
    """Checks that a metric never falls significantly, and is significantly higher at the end.

    Args:
      found: The curve.

    Returns:
      The verdict.
    """
    values = list(found.values())
    pairs = itertools.combinations(values, 2)
    held = len(values) > 1 and values[-1].low > values[0].high
    return Verdict(held and all(b.high >= a.low for a, b in pairs), _all(found))


def falls(found: Curve) -> Verdict:
    """Checks that a metric never rises significantly, and is significantly lower at the end.

    Args:
      found: The curve.

    Returns:
      The verdict.
    """
    return rises(found)._replace(held=rises(_negated(found)).held)


def above(a: Interval, b: Interval, names: tuple[str, str]) -> Verdict:
    """Checks that one mean is significantly higher than another.

    Args:
      a: The mean that should be higher.
      b: The mean that should be lower.
      names: Names of `a` and `b` in the verdict.

    Returns:
      The verdict.
    """
    return Verdict(a.low > b.high, f"{names[0]} {shown(a)}, {names[1]} {shown(b)}")


def all_of(*verdicts: Verdict) -> Verdict:
    """Combines verdicts: the result holds if all of them hold.

    Args:
      *verdicts: The verdicts.

    Returns:
      The combined verdict, with the numbers of all.
    """
    return Verdict(all(v.held for v in verdicts), "; ".join(v.because for v in verdicts))


def shown(x: Interval) -> str:
    """Formats a mean with half the width of its interval, such as `0.531 ± 0.004`.

    Args:
      x: The mean and its interval.

    Returns:
      The text, with three decimals.
    """
    if x.runs < 2:
        return f"{x.mean:.3f} (one run)"
    return f"{x.mean:.3f} ± {(x.high - x.low) / 2:.3f}"


def _negated(points: Curve) -> dict[float, Interval]:
    return {x: Interval(-y.mean, -y.high, -y.low, y.runs) for x, y in points.items()}


def _all(points: Curve) -> str:
    return ", ".join(f"{shown(y)} at {x:g}" for x, y in points.items())

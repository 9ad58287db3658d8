"""What papers claim, as predicates over runs with several seeds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from contrastive.lab.table import Interval, over_seeds

Curve: TypeAlias = Mapping[float, Interval]


class Verdict(NamedTuple):
    """Whether a claim held.

    Attributes:
      held: The answer.
      because: The numbers it rests on.
    """

    held: bool
    because: str


def curve(rows: Sequence[Mapping[str, Any]], axis: str, metric: str) -> dict[float, Interval]:
    """A metric over one field, with 95 % intervals over seeds, in rising order of the field.

    Args:
      rows: Of a table.
      axis: The field.
      metric: A column.

    Returns:
      Intervals by the field's value.
    """
    found = over_seeds(rows, [axis], metric)
    return {setting[0]: found[setting] for setting in sorted(found) if found[setting].runs}


def peaks_inside(found: Curve, low: float, high: float) -> Verdict:
    """The best value of the field is between two others, and both are worse beyond their intervals.

    As all claims here it fails without intervals, which take two runs.

    Args:
      found: The curve.
      low: Value of the field on the left.
      high: And on the right.

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
    """Nowhere does a metric fall beyond its intervals, and its ends are apart."""
    values = list(found.values())
    pairs = itertools.combinations(values, 2)
    held = len(values) > 1 and values[-1].low > values[0].high
    return Verdict(held and all(b.high >= a.low for a, b in pairs), _all(found))


def falls(found: Curve) -> Verdict:
    """The opposite of `rises`."""
    return rises(found)._replace(held=rises(_negated(found)).held)


def above(a: Interval, b: Interval, names: tuple[str, str]) -> Verdict:
    """One mean is higher than another, beyond both intervals."""
    return Verdict(a.low > b.high, f"{names[0]} {shown(a)}, {names[1]} {shown(b)}")


def all_of(*verdicts: Verdict) -> Verdict:
    """Several verdicts as one."""
    return Verdict(all(v.held for v in verdicts), "; ".join(v.because for v in verdicts))


def shown(x: Interval) -> str:
    """`0.531 +- 0.004`, the half width of the interval."""
    if x.runs < 2:
        return f"{x.mean:.3f} (one run)"
    return f"{x.mean:.3f} ± {(x.high - x.low) / 2:.3f}"


def _negated(found: Curve) -> dict[float, Interval]:
    return {x: Interval(-y.mean, -y.high, -y.low, y.runs) for x, y in found.items()}


def _all(found: Curve) -> str:
    return ", ".join(f"{shown(y)} at {x:g}" for x, y in found.items())

"""A sweep's table: a row a run, as JSON and Parquet, and means over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from contrastive.training.workdir import write_json

JSON, PARQUET = "sweep.json", "sweep.parquet"


class Interval(NamedTuple):
    """A mean over seeds with its 95 % confidence interval, by Student's t.

    Attributes:
      mean: NaN where no run has a number.
      low: NaN where fewer than two have one: nothing says how far it may be off.
      high: As `low`.
      runs: With a number.
    """

    mean: float
    low: float
    high: float
    runs: int


def interval(values: Sequence[float]) -> Interval:
    """The mean of some runs, and how far it may be off.

    mean +- t_{n-1, 0.975} s / sqrt(n)

    >>> interval([1.0, 2.0, 3.0])
    Interval(mean=2.0, low=-0.48..., high=4.48..., runs=3)

    Args:
      values: One a run.

    Returns:
      The interval.
    """
    if not values:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean, count = statistics.fmean(values), len(values)
    if count == 1:
        return Interval(mean, math.nan, math.nan, 1)
    from scipy.stats import t  # takes half a second to import

    half = float(t.ppf(0.975, count - 1)) * statistics.stdev(values) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


def over_seeds(
    rows: Sequence[Mapping[str, Any]], axes: Sequence[str], metric: str
) -> dict[tuple[float, ...], Interval]:
    """A metric of each setting over its seeds, in the order of the sweep.

    Args:
      rows: Of the table.
      axes: Swept fields.
      metric: A column; runs that have diverged have no score.

    Returns:
      Intervals by the values of the swept fields.
    """
    by_setting: dict[tuple[float, ...], list[float]] = {}
    for row in rows:
        values = by_setting.setdefault(tuple(row[name] for name in axes), [])
        if row.get(metric) is not None:
            values.append(row[metric])
    return {setting: interval(values) for setting, values in by_setting.items()}


def write_table(workdir: Path, table: Mapping[str, Any]) -> None:
    """Writes the table whole: everything as JSON, the rows as Parquet too.

    Args:
      workdir: The sweep's folder.
      table: With `rows`.
    """
    import pyarrow
    import pyarrow.parquet

    names = list(dict.fromkeys(name for row in table["rows"] for name in row))
    columns = {name: [row.get(name) for row in table["rows"]] for name in names}
    pyarrow.parquet.write_table(pyarrow.table(columns), workdir / PARQUET)
    write_json(workdir / JSON, table)


def shown(table: Mapping[str, Any], metrics: Sequence[str]) -> str:
    """Means and intervals over seeds as text, a line a setting."""
    axes, rows = list(table["axes"]), table["rows"]
    found = {metric: over_seeds(rows, axes, metric) for metric in metrics}
    heads = [*(name.rpartition(".")[2] for name in axes), *metrics, "diverged"]
    lines = ["  ".join(f"{head:>22}" for head in heads)]
    for setting in dict.fromkeys(tuple(row[name] for name in axes) for row in rows):
        own = [row for row in rows if tuple(row[name] for name in axes) == setting]
        diverged = sum(row["diverged_at"] is not None for row in own)
        cells = [f"{value:g}" for value in setting]
        cells += [_cell(found[metric][setting]) for metric in metrics]
        cells.append(f"{diverged} of {len(own)}" if diverged else "")
        lines.append("  ".join(f"{cell:>22}" for cell in cells).rstrip())
    return "\n".join(lines)


def _cell(x: Interval) -> str:
    if x.runs < 2:
        return f"{x.mean:.3f}" if x.runs else "-"
    return f"{x.mean:.3f} ({x.low:.3f}, {x.high:.3f})"

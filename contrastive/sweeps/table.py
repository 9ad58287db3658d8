"""The table of a sweep: one row per run, as JSON and Parquet, and means over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from contrastive.files import write_json
from contrastive.training.metrics_file import read_metrics

JSON, PARQUET = "sweep.json", "sweep.parquet"


class Interval(NamedTuple):
    """A mean over seeds with its 95% confidence interval by Student's t.

    Attributes:
      mean: The mean; NaN if there are no values.
      low: Lower end of the interval; NaN if there are fewer than two values.
      high: Upper end of the interval; NaN if there are fewer than two values.
      runs: Number of values, one per run.
    """

    mean: float
    low: float
    high: float
    runs: int


def interval(values: Sequence[float]) -> Interval:
    """Computes the mean of a metric over runs and its 95% confidence interval.

    The interval is mean +- t_{n-1, 0.975} s / sqrt(n).

    >>> interval([1.0, 2.0, 3.0])
    Interval(mean=2.0, low=-0.48..., high=4.48..., runs=3)

    Args:
      values: One value per run.

    Returns:
      The mean and its interval.
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
    """Computes the mean and interval of a metric over the seeds of each setting.

    Args:
      rows: Rows of the table.
      axes: The swept fields.
      metric: The column of the metric; rows without a value are ignored.

    Returns:
      Means and intervals by the values of the swept fields, in the order of the sweep.
    """
    by_setting: dict[tuple[float, ...], list[float]] = {}
    for row in rows:
        values = by_setting.setdefault(tuple(row[name] for name in axes), [])
        if row.get(metric) is not None:
            values.append(row[metric])
    return {setting: interval(values) for setting, values in by_setting.items()}


def member_rows(workdir: Path, file: str) -> list[dict[str, Any]]:
    """Reads the lines that the runs of a sweep have logged; `member` is the number of the run.

    Args:
      workdir: The folder of the sweep.
      file: The name of the file that each program writes, such as metrics.jsonl.

    Returns:
      The lines of all programs, in the order in which each was written.
    """
    files = sorted(workdir.glob(f"programs/*/*/{file}"))
    return [row for path in files for row in read_metrics(path)]


def write_table(workdir: Path, table: Mapping[str, Any]) -> None:
    """Writes the whole table as JSON, and its rows as Parquet.

    Args:
      workdir: The folder of the sweep.
      table: The table, with `rows`.
    """
    import pyarrow
    import pyarrow.parquet

    names = list(dict.fromkeys(name for row in table["rows"] for name in row))
    columns = {name: [row.get(name) for row in table["rows"]] for name in names}
    pyarrow.parquet.write_table(pyarrow.table(columns), workdir / PARQUET)
    write_json(workdir / JSON, table)


def shown(table: Mapping[str, Any]) -> str:
    """Formats means and intervals over seeds as text, one line per setting."""
    axes, rows = list(table["axes"]), table["rows"]
    metrics = _few_metrics(table)
    scores = {metric: over_seeds(rows, axes, metric) for metric in metrics}
    heads = [*(name.rpartition(".")[2] for name in axes), *metrics, "diverged"]
    lines = ["  ".join(f"{head:>22}" for head in heads)]
    for setting in dict.fromkeys(tuple(row[name] for name in axes) for row in rows):
        seeds = [row for row in rows if tuple(row[name] for name in axes) == setting]
        diverged = sum(row["diverged_at"] is not None for row in seeds)
        cells = [f"{value:g}" for value in setting]
        cells += [_cell(scores[metric][setting]) for metric in metrics]
        cells.append(f"{diverged} of {len(seeds)}" if diverged else "")
        lines.append("  ".join(f"{cell:>22}" for cell in cells).rstrip())
    return "\n".join(lines)


def _few_metrics(table: Mapping[str, Any]) -> list[str]:
    """Returns the score that selects settings, and the first three of each final evaluator."""
    names = list(dict.fromkeys(name for row in table["rows"] for name in row))
    few = [name for name in names if name == table["select_best"]]
    for evaluator in table["evaluators"]:
        few += [name for name in names if name.startswith(f"{evaluator}/")][:3]
    return list(dict.fromkeys(few))


def _cell(x: Interval) -> str:
    if x.runs < 2:
        return f"{x.mean:.3f}" if x.runs else "-"
    return f"{x.mean:.3f} ({x.low:.3f}, {x.high:.3f})"

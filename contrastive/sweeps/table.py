"""The table of a sweep: one row per run, as JSON and Parquet, and means over seeds."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from contrastive.files import write_json
from contrastive.tables import text
from contrastive.tasks._score_name import TEST, ScoreName, is_score
from contrastive.training.metrics_file import read_metrics
from contrastive.training.stored import TABLE

PARQUET = "sweep.parquet"
Key = TypeVar("Key")


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


def paired(
    rows: Sequence[Mapping[str, Any]], axes: Sequence[str], metric: str, to: Sequence[float]
) -> dict[tuple[float, ...], Interval]:
    """Computes by how much a metric of each setting exceeds that of one setting, paired by seed.

    Runs with the same seed share batches and start alike, so that most of their noise cancels in
    the difference: the mean over seeds of x_setting - x_to, with its t interval.

    Args:
      rows: Rows of the table.
      axes: The swept fields.
      metric: The column of the metric; rows without a value are ignored.
      to: The setting that others are compared with: the values of the swept fields.

    Returns:
      Mean differences and intervals by the values of the swept fields, in the order of the sweep.
      `runs` is the number of seeds that have both values.
    """
    by_setting: dict[tuple[float, ...], dict[Any, float]] = {}
    for row in rows:
        values = by_setting.setdefault(tuple(row[name] for name in axes), {})
        if row.get(metric) is not None:
            values[row.get("init_seed")] = row[metric]
    base = by_setting.get(tuple(to), {})
    return {
        setting: interval([x - base[seed] for seed, x in values.items() if seed in base])
        for setting, values in by_setting.items()
    }


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
    write_json(workdir / TABLE, table)


def shown(table: Mapping[str, Any]) -> str:
    """Formats means over seeds as text, one line per setting, with differences from the best."""
    axes, rows, chosen = list(table["axes"]), table["rows"], table["select_best"]
    metrics = _few_metrics(table)
    scores = {metric: over_seeds(rows, axes, metric) for metric in metrics}
    best = best_setting(rows, axes, chosen) if chosen in scores else None
    differences = {} if best is None else paired(rows, axes, chosen, best)
    head = [*(name.rpartition(".")[2] for name in axes), *metrics]
    if differences:
        head.insert(len(axes) + 1, "difference from the best")
    lines = []
    for setting in dict.fromkeys(tuple(row[name] for name in axes) for row in rows):
        seeds = [row for row in rows if tuple(row[name] for name in axes) == setting]
        diverged = sum(row["diverged_at"] is not None for row in seeds)
        cells = [in_words(scores[metric][setting]) for metric in metrics]
        if differences:
            cells.insert(1, "best" if setting == best else in_words(differences[setting], "+"))
        cells.append(f"{diverged} of {len(seeds)}" if diverged else "")
        lines.append([*(f"{value:g}" for value in setting), *cells])
    if not any(line[-1] for line in lines):
        lines = [line[:-1] for line in lines]
    else:
        head.append("diverged")
    return f"{text(head, lines)}\n\n{about_scores(table)}"


def about_scores(table: Mapping[str, Any]) -> str:
    """Describes what the scores of a sweep are, and which of them selects."""
    words = "Means over seeds ± half the width of their 95% intervals"
    if table["select_best"] is None:
        return f"{words}. Nothing selects a setting: the sweep has no validation scores."
    words += f"; differences are paired by seed. {table['select_best']} selects the setting."
    if table.get("split") != TEST:
        words += " There are no test scores: the experiment has no final_evaluators."
    return words


def comparable(scores: Mapping[Key, Interval], seeds: Mapping[Key, int]) -> dict[Key, Interval]:
    """Returns the scores of the settings that can be compared.

    The seeds that did not diverge are a biased sample of their setting.

    Args:
      scores: Means over the seeds that have a score, by setting.
      seeds: Number of seeds, by setting.

    Returns:
      The scores of settings whose seeds all have one; if there are none, all scores.
    """
    complete = {x: score for x, score in scores.items() if score.runs == seeds[x] > 0}
    return complete or {x: score for x, score in scores.items() if score.runs}


def best_setting(
    rows: Sequence[Mapping[str, Any]], axes: Sequence[str], metric: str
) -> tuple[float, ...] | None:
    """Returns the setting with the highest mean of a metric; None if no run has a value.

    Args:
      rows: Rows of the table.
      axes: The swept fields.
      metric: The column of the metric.

    Returns:
      The values of the swept fields, among the settings that are `comparable`.
    """
    seeds = Counter(tuple(row[name] for name in axes) for row in rows)
    scores = comparable(over_seeds(rows, axes, metric), seeds)
    return max(scores, key=lambda setting: scores[setting].mean) if scores else None


def _few_metrics(table: Mapping[str, Any]) -> list[str]:
    """Returns the score that selects settings, and a few of each final evaluator."""
    names = list(dict.fromkeys(name for row in table["rows"] for name in row))
    few = [name for name in names if name == table["select_best"]]
    most = 3 if len(table["evaluators"]) == 1 else 1
    for task in table["evaluators"]:
        few += [name for name in names if _is_of(name, table["split"], task)][:most]
    return list(dict.fromkeys(few))


def _is_of(column: str, split: str, task: str) -> bool:
    return is_score(column) and ScoreName.parse(column)[:2] == (split, task)


def in_words(score: Interval, sign: str = "") -> str:
    """Formats a mean as `0.531 ± 0.004`, with half the width of its interval.

    Args:
      score: The mean and interval over seeds.
      sign: "+" to show the sign of positive means, as for differences.

    Returns:
      The text; only the mean for a single run, and a dash for none.
    """
    if not score.runs:
        return "-"
    half = f" ± {score.high - score.mean:.3f}" if score.runs > 1 else ""
    return f"{score.mean:{sign}.3f}{half}"

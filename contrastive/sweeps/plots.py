"""Figures of a sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contrastive.lazy import optional
from contrastive.sweeps.table import over_seeds
from contrastive.tasks._score_name import ScoreName, is_score

PICTURE = "score.png"
_TICKS = 12  # most values that all get a tick label


def draw(table: Mapping[str, Any], workdir: Path) -> Path | None:
    """Draws the score against the first swept field, with one line per setting of the others.

    The score is the one that selects a setting, or else the first test score. Dots are seeds, and
    bands are 95% confidence intervals of their means; runs that diverged are left out.

    Args:
      table: The table of the sweep.
      workdir: The folder to write the figure to.

    Returns:
      The path of the figure, or None if nothing was swept or nothing has a score.
    """
    matplotlib = optional("matplotlib", "report")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    axes, metric = list(table["axes"]), table["select_best"] or _first_score(table)
    if not axes or metric is None:
        return None
    lines: dict[tuple[float, ...], list[tuple[float, Any]]] = {}
    for setting, score in over_seeds(table["rows"], axes, metric).items():
        lines.setdefault(setting[1:], []).append((setting[0], score))
    figure, plot = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    ends: list[float] = []
    for others, points in lines.items():
        points = sorted((x, y) for x, y in points if y.runs)
        xs, ys = [x for x, _ in points], [y for _, y in points]
        label = ", ".join(f"{name} {value:g}" for name, value in zip(axes[1:], others, strict=True))
        (line,) = plot.plot(xs, [y.mean for y in ys], "o-", ms=4, label=label)
        dots = [row for row in table["rows"] if _is_on(row, axes, others, metric)]
        x, y = [row[axes[0]] for row in dots], [row[metric] for row in dots]
        plot.plot(x, y, "o", ms=2.5, mfc="none", color=line.get_color())
        low, high = [y.low for y in ys], [y.high for y in ys]
        ends += [*low, *high]
        plot.fill_between(xs, low, high, color=line.get_color(), alpha=0.2, lw=0)
    low, high = visible([row[metric] for row in table["rows"] if row.get(metric) is not None], ends)
    plot.set_ylim(low, high)
    for system, score in _baselines(table, metric):
        # A distant baseline is named at the edge, as a line would flatten the curve.
        if low <= score <= high:
            plot.axhline(score, color="0.5", ls=":", label=system)
        else:
            y, side = (1.0, "top") if score > high else (0.0, "bottom")
            arrow = "\N{UPWARDS ARROW}" if score > high else "\N{DOWNWARDS ARROW}"
            words = f"{system}: {score:.3f} {arrow} "
            plot.text(1.0, y, words, transform=plot.transAxes, ha="right", va=side, color="0.4")
    swept = table["axes"][axes[0]]
    if min(swept) > 0:
        plot.set_xscale("log")
    if len(swept) <= _TICKS:
        plot.set_xticks(swept, [f"{x:g}" for x in swept])
        plot.set_xticks([], minor=True)
    seeds = "1 seed" if table["seeds"] == 1 else f"{table['seeds']} seeds"
    plot.set(xlabel=axes[0], ylabel=metric, title=f"{table['name']}, {seeds}")
    if any(plot.get_legend_handles_labels()[1]):
        plot.legend(frameon=False)
    figure.savefig(workdir / PICTURE, dpi=120)
    plt.close(figure)
    return workdir / PICTURE


def visible(scores: Sequence[float], ends: Sequence[float]) -> tuple[float, float]:
    """Returns the range of a score axis: all scores, and not much more of wide intervals.

    Args:
      scores: The scores of all runs.
      ends: Ends of the intervals; NaN for those of single runs.

    Returns:
      The lower and the upper end.
    """
    known = [end for end in ends if not math.isnan(end)]
    low, high = min(scores, default=0.0), max(scores, default=1.0)
    margin = (high - low) or 0.1
    bottom, top = min([low, *known]), max([high, *known])
    edge = 0.06 * margin
    return max(bottom, low - margin / 2) - edge, min(top, high + margin / 2) + edge


def _first_score(table: Mapping[str, Any]) -> str | None:
    return next((name for row in table["rows"] for name in row if is_score(name)), None)


def _baselines(table: Mapping[str, Any], column: str) -> list[tuple[str, float]]:
    """Returns the scores of other systems on the split, task and metric of a column."""
    name = ScoreName.parse(column)
    systems = table["baselines"].get(name.task, {}) if name.split == table["split"] else {}
    return [(system, x[name.metric]) for system, x in systems.items() if name.metric in x]


def _is_on(
    row: Mapping[str, Any], axes: Sequence[str], others: Sequence[float], metric: str
) -> bool:
    """Returns whether a run has a score and belongs to the line of the other fields' values."""
    return row.get(metric) is not None and [row[name] for name in axes[1:]] == list(others)

"""Figures of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contrastive.lazy import optional
from contrastive.sweeps.table import over_seeds

PICTURE = "score.png"


def draw(table: Mapping[str, Any], workdir: Path) -> Path | None:
    """Draws the score against the first swept field, with one line per setting of the others.

    Bands are 95% confidence intervals over seeds; runs that diverged are left out.

    Args:
      table: The table of the sweep.
      workdir: The folder to write the figure to.

    Returns:
      The path of the figure, or None if nothing was swept or nothing has a score.
    """
    matplotlib = optional("matplotlib", "report")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    axes, metric = list(table["axes"]), table["select_best"]
    if not axes or metric is None:
        return None
    lines: dict[tuple[float, ...], list[tuple[float, Any]]] = {}
    for setting, score in over_seeds(table["rows"], axes, metric).items():
        lines.setdefault(setting[1:], []).append((setting[0], score))
    figure, plot = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for others, points in lines.items():
        points = sorted((x, y) for x, y in points if y.runs)
        xs, ys = [x for x, _ in points], [y for _, y in points]
        label = ", ".join(f"{name} {value:g}" for name, value in zip(axes[1:], others, strict=True))
        (line,) = plot.plot(xs, [y.mean for y in ys], "o-", ms=4, label=label)
        low, high = [y.low for y in ys], [y.high for y in ys]
        plot.fill_between(xs, low, high, color=line.get_color(), alpha=0.2, lw=0)
    evaluator, _, name = metric.partition("/")
    for system, scores in table["baselines"].get(evaluator, {}).items():
        if name in scores:
            plot.axhline(scores[name], color="0.5", ls=":", label=system)
    if min(table["axes"][axes[0]]) > 0:
        plot.set_xscale("log")
    plot.set(xlabel=axes[0], ylabel=metric, title=f"{table['name']}, {table['seeds']} seeds")
    if any(plot.get_legend_handles_labels()[1]):
        plot.legend(frameon=False)
    figure.savefig(workdir / PICTURE, dpi=120)
    plt.close(figure)
    return workdir / PICTURE

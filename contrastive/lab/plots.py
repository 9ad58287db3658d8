"""Pictures of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contrastive.lab.table import over_seeds

PICTURE = "score.png"


def draw(table: Mapping[str, Any], workdir: Path) -> None:
    """Score against the first swept field, a line for each setting of the others.

    The band is the 95 % confidence interval over seeds; a run that has diverged is not in it.

    Args:
      table: Of a sweep.
      workdir: Where the picture goes.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    axes, metric = list(table["axes"]), table["metric"]
    if not axes:
        return
    lines: dict[tuple[float, ...], list[tuple[float, Any]]] = {}
    for setting, found in over_seeds(table["rows"], axes, metric).items():
        lines.setdefault(setting[1:], []).append((setting[0], found))
    figure, plot = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for others, points in lines.items():
        points = sorted((x, y) for x, y in points if y.runs)
        xs, ys = [x for x, _ in points], [y for _, y in points]
        label = ", ".join(f"{name} {value:g}" for name, value in zip(axes[1:], others, strict=True))
        (line,) = plot.plot(xs, [y.mean for y in ys], "o-", ms=4, label=label)
        low, high = [y.low for y in ys], [y.high for y in ys]
        plot.fill_between(xs, low, high, color=line.get_color(), alpha=0.2, lw=0)
    if table.get("bm25"):
        plot.axhline(table["bm25"][metric], color="0.5", ls=":", label="BM25")
    if min(table["axes"][axes[0]]) > 0:
        plot.set_xscale("log")
    plot.set(xlabel=axes[0], ylabel=metric, title=f"{table['name']}, {table['seeds']} seeds")
    if any(plot.get_legend_handles_labels()[1]):
        plot.legend(frameon=False)
    figure.savefig(workdir / PICTURE, dpi=120)
    plt.close(figure)

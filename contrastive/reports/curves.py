"""Figures of metrics against steps, and of uniformity against tolerance or alignment."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from html import escape
from itertools import cycle, islice, product

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from contrastive.folders.setting import Run, Setting
from contrastive.reports.block import (
    COLORS,
    Block,
    Control,
    Figure,
    Frame,
    Key,
    Table,
    styled_figure,
    tall_table,
)
from contrastive.reports.study import TEMPERATURE, Study, labeled

_DASHES = ("", "7px,3px", "2px,3px", "9px,3px,2px,3px")
_MARKERS = 30  # lines with at least this many points are drawn without markers

_MEANINGS = {
    "loss": "Mean over the batch. Losses at different temperatures are not comparable.",
    "accuracy": "Share of queries whose positive scores above every negative of the batch.",
    "effective_negatives": "Number of negatives that carry the gradient: the exponential of the "
    "entropy of their shares.",
    "top_negative_share": "Share of the gradient on the hardest negative. If it is near 1, raise "
    "the temperature, or look for false negatives.",
    "saturated": "Share of queries whose positive has a probability above 99% in the "
    "softmax, and so almost no gradient.",
    "temperature": "The temperature that similarities are divided by.",
    "grad_norm": "Norm of the encoder's gradient.",
    "positive_cosine": "Mean similarity of queries and their positives.",
    "negative_cosine": "Mean similarity of queries and negatives.",
    "entropy": "Entropy of the softmax over the positive and the negatives, in nats.",
    "alignment": "Mean squared distance between queries and positives; lower is closer.",
    "uniformity": "How uniformly queries are spread over the sphere; lower is more uniform.",
}
"""Metrics with a figure of their own; all others are in a menu."""

_DETAILED_MEANINGS = {
    "hardest_negative": "mean cosine of a query's hardest negative",
    "modality_gap": "distance between the mean query and the mean positive",
    "partition_bias": "second-order bias of log Z: by how many nats a batch underestimates the log "
    "partition function; accurate while well below 0.1 in size, a lower bound above that",
    "copied": "share of queries with a negative that nearly duplicates their positive",
    "top_10_share": "share of the gradient on the ten hardest negatives",
    "top_100_share": "share of the gradient on the hundred hardest negatives",
}


def training_blocks(studies: Sequence[Study]) -> list[Block]:
    """Returns figures of the metrics measured at several steps, with one line per setting.

    Args:
      studies: The studies; all share the same figures.

    Returns:
      The main metrics side by side, then the others in a menu; empty if nothing was logged.
    """
    lines = [
        (setting, key)
        for (_, _, setting), key in zip(labeled(studies), keys(studies), strict=True)
        if setting.logged
    ]
    several = _at_several_steps([setting for setting, _ in lines])
    blocks, legend = [], [key for _, key in lines]
    if main := [name for name in _MEANINGS if name in several]:
        figures = [Figure(n, _MEANINGS[n], [_curves(lines, n)], small=True) for n in main]
        blocks.append(Block(figures, legend=legend))
    if others := sorted(several - set(_MEANINGS)):
        words = [f"{n}: {x}." if (x := _DETAILED_MEANINGS.get(n)) else "" for n in others]
        frames = [_curves(lines, n)._replace(words=x) for n, x in zip(others, words, strict=True)]
        figure = Figure("Other metrics", "", frames)
        blocks.append(Block([figure], [Control("metric", others, kind="menu")], legend))
    return blocks


def once_table(studies: Sequence[Study]) -> Table:
    """Returns a table of the metrics measured at only one step, which is usually the last.

    Args:
      studies: The studies.

    Returns:
      A table of metrics by settings; the more numerous of them are the rows.
    """
    settings = labeled(studies)
    several = _at_several_steps([setting for _, _, setting in settings])
    names = sorted({name for _, _, setting in settings for name in setting.logged} - several)
    last = {
        name: [(setting.curve(name)[1] or [None])[-1] for _, _, setting in settings]
        for name in names
    }
    cells = [["-" if x is None else f"{x:.3g}" for x in last[name]] for name in names]
    head = [study.place(x) if len(studies) == 1 else label for label, study, x in settings]
    known = [f"{name}: {meaning}" for name, meaning in _DETAILED_MEANINGS.items() if name in names]
    caption = f"Metrics measured at only one step; means over seeds. {'; '.join(known)}"
    corner = studies[0].axis if len(studies) == 1 else "setting"
    return tall_table(caption, corner, names, head, cells)


def raised_in_words(studies: Sequence[Study]) -> str:
    """Describes the runs that continued at a higher temperature after they had diverged.

    Args:
      studies: The studies.

    Returns:
      A sentence, or an empty string if there were none.
    """
    raises = []
    for label, _, setting in labeled(studies):
        steps = [f"to {t:.3g} after step {step}" for step, t in setting.raised]
        if steps:
            raises.append(f"{label}: {', then '.join(steps)}")
    if not raises:
        return ""
    return f"The temperature was raised when a run diverged. {'; '.join(raises)}."


def _at_several_steps(settings: Sequence[Setting]) -> set[str]:
    names = {name for setting in settings for name in setting.logged}
    return {n for n in names if any(len(setting.curve(n)[0]) > 1 for setting in settings)}


def keys(studies: Sequence[Study]) -> list[Key]:
    """Returns the line style of each setting.

    Ordered settings take their colors from a scale, so that the same position in several sweeps has
    the same color and a different dash. Other settings have distinct colors.

    Args:
      studies: The studies.

    Returns:
      One legend entry per setting, in the order of `labeled`.
    """
    dashes, distinct = cycle(_DASHES), cycle(product(_DASHES, COLORS))
    styles = []
    for study in studies:
        count = len(study.settings)
        if count == 1 or study.field is None:
            styles += [(color, dash) for dash, color in islice(distinct, count)]
        else:
            # The upper end of the scale is too light for a white background.
            colors = sample_colorscale("Plasma", [0.65 * i / (count - 1) for i in range(count)])
            dash = next(dashes)
            styles += [(str(color), dash) for color in colors]
    labels = [label for label, _, _ in labeled(studies)]
    return [Key(label, *style) for label, style in zip(labels, styles, strict=True)]


def _curves(lines: Sequence[tuple[Setting, Key]], name: str) -> Frame:
    traces = []
    for setting, key in lines:
        if name not in setting.logged:
            continue
        steps, values = setting.curve(name)
        traces.append(
            go.Scatter(
                x=steps,
                y=values,
                name=escape(key.label),
                mode="lines+markers" if len(steps) < _MARKERS else "lines",
                line={"color": key.color, "dash": key.dash or "solid", "width": 1.5},
                marker={"size": 4},
                hovertemplate="step %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
            )
        )
    x, y = {"title": {"text": "step"}}, {"title": {"text": escape(name)}}
    return Frame(styled_figure(traces, x, y, showlegend=False))


def planes(studies: Sequence[Study]) -> list[Figure]:
    """Returns figures of uniformity against tolerance, or alignment if texts have no labels.

    Args:
      studies: The studies; each point is the mean of a setting over its seeds.

    Returns:
      The figures; empty if nothing was measured.
    """
    uniformity = "Uniformity: lower is more uniformly spread over the sphere. "
    tolerance = "Tolerance: the mean cosine of texts with the same label; higher is more similar."
    alignment = (
        "Alignment: the mean squared distance between queries and positives; lower is closer. "
        "If texts have labels, tolerance is shown instead."
    )
    tolerant = [(study, _points(study, "tolerance", studies)) for study in studies]
    others = [study for study, points in tolerant if not points]
    figures = []
    for name, caption, traces in (
        ("tolerance", tolerance, [x for _, points in tolerant for x in points]),
        ("alignment", alignment, [x for s in others for x in _points(s, "alignment", studies)]),
    ):
        if traces:
            x, y = {"title": {"text": "uniformity"}}, {"title": {"text": name}}
            figure = styled_figure(traces, x, y, showlegend=len(traces) > 1)
            title = f"Uniformity and {name}"
            figures.append(Figure(title, uniformity + caption, [Frame(figure)]))
    return figures


def _points(study: Study, other: str, studies: Sequence[Study]) -> list[go.Scatter]:
    """Returns the settings with both metrics, joined by a line if one number is swept."""
    texts, colors, places = [], [], []
    of_all = zip(labeled(studies), keys(studies), strict=True)
    for (_, whose, setting), key in of_all:
        pairs = [pair for run in setting.sound if (pair := _pair(run, other))]
        if whose is study and pairs:
            temperature = setting.values.get(TEMPERATURE)
            alone = temperature is not None and len(study.axes) == 1
            texts.append(f"{temperature:g}" if alone else escape(setting.label))
            colors.append(key.color)
            places.append([statistics.fmean(numbers) for numbers in zip(*pairs, strict=True)])
    if not places:
        return []
    joined = len(study.axes) == 1 and study.field is not None
    return [
        go.Scatter(
            x=[x for x, _ in places],
            y=[y for _, y in places],
            text=texts,
            name=escape(study.label),
            mode="lines+markers+text" if joined else "markers+text",
            textposition="top center",
            cliponaxis=False,
            marker={"color": colors, "size": 9},
            line={"color": "#999", "width": 1},
            hovertemplate="%{text}<br>uniformity %{x:.3f}, "
            + f"{other} %{{y:.3f}}<extra>%{{fullData.name}}</extra>",
        )
    ]


def _pair(run: Run, other: str) -> tuple[float, float] | None:
    """Returns both metrics from the same source: one evaluator, else the last batch."""
    for name in run.scores:
        evaluator, slash, metric = name.rpartition("/")
        partner = f"{evaluator}{slash}{other}"
        if metric == "uniformity" and partner in run.scores:
            return run.scores[name], run.scores[partner]
    x, y = run.last.get("uniformity"), run.last.get(other)
    return None if x is None or y is None else (x, y)

"""Figures of scores: against a swept field, or of single runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import Any, NamedTuple

import plotly.graph_objects as go

from contrastive.folders.reading import short, shown
from contrastive.reports.block import COLORS, GRAY, Block, Control, Figure, Frame, styled_figure
from contrastive.reports.scores import baseline_rows, choice_in_words
from contrastive.reports.study import Study, score_columns
from contrastive.sweeps.plots import visible
from contrastive.sweeps.table import Interval, in_words, over_seeds

_LINE = 30  # most characters of a title on one line
_TICKS = 12  # most values that all get a tick label


class _Line(NamedTuple):
    """A line of a figure: its label, means by value, and the scores of all runs.

    Points that are not joined are of settings that differ in other fields too.
    """

    label: str
    points: list[tuple[float, Interval]]
    dots: list[tuple[float, float]]
    joined: bool = True


def score_blocks(studies: Sequence[Study]) -> list[Block]:
    """Returns figures of scores against a field, with seeds as dots, intervals and baselines.

    Runs that do not share a field to draw them against are drawn side by side.

    Args:
      studies: The studies; those with the same field share a figure.

    Returns:
      One block per field; empty if there are fewer than two scores to compare.
    """
    by_field: dict[str | None, list[Study]] = {}
    for study in studies:
        field = study.field if _is_line(study) else None
        by_field.setdefault(field, []).append(study)
    blocks = []
    for field, group in by_field.items():
        columns = score_columns(group)
        settings = [setting for study in group for setting in study.settings]
        if not columns or len(settings) < 2:
            continue
        if field is None:
            title = "Scores of runs" if group[0].axis == "run" else "Scores of settings"
            frames = [_side_by_side(group, column) for column in columns]
            caption = "Dots are runs. "
        else:
            title = f"Score against {short(field)}"
            frames = [_against(field, group, column) for column in columns]
            caption = (
                "Small dots are seeds, large ones their means, and bands are 95% confidence "
                "intervals of the means (Student's t), which the figure may cut off. "
            )
        caption += "Runs that diverged are left out. Baselines outside of the range are named at "
        caption += "the edge."
        blocks.append(
            Block([Figure(title, caption, frames)], [Control("score", columns, kind="menu")])
        )
    return blocks


def _is_line(study: Study) -> bool:
    """Returns whether at least two settings differ in the field alone."""
    if study.field is None:
        return False
    others = [tuple(s.values[name] for name in study.axes[1:]) for s in study.settings]
    values = {
        (setting.values[study.field], rest)
        for setting, rest in zip(study.settings, others, strict=True)
    }
    return len(values) > len(set(others))


def _against(field: str, studies: Sequence[Study], column: str) -> Frame:
    traces = []
    lines = _lines(field, studies, column)
    for number, line in enumerate(lines):
        traces += _drawn(line, line.label or column, COLORS[number % len(COLORS)], short(field))
    xs = [setting.values[field] for study in studies for setting in study.settings]
    means = [y for line in lines for _, y in line.points]
    dots = [y for line in lines for _, y in line.dots]
    low, high = visible(dots, [end for y in means for end in (y.low, y.high)])
    inside, outside = _baselines(studies, column, low, high)
    for label, score in inside:
        style = {"color": GRAY, "dash": "dot"}
        ends, name = [min(xs), max(xs)], escape(label)
        traces.append(go.Scatter(x=ends, y=[score] * 2, name=name, mode="lines", line=style))
    y = {"title": {"text": _title(column)}, "range": [low, high]}
    several = len(lines) + len(inside) > 1
    figure = styled_figure(
        traces, _axis(field, xs), y, showlegend=several, annotations=_at_edges(outside, high)
    )
    return Frame(figure, choice_in_words(studies, column))


def _side_by_side(studies: Sequence[Study], column: str) -> Frame:
    """Draws one column of dots per setting."""
    labels, xs, ys = [], [], []
    for study in studies:
        for setting in study.settings:
            scores = [run.scores[column] for run in setting.runs if column in run.scores]
            xs += [len(labels)] * len(scores)
            ys += scores
            labels.append(escape(study.place(setting)))
    low, high = visible(ys, [])
    inside, outside = _baselines(studies, column, low, high)
    traces = [go.Scatter(x=xs, y=ys, mode="markers", marker={"color": COLORS[0], "size": 9})]
    for label, score in inside:
        style = {"color": GRAY, "dash": "dot"}
        ends = [-0.5, len(labels) - 0.5]
        traces.append(
            go.Scatter(x=ends, y=[score] * 2, name=escape(label), mode="lines", line=style)
        )
    traces[0].update(name="runs", hovertemplate="%{y:.3f}<extra></extra>")
    axis = {"tickvals": list(range(len(labels))), "ticktext": [_cut(x) for x in labels]}
    axis |= {"range": [-0.5, len(labels) - 0.5], "title": {"text": studies[0].axis}}
    y = {"title": {"text": _title(column)}, "range": [low, high]}
    figure = styled_figure(
        traces, axis, y, showlegend=bool(inside), annotations=_at_edges(outside, high)
    )
    return Frame(figure, choice_in_words(studies, column))


def _title(column: str) -> str:
    """Returns the title of a score axis, where a long name is on two lines."""
    task, _, metric = column.rpartition("/")
    return f"{escape(task)}/<br>{escape(metric)}" if len(column) > _LINE else escape(column)


def _cut(label: str) -> str:
    return label if len(label) <= 24 else f"{label[:23]}\N{HORIZONTAL ELLIPSIS}"


def _baselines(
    studies: Sequence[Study], column: str, low: float, high: float
) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Returns the baselines inside of a range of scores, and those outside of it."""
    known = [(label, x[column]) for label, x in baseline_rows(studies) if column in x]
    inside = [(label, score) for label, score in known if low <= score <= high]
    return inside, [each for each in known if each not in inside]


def _at_edges(baselines: Sequence[tuple[str, float]], high: float) -> list[dict[str, Any]]:
    """Returns annotations that name baselines at the upper or the lower edge."""
    annotations = []
    for number, (label, score) in enumerate(baselines):
        is_above = score > high
        arrow = "\N{UPWARDS ARROW}" if is_above else "\N{DOWNWARDS ARROW}"
        annotations.append(
            {
                **{"xref": "paper", "yref": "paper", "x": 1, "y": 1 if is_above else 0},
                **{"xanchor": "right", "yanchor": "top" if is_above else "bottom"},
                **{"showarrow": False, "yshift": -16 * number if is_above else 16 * number},
                **{"text": f"{escape(label)}: {score:.3f} {arrow}", "font": {"color": "#666"}},
            }
        )
    return annotations


def _lines(field: str, studies: Sequence[Study], column: str) -> list[_Line]:
    """Returns the lines of a figure: one per study and values of its other fields."""
    lines: dict[str, _Line] = {}
    for study in studies:
        others = [name for name in study.axes if name != field]
        for (x, *rest), score in over_seeds(study.rows, [field, *others], column).items():
            known = [(name, y) for name, y in zip(others, rest, strict=True) if y is not None]
            names = [f"{short(name)} {shown(y)}" for name, y in known]
            label = ", ".join([study.label] * (len(studies) > 1) + names)
            if score.runs:
                line = lines.setdefault(label, _Line(label, [], []))
                line.points.append((x, score))
                line.dots.extend(
                    (x, row[column])
                    for row in study.rows
                    if column in row and [row[name] for name in (field, *others)] == [x, *rest]
                )
    alone = [line for line in lines.values() if len(line.points) == 1]
    if len(alone) < 2 or all(study.axis != "run" for study in studies):
        return list(lines.values())
    points, dots = [line.points[0] for line in alone], [x for line in alone for x in line.dots]
    others = _Line("other runs", points, dots, joined=False)
    return [*(line for line in lines.values() if line not in alone), others]


def _drawn(line: _Line, label: str, color: str, field: str) -> list[Any]:
    legend = {"legendgroup": label, "name": escape(label)}
    points = sorted(line.points, key=lambda point: point[0])
    xs, ys = _outline(points) if line.joined else ([], [])
    band = go.Scatter(
        x=xs,
        y=ys,
        fill="toself",
        fillcolor=f"rgba({', '.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))}, 0.2)",
        mode="lines",
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        **legend,
    )
    means = go.Scatter(
        x=[x for x, _ in points],
        y=[y.mean for _, y in points],
        mode="lines+markers" if line.joined else "markers",
        line={"color": color},
        marker={"size": 8},
        text=[f"{escape(field)} {x:g}: {in_words(y)}, seeds: {y.runs}" for x, y in points],
        hovertemplate="%{text}<extra>%{fullData.name}</extra>",
        **legend,
    )
    dots = go.Scatter(
        x=[x for x, _ in line.dots],
        y=[y for _, y in line.dots],
        mode="markers",
        marker={"color": color, "size": 5, "symbol": "circle-open"},
        hovertemplate=f"{escape(field)} %{{x:g}}, a seed: %{{y:.3f}}<extra></extra>",
        showlegend=False,
        **legend,
    )
    several = any(y.runs > 1 for _, y in points)
    return [*([band] if xs else []), means, *([dots] if several else [])]


def _outline(
    points: list[tuple[float, Interval]],
) -> tuple[list[float | None], list[float | None]]:
    """Returns the outline of the band, interrupted at points with a single run."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    for several, group in groupby(points, key=lambda point: point[1].runs > 1):
        piece = list(group)
        if several:
            there, back = [x for x, _ in piece], [x for x, _ in reversed(piece)]
            xs += [*([None] if xs else []), *there, *back]
            highs, lows = [y.high for _, y in piece], [y.low for _, y in reversed(piece)]
            ys += [*([None] if ys else []), *highs, *lows]
    return xs, ys


def _axis(field: str, values: Sequence[float]) -> dict[str, Any]:
    ticks = sorted(set(values))
    axis: dict[str, Any] = {"title": {"text": escape(short(field))}}
    if ticks[0] > 0:
        axis["type"] = "log"
    if len(ticks) <= _TICKS:
        axis |= {"tickvals": ticks, "ticktext": [f"{x:g}" for x in ticks]}
    return axis

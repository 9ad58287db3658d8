"""Figures and tables of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

import plotly.graph_objects as go

from contrastive.folders.reading import short, shown
from contrastive.folders.setting import Setting
from contrastive.reports.block import (
    COLORS,
    GRAY,
    Block,
    Control,
    Figure,
    Frame,
    Row,
    Table,
    styled_figure,
)
from contrastive.reports.study import Study, labeled, score_columns
from contrastive.sweeps.table import Interval, over_seeds

_TICKS = 12  # most values that all get a tick label


def score_table(studies: Sequence[Study]) -> Table:
    """Returns a table of mean scores over seeds, with confidence intervals and baselines.

    Args:
      studies: The studies.

    Returns:
      A table with one row per setting; the highest is marked.
    """
    columns = score_columns(studies)
    rows = []
    for system, scores in _systems(studies):
        if set(scores) & set(columns):
            cells = [f"{scores[name]:.3f}" if name in scores else "-" for name in columns]
            rows.append(Row(system, ["", *cells, ""]))
    settings = labeled(studies)
    best = highest_place([x.setting for x in settings], columns[0]) if columns else None
    for place, (label, study, setting) in enumerate(settings):
        scores = [in_words(setting.score(name)) for name in columns]
        if place == best:
            scores[0] += " (highest)"
        name = study.place(setting) if len(studies) == 1 else label
        rows.append(Row(name, [str(len(setting.runs)), *scores, setting.state], place == best))
    return Table(
        "Means over seeds ± half the width of their 95% confidence intervals.",
        [studies[0].axis if len(studies) == 1 else "setting", "seeds", *columns, "state"],
        rows,
    )


def _systems(studies: Sequence[Study]) -> list[tuple[str, Mapping[str, float]]]:
    """Returns the distinct baselines, such as BM25, with their scores."""
    systems: list[tuple[str, Mapping[str, float]]] = []
    for study in studies:
        for baselines in study.baselines:
            systems += [baseline for baseline in baselines.items() if baseline not in systems]
    return systems


def highest_place(settings: Sequence[Setting], column: str) -> int | None:
    """Returns the setting with the highest mean score.

    Args:
      settings: The settings to choose from.
      column: Name of the score.

    Returns:
      The index of the setting, or None if fewer than two settings have that score.
    """
    means = {
        place: score.mean
        for place, setting in enumerate(settings)
        if (score := setting.score(column)).runs
    }
    return max(means, key=lambda place: means[place]) if len(means) > 1 else None


def highest_in_words(studies: Sequence[Study], column: str) -> str:
    """Describes the setting with the highest mean, and the settings that it overlaps with.

    Args:
      studies: The studies.
      column: Name of the score.

    Returns:
      One or two sentences; an empty string if fewer than two settings have that score.
    """
    settings = labeled(studies)
    best = highest_place([setting for _, _, setting in settings], column)
    if best is None:
        return ""
    top = settings[best].setting.score(column)
    sentence = f"Highest {column}: {settings[best].label}, {in_words(top)}."
    others = [
        label
        for place, (label, _, setting) in enumerate(settings)
        if place != best and (score := setting.score(column)).runs > 1 and score.high >= top.low
    ]
    if top.runs > 1 and others:
        return f"{sentence} Its 95% interval overlaps with that of: {'; '.join(others)}."
    if top.runs > 1:
        return f"{sentence} Its 95% interval overlaps with no other."
    return sentence


def in_words(score: Interval) -> str:
    """Formats a score as `0.531 ± 0.004`, its mean and half the width of its interval.

    Args:
      score: The mean and interval over seeds.

    Returns:
      The text; only the mean for a single run, and a dash for none.
    """
    if not score.runs:
        return "-"
    half = f" ± {score.high - score.mean:.3f}" if score.runs > 1 else ""
    return f"{score.mean:.3f}{half}"


def score_blocks(studies: Sequence[Study]) -> list[Block]:
    """Returns figures of scores against a field, with 95% confidence intervals and baselines.

    Args:
      studies: The studies; those with the same field share a figure.

    Returns:
      One block per field; empty if no numeric field differs, or nothing has a score.
    """
    by_field: dict[str, list[Study]] = {}
    for study in studies:
        if study.field is not None:
            by_field.setdefault(study.field, []).append(study)
    blocks = []
    for field, group in by_field.items():
        columns = score_columns(group)
        if columns and len({setting.values[field] for s in group for setting in s.settings}) > 1:
            caption = (
                "Points are means over the seeds of a setting, and bands are 95% confidence "
                "intervals (Student's t). Runs that diverged are left out."
            )
            frames = [_scores(field, group, column) for column in columns]
            figure = Figure(f"Score against {short(field)}", caption, frames)
            blocks.append(Block([figure], [Control("score", columns, kind="menu")]))
    return blocks


def _scores(field: str, studies: Sequence[Study], column: str) -> Frame:
    traces = []
    lines = _lines(field, studies, column)
    for number, (label, points) in enumerate(lines.items()):
        color = COLORS[number % len(COLORS)]
        traces += _line(label or column, sorted(points), color, short(field))
    xs = [setting.values[field] for study in studies for setting in study.settings]
    systems = _systems(studies)
    baselines = [(name, scores[column]) for name, scores in systems if column in scores]
    for system, score in baselines:
        line = {"color": GRAY, "dash": "dot"}
        ends, name = [min(xs), max(xs)], escape(system)
        traces.append(go.Scatter(x=ends, y=[score] * 2, name=name, mode="lines", line=line))
    y = {"title": {"text": escape(column)}}
    several = len(lines) + len(baselines) > 1
    figure = styled_figure(traces, _axis(field, xs), y, showlegend=several)
    return Frame(figure, highest_in_words(studies, column))


def _lines(
    field: str, studies: Sequence[Study], column: str
) -> dict[str, list[tuple[float, Interval]]]:
    """Returns the points of each line; a line is a study and the values of its other fields."""
    lines: dict[str, list[tuple[float, Interval]]] = {}
    for study in studies:
        others = [name for name in study.axes if name != field]
        for (x, *rest), score in over_seeds(study.rows, [field, *others], column).items():
            known = [(name, y) for name, y in zip(others, rest, strict=True) if y is not None]
            names = [f"{short(name)} {shown(y)}" for name, y in known]
            label = ", ".join([study.label] * (len(studies) > 1) + names)
            if score.runs:
                lines.setdefault(label, []).append((x, score))
    return lines


def _line(label: str, points: list[tuple[float, Interval]], color: str, field: str) -> list[Any]:
    legend = {"legendgroup": label, "name": escape(label)}
    xs, ys = _outline(points)
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
        mode="lines+markers",
        line={"color": color},
        text=[f"{escape(field)} {x:g}: {in_words(y)}, seeds: {y.runs}" for x, y in points],
        hovertemplate="%{text}<extra>%{fullData.name}</extra>",
        **legend,
    )
    return [band, means] if xs else [means]


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

"""Scores of settings: against a field, in a table, and which is highest."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import Any

import plotly.graph_objects as go

from contrastive.lab.report.block import (
    COLOURS,
    GREY,
    Block,
    Control,
    Frame,
    Line,
    Picture,
    Table,
    drawn,
)
from contrastive.lab.report.reading import short, shown
from contrastive.lab.report.setting import Setting
from contrastive.lab.report.study import Study, labelled, score_columns
from contrastive.lab.table import Interval, over_seeds

_TICKS = 12  # more values than these are not all written below an axis


def score_table(studies: Sequence[Study]) -> Table:
    """Means and intervals over seeds of every setting, beside BM25.

    Args:
      studies: All.

    Returns:
      A line a setting; the highest is marked.
    """
    columns = score_columns(studies)
    lines = []
    for scores in {tuple(scores.items()): scores for s in studies for scores in s.bm25}.values():
        if set(scores) & set(columns):
            cells = [f"{scores[name]:.3f}" if name in scores else "-" for name in columns]
            lines.append(Line("BM25", ["", *cells, ""]))
    settings = labelled(studies)
    best = highest_place([x.setting for x in settings], columns[0]) if columns else None
    for place, (label, study, setting) in enumerate(settings):
        scores = [in_words(setting.score(name)) for name in columns]
        if place == best:
            scores[0] += " (highest)"
        name = study.place(setting) if len(studies) == 1 else label
        lines.append(Line(name, [str(len(setting.runs)), *scores, setting.state], place == best))
    return Table(
        "Means over seeds, and half the width of their 95 % confidence intervals.",
        [studies[0].axis if len(studies) == 1 else "setting", "seeds", *columns, "state"],
        lines,
    )


def highest_place(settings: Sequence[Setting], column: str) -> int | None:
    """Which setting has the highest mean.

    Args:
      settings: To choose from.
      column: A score.

    Returns:
      Its place, None unless two or more have that score.
    """
    found = {
        place: score.mean
        for place, setting in enumerate(settings)
        if (score := setting.score(column)).runs
    }
    return max(found, key=lambda place: found[place]) if len(found) > 1 else None


def highest_in_words(studies: Sequence[Study], column: str) -> str:
    """Which setting has the highest mean, and whose intervals overlap with its own.

    Args:
      studies: All.
      column: A score.

    Returns:
      A sentence or two; none where there are no two settings with that score.
    """
    found = labelled(studies)
    best = highest_place([setting for _, _, setting in found], column)
    if best is None:
        return ""
    top = found[best].setting.score(column)
    said = f"Highest {column}: {found[best].label}, {in_words(top)}."
    others = [
        label
        for place, (label, _, setting) in enumerate(found)
        if place != best and (score := setting.score(column)).runs > 1 and score.high >= top.low
    ]
    if top.runs > 1 and others:
        said += f" The 95 % intervals that overlap with its own: {'; '.join(others)}."
    elif top.runs > 1:
        said += " No other 95 % interval overlaps with its own."
    return said


def in_words(found: Interval) -> str:
    """`0.531 ± 0.004`, the half width of the interval; the mean alone of a single run.

    Args:
      found: An interval.

    Returns:
      The words, a dash for no run.
    """
    if not found.runs:
        return "-"
    half = f" ± {found.high - found.mean:.3f}" if found.runs > 1 else ""
    return f"{found.mean:.3f}{half}"


def score_blocks(studies: Sequence[Study]) -> list[Block]:
    """Scores against a field, with 95 % confidence intervals over seeds and BM25.

    Args:
      studies: Those that have the same field are in one picture.

    Returns:
      A block a field; none where no number differs, or nothing has a score.
    """
    by_field: dict[str, list[Study]] = {}
    for study in studies:
        if study.field is not None:
            by_field.setdefault(study.field, []).append(study)
    blocks = []
    for field, some in by_field.items():
        columns = score_columns(some)
        if columns and len({setting.values[field] for s in some for setting in s.settings}) > 1:
            caption = (
                "A point is the mean over a setting's seeds, the band its 95 % confidence interval "
                "(Student's t). Runs that have diverged are left out."
            )
            frames = [_scores(field, some, column) for column in columns]
            picture = Picture(f"Score against {short(field)}", caption, frames)
            blocks.append(Block([picture], [Control("score", columns, kind="menu")]))
    return blocks


def _scores(field: str, studies: Sequence[Study], column: str) -> Frame:
    traces = []
    lines = _lines(field, studies, column)
    for number, (label, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        traces += _line(label or column, sorted(points), colour, short(field))
    xs = [setting.values[field] for study in studies for setting in study.settings]
    baselines = {scores[column] for s in studies for scores in s.bm25 if column in scores}
    for score in baselines:
        line = {"color": GREY, "dash": "dot"}
        ends = [min(xs), max(xs)]
        traces.append(go.Scatter(x=ends, y=[score] * 2, name="BM25", mode="lines", line=line))
    y = {"title": {"text": escape(column)}}
    several = len(lines) + len(baselines) > 1
    figure = drawn(traces, _axis(field, xs), y, showlegend=several)
    return Frame(figure, highest_in_words(studies, column))


def _lines(
    field: str, studies: Sequence[Study], column: str
) -> dict[str, list[tuple[float, Interval]]]:
    """Points by what a line stands for: a study, and the values of its other fields."""
    lines: dict[str, list[tuple[float, Interval]]] = {}
    for study in studies:
        others = [name for name in study.axes if name != field]
        for (x, *rest), found in over_seeds(study.rows, [field, *others], column).items():
            known = [(name, y) for name, y in zip(others, rest, strict=True) if y is not None]
            names = [f"{short(name)} {shown(y)}" for name, y in known]
            label = ", ".join([study.label] * (len(studies) > 1) + names)
            if found.runs:
                lines.setdefault(label, []).append((x, found))
    return lines


def _line(label: str, points: list[tuple[float, Interval]], colour: str, field: str) -> list[Any]:
    whose = {"legendgroup": label, "name": escape(label)}
    xs, ys = _outline(points)
    band = go.Scatter(
        x=xs,
        y=ys,
        fill="toself",
        fillcolor=f"rgba({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))}, 0.2)",
        mode="lines",
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        **whose,
    )
    means = go.Scatter(
        x=[x for x, _ in points],
        y=[y.mean for _, y in points],
        mode="lines+markers",
        line={"color": colour},
        text=[f"{escape(field)} {x:g}: {in_words(y)}, seeds: {y.runs}" for x, y in points],
        hovertemplate="%{text}<extra>%{fullData.name}</extra>",
        **whose,
    )
    return [band, means] if xs else [means]


def _outline(
    points: list[tuple[float, Interval]],
) -> tuple[list[float | None], list[float | None]]:
    """Of the band, in pieces: a single run has no interval."""
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

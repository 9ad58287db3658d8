"""Metrics against steps, and the plane of uniformity and tolerance."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from html import escape
from itertools import cycle, islice, product

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from contrastive.lab.report.block import (
    COLOURS,
    Block,
    Control,
    Frame,
    Key,
    Picture,
    Table,
    drawn,
    longer_down,
)
from contrastive.lab.report.setting import Run, Setting
from contrastive.lab.report.study import TEMPERATURE, Study, labelled

_DASHES = ("", "7px,3px", "2px,3px", "9px,3px,2px,3px")
_MARKERS = 30  # a line with more points has none

_MEANINGS = {
    "loss": "Mean over the batch. Losses at different temperatures are not comparable.",
    "accuracy": "How often the positive scores above every negative of the batch.",
    "effective_negatives": "How many negatives carry the gradient: exp of their shares' entropy.",
    "top_negative_share": "The hardest negative's share of the gradient. Near 1: raise the "
    "temperature, or look for false negatives.",
    "saturated": "Queries whose positive has 99 % of the softmax, and all but no gradient.",
    "temperature": "By which similarities are divided.",
    "grad_norm": "Norm of the encoder's gradient.",
    "positive_cosine": "Mean similarity of queries and their positives.",
    "negative_cosine": "Mean similarity of queries and negatives.",
    "entropy": "Of the softmax over the positive and the negatives, nats.",
    "alignment": "Mean squared distance of queries and positives; lower is closer.",
    "uniformity": "How evenly queries are spread over the sphere; lower is more evenly.",
}
"""Metrics that are shown side by side; others are in a menu."""

_OF_CLOSER_LOOKS = {
    "hardest_negative": "mean cosine of a query's hardest negative",
    "modality_gap": "distance of the mean query from the mean positive",
    "partition_bias": "bias of log Z, second order: by how many nats a batch puts the partition's "
    "logarithm too low; right while well under 0.1 in size, at least that much beyond",
    "copied": "queries with a negative that is nearly their positive",
    "top_10_share": "share of the ten hardest negatives in the gradient",
    "top_100_share": "share of the hundred hardest",
}


def training_blocks(studies: Sequence[Study]) -> list[Block]:
    """Every metric that was measured at several steps, a line a setting.

    Args:
      studies: All of them are in the same pictures.

    Returns:
      The main metrics side by side, and the others in a menu; none where nothing was logged.
    """
    lines = [
        (setting, key)
        for (_, _, setting), key in zip(labelled(studies), keys(studies), strict=True)
        if setting.logged
    ]
    several = _at_several_steps([setting for setting, _ in lines])
    blocks, legend = [], [key for _, key in lines]
    if main := [name for name in _MEANINGS if name in several]:
        pictures = [Picture(n, _MEANINGS[n], [_curves(lines, n)], small=True) for n in main]
        blocks.append(Block(pictures, legend=legend))
    if others := sorted(several - set(_MEANINGS)):
        said = [f"{n}: {x}." if (x := _OF_CLOSER_LOOKS.get(n)) else "" for n in others]
        frames = [_curves(lines, n)._replace(words=x) for n, x in zip(others, said, strict=True)]
        picture = Picture("Other metrics", "", frames)
        blocks.append(Block([picture], [Control("metric", others, kind="menu")], legend))
    return blocks


def once_table(studies: Sequence[Study]) -> Table:
    """What was measured at one step alone, most often at the end.

    Args:
      studies: All.

    Returns:
      Metrics and settings, the more numerous as lines.
    """
    settings = labelled(studies)
    several = _at_several_steps([setting for _, _, setting in settings])
    names = sorted({name for _, _, setting in settings for name in setting.logged} - several)
    last = {
        name: [(setting.curve(name)[1] or [None])[-1] for _, _, setting in settings]
        for name in names
    }
    cells = [["-" if x is None else f"{x:.3g}" for x in last[name]] for name in names]
    head = [study.place(x) if len(studies) == 1 else label for label, study, x in settings]
    known = [f"{name}: {meaning}" for name, meaning in _OF_CLOSER_LOOKS.items() if name in names]
    caption = f"Measured at one step alone, means over seeds. {'; '.join(known)}"
    corner = studies[0].axis if len(studies) == 1 else "setting"
    return longer_down(caption, corner, names, head, cells)


def raised_in_words(studies: Sequence[Study]) -> str:
    """Which runs went on at a higher temperature after they had diverged.

    Args:
      studies: All.

    Returns:
      A sentence; nothing where none did.
    """
    said = []
    for label, _, setting in labelled(studies):
        steps = [f"to {t:.3g} after step {step}" for step, t in setting.raised]
        if steps:
            said.append(f"{label}: {', then '.join(steps)}")
    if not said:
        return ""
    return f"The temperature was raised where a run had diverged. {'; '.join(said)}."


def _at_several_steps(settings: Sequence[Setting]) -> set[str]:
    names = {name for setting in settings for name in setting.logged}
    return {n for n in names if any(len(setting.curve(n)[0]) > 1 for setting in settings)}


def keys(studies: Sequence[Study]) -> list[Key]:
    """How each setting's line looks.

    Settings with an order have the colours of a scale, so that the same place in several sweeps has
    the same colour and another dash; others have colours of their own.

    Args:
      studies: All.

    Returns:
      In the order of `labelled`.
    """
    dashes, own = cycle(_DASHES), cycle(product(_DASHES, COLOURS))
    looks = []
    for study in studies:
        count = len(study.settings)
        if count == 1 or study.field is None:
            looks += [(colour, dash) for dash, colour in islice(own, count)]
        else:
            # The rest of the scale is too light for white paper.
            colours = sample_colorscale("Plasma", [0.65 * i / (count - 1) for i in range(count)])
            dash = next(dashes)
            looks += [(str(colour), dash) for colour in colours]
    labels = [label for label, _, _ in labelled(studies)]
    return [Key(label, *look) for label, look in zip(labels, looks, strict=True)]


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
                line={"color": key.colour, "dash": key.dash or "solid", "width": 1.5},
                marker={"size": 4},
                hovertemplate="step %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
            )
        )
    return Frame(drawn(traces, {"title": {"text": "step"}}, {}, showlegend=False))


def planes(studies: Sequence[Study]) -> list[Picture]:
    """Uniformity against tolerance, and against alignment where no text has a label.

    Args:
      studies: A point is a setting, the mean over its seeds.

    Returns:
      The pictures, none of what was not measured.
    """
    uniformity = "Uniformity: lower is more evenly spread over the sphere. "
    tolerance = "Tolerance: the mean cosine of texts of one label; higher is more alike."
    alignment = (
        "Alignment: the mean squared distance of queries and positives; lower is closer. "
        "Tolerance takes its place where texts have labels."
    )
    tolerant = [(study, _points(study, "tolerance", studies)) for study in studies]
    others = [study for study, points in tolerant if not points]
    found = []
    for name, caption, traces in (
        ("tolerance", tolerance, [x for _, points in tolerant for x in points]),
        ("alignment", alignment, [x for s in others for x in _points(s, "alignment", studies)]),
    ):
        if traces:
            x, y = {"title": {"text": "uniformity"}}, {"title": {"text": name}}
            figure = drawn(traces, x, y, showlegend=len(traces) > 1)
            found.append(Picture(f"Uniformity and {name}", uniformity + caption, [Frame(figure)]))
    return found


def _points(study: Study, other: str, studies: Sequence[Study]) -> list[go.Scatter]:
    """The settings of a study that have both numbers, joined where a number alone differs."""
    texts, colours, places = [], [], []
    of_all = zip(labelled(studies), keys(studies), strict=True)
    for (_, whose, setting), key in of_all:
        pairs = [pair for run in setting.sound if (pair := _pair(run, other))]
        if whose is study and pairs:
            temperature = setting.values.get(TEMPERATURE)
            alone = temperature is not None and len(study.axes) == 1
            texts.append(f"{temperature:g}" if alone else escape(setting.label))
            colours.append(key.colour)
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
            marker={"color": colours, "size": 9},
            line={"color": "#999", "width": 1},
            hovertemplate="%{text}<br>uniformity %{x:.3f}, "
            + f"{other} %{{y:.3f}}<extra>%{{fullData.name}}</extra>",
        )
    ]


def _pair(run: Run, other: str) -> tuple[float, float] | None:
    """Both numbers from one place: the evaluation, or the last batch."""
    for source in (run.scores, run.last):
        x, y = source.get("uniformity"), source.get(other)
        if x is not None and y is not None:
            return x, y
    return None

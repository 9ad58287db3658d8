"""Where cosines lie at each temperature, and which of the negatives carry the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise

import plotly.graph_objects as go

from contrastive.lab.report.block import BLUE, GREY, ORANGE, Block, Control, Frame, Picture, drawn
from contrastive.lab.report.curves import keys
from contrastive.lab.report.scores import highest_place
from contrastive.lab.report.setting import Histograms, Setting
from contrastive.lab.report.softmax import why_no_gradient, why_no_weights
from contrastive.lab.report.study import Study, labelled
from contrastive.temperature.details import BINS, EDGES

CENTRES = [round(float(low + high) / 2, 4) for low, high in pairwise(EDGES)]
"""Of the bins of cosines."""

_WIDTH = round(2 / BINS, 4)
_STEPS = 24  # a slider has no more of them; a page of all would be large
_POINTS = 100  # of a line of weights
_AXIS = {"title": {"text": "cosine"}}


def cosine_blocks(studies: Sequence[Study], column: str | None) -> list[Block]:
    """Histograms of cosines, and what the gradient makes of them, moved by one slider.

    Args:
      studies: A block each.
      column: A score; the setting with the highest is shown first.

    Returns:
      Blocks of the studies that have histograms.
    """
    return [
        _block(study, settings, column, study.label if len(studies) > 1 else "")
        for study in studies
        if (settings := [setting for setting in study.settings if setting.steps()])
    ]


def _block(study: Study, settings: Sequence[Setting], column: str | None, title: str) -> Block:
    steps = _some(sorted({step for setting in settings for step in setting.steps()}))
    looks = list(_looks(settings, steps))
    bounds = _range([look for _, look in looks])
    top = max(max(*look.positive, *look.negative) for _, look in looks)
    pictures = [
        Picture(
            "Cosines of positives and negatives",
            "Share of each in bins of 0.02, over 1,024 queries that are evenly spread over a "
            "batch, all of a smaller one; the mean over seeds.",
            [_histogram(*each, bounds, top) for each in looks],
        )
    ]
    if not all(why_no_gradient(setting.config) for setting in settings):
        caption = (
            "Grey: all pairs of a query and a negative; orange: their parts of InfoNCE's gradient, "
            "of queries against documents. "
            "A pair has (1 - P) r / temperature of it: r is the negative's share of its query's "
            "softmax over negatives, P the positive's of the whole softmax."
        )
        frames = [_gradient(*each, bounds) for each in looks]
        pictures.append(Picture("Where the gradient comes from", caption, frames))
    places = [study.place(setting) for setting in settings]
    best = highest_place(settings, column) if column else None
    return Block(
        pictures,
        [
            Control(study.axis, places, best or 0, "menu" if study.axis == "run" else "slider"),
            Control("step", [str(step) for step in steps], len(steps) - 1),
        ],
        title=title,
    )


def _looks(
    settings: Sequence[Setting], steps: Sequence[int]
) -> Iterator[tuple[Setting, Histograms]]:
    for setting in settings:
        for step in steps:
            look = setting.histograms(step)
            assert look is not None
            yield setting, look


def _some(steps: Sequence[int]) -> list[int]:
    """The first, the last, and evenly many between."""
    count = min(len(steps), _STEPS)
    return [steps[i * (len(steps) - 1) // max(count - 1, 1)] for i in range(count)]


def _range(looks: Sequence[Histograms]) -> list[float]:
    """From the first bin that is not empty anywhere to the last."""
    used = [
        place
        for look in looks
        for bins in (look.positive, look.negative)
        for place, share in enumerate(bins)
        if share > 0
    ]
    return [float(EDGES[min(used)]) - 0.01, float(EDGES[max(used) + 1]) + 0.01]


def _histogram(setting: Setting, look: Histograms, bounds: list[float], top: float) -> Frame:
    traces = [
        _stairs(look.negative, "negatives", ORANGE),
        _stairs(look.positive, "positives", BLUE),
    ]
    y = {"title": {"text": "share"}, "range": [0, 1.05 * top]}
    means = [
        round(sum(c * h for c, h in zip(CENTRES, bins, strict=True)) / (sum(bins) or 1.0), 2) + 0.0
        for bins in (look.positive, look.negative)  # + 0.0: there is no -0.00
    ]
    said = (
        f"{_when(setting, look)}: the mean cosine of positives is {means[0]:.2f}, that of "
        f"negatives {means[1]:.2f}."
    )
    return Frame(drawn(traces, {**_AXIS, "range": bounds}, y), said)


def _when(setting: Setting, look: Histograms) -> str:
    if not setting.has_temperature:
        return f"Step {look.step}"
    return f"Temperature {look.temperature:.3g}, step {look.step}"


def _gradient(setting: Setting, look: Histograms, bounds: list[float]) -> Frame:
    traces = [_stairs(look.negative, "share of the negatives", GREY)]
    reason = why_no_gradient(setting.config)
    if not reason and look.gradient is None:
        reason = "its histograms are of a version that did not measure it"
    if reason or look.gradient is None:
        said = f"No gradient is drawn here: {reason}."
    else:
        traces.append(_stairs(look.gradient, "share of the gradient", ORANGE, filled=False))
        said = _hardest_half(look.negative, look.gradient)
    y = {"title": {"text": "share"}, "rangemode": "tozero"}
    return Frame(drawn(traces, {**_AXIS, "range": bounds}, y), said)


def _hardest_half(negative: Sequence[float], gradient: Sequence[float]) -> str:
    """The bins of the highest cosines that together have half of the gradient."""
    part = pairs = 0.0
    for place in reversed(range(BINS)):
        part, pairs = part + gradient[place], pairs + negative[place]
        if part >= 0.5:
            return (
                f"{100 * part:.0f} % of the gradient comes from pairs with cosines of "
                f"{EDGES[place]:.2f} or more, {100 * pairs:.2g} % of all pairs of a query and a "
                "negative."
            )
    return "No negative has a part in the gradient."


def _stairs(bins: Sequence[float], name: str, colour: str, *, filled: bool = True) -> go.Scatter:
    # Beyond both ends it is zero: the first and the last bin are then as wide as the others.
    return go.Scatter(
        x0=round(CENTRES[0] - _WIDTH, 4),
        dx=_WIDTH,
        y=[0, *(round(share, 5) for share in bins), 0],
        name=name,
        mode="lines",
        line={"color": colour, "shape": "hvh", "width": 1.5},
        fill="tozeroy" if filled else "none",
        hovertemplate="cosine %{x:.2f}: %{y:.4f}<extra>%{fullData.name}</extra>",
    )


def penalty_blocks(studies: Sequence[Study]) -> list[Block]:
    """What a negative weighs against its query's hardest, by how far it is below, at the end.

    exp((s - s_hardest) / t)

    Args:
      studies: All settings are in one picture.

    Returns:
      The block; none where there are no histograms, or none whose loss weighs so.
    """
    traces, legend = [], []
    for (label, _, setting), key in zip(labelled(studies), keys(studies), strict=True):
        look = None if why_no_weights(setting.config) else setting.histograms(setting.config.steps)
        if look is None or not any(look.negative):
            continue
        legend.append(key)
        distances = _distances(look.negative)
        traces.append(
            go.Scatter(
                x=[round(distance, 5) for distance in distances],
                y=[round(math.exp(-distance / look.temperature), 5) for distance in distances],
                name=escape(label),
                mode="lines",
                line={"color": key.colour, "dash": key.dash or "solid"},
                hovertemplate=f"temperature {look.temperature:.3g}<br>%{{x:.3f}} below: "
                "%{y:.3g}<extra>%{fullData.name}</extra>",
            )
        )
    if not traces:
        return []
    x = {"title": {"text": "cosine below the hardest negative's"}, "rangemode": "tozero"}
    y = {"title": {"text": "weight against the hardest"}, "range": [0, 1.05]}
    caption = (
        "What a negative weighs in the gradient of its query against the query's hardest, "
        "exp((s - s_hardest) / temperature), as far as cosines of negatives reach. Low "
        "temperatures learn from those next to the hardest alone, high ones from all alike. Where "
        "queries have temperatures of their own, the line is of the mean."
    )
    frame = Frame(drawn(traces, x, y, showlegend=False))
    return [Block([Picture("Weight of a negative", caption, [frame])], legend=legend)]


def _distances(negative: Sequence[float]) -> list[float]:
    """From 0 to the range of the negatives' cosines, closest where weights fall the fastest."""
    some = [place for place, share in enumerate(negative) if share > 0]
    reach = float(EDGES[some[-1] + 1] - EDGES[some[0]])
    return [reach * (place / _POINTS) ** 2 for place in range(_POINTS + 1)]

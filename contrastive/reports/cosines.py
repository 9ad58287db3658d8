"""Figures of the cosines at each temperature, and of the negatives that carry the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise

import plotly.graph_objects as go

from contrastive.folders.setting import Histograms, Setting
from contrastive.reports.block import (
    BLUE,
    GRAY,
    ORANGE,
    Block,
    Control,
    Figure,
    Frame,
    styled_figure,
)
from contrastive.reports.curves import keys
from contrastive.reports.softmax import why_no_gradient, why_no_weights
from contrastive.reports.study import Study, labeled
from contrastive.temperature._detailed_diagnostics import BINS, EDGES

CENTERS = [round(float(low + high) / 2, 4) for low, high in pairwise(EDGES)]
"""Centers of the cosine bins."""

_WIDTH = round(2 / BINS, 4)
_STEPS = 24  # most positions of the step slider, to limit the size of the page
_POINTS = 100  # points per line of weights
_AXIS = {"title": {"text": "cosine"}}


def cosine_blocks(studies: Sequence[Study]) -> list[Block]:
    """Returns histograms of cosines and of their share of the gradient, with shared sliders.

    Args:
      studies: The studies; each becomes one block. The best setting is shown initially.

    Returns:
      One block for each study with histograms.
    """
    return [
        _block(study, settings, study.label if len(studies) > 1 else "")
        for study in studies
        if (settings := [setting for setting in study.settings if setting.steps()])
    ]


def _block(study: Study, settings: Sequence[Setting], title: str) -> Block:
    steps = _evenly_spaced(sorted({step for setting in settings for step in setting.steps()}))
    all_histograms = list(_all_histograms(settings, steps))
    bounds = _range([histograms for _, histograms in all_histograms])
    top = max(max(*histograms.positive, *histograms.negative) for _, histograms in all_histograms)
    figures = [
        Figure(
            "Cosines of positives and negatives",
            "Share of the positives and of the negatives in each bin of width 0.02, for up to "
            "1,024 queries spread evenly over a batch; means over seeds.",
            [_histogram(*each, bounds, top) for each in all_histograms],
        )
    ]
    if not all(why_no_gradient(setting.config) for setting in settings):
        caption = (
            "Gray: all pairs of a query and a negative. Orange: their share of the InfoNCE "
            "gradient of queries against documents. "
            "A pair contributes (1 - P) r / temperature, where r is the negative's probability in "
            "the softmax over negatives and P is the positive's probability in the full softmax."
        )
        frames = [_gradient(*each, bounds) for each in all_histograms]
        figures.append(Figure("Where the gradient comes from", caption, frames))
    places = [study.place(setting) for setting in settings]
    best = next((n for n, x in enumerate(settings) if study.choice and x is study.choice.best), 0)
    return Block(
        figures,
        [
            Control(study.axis, places, best, "menu" if study.axis == "run" else "slider"),
            Control("step", [str(step) for step in steps], len(steps) - 1),
        ],
        title=title,
    )


def _all_histograms(
    settings: Sequence[Setting], steps: Sequence[int]
) -> Iterator[tuple[Setting, Histograms]]:
    for setting in settings:
        for step in steps:
            histograms = setting.histograms(step)
            assert histograms is not None
            yield setting, histograms


def _evenly_spaced(steps: Sequence[int]) -> list[int]:
    """Returns the first and the last step, and evenly spaced ones between them."""
    count = min(len(steps), _STEPS)
    return [steps[i * (len(steps) - 1) // max(count - 1, 1)] for i in range(count)]


def _range(all_histograms: Sequence[Histograms]) -> list[float]:
    """Returns the range of cosines from the first to the last bin that is not always empty."""
    used = [
        place
        for histograms in all_histograms
        for bins in (histograms.positive, histograms.negative)
        for place, share in enumerate(bins)
        if share > 0
    ]
    return [float(EDGES[min(used)]) - 0.01, float(EDGES[max(used) + 1]) + 0.01]


def _histogram(setting: Setting, histograms: Histograms, bounds: list[float], top: float) -> Frame:
    traces = [
        _stairs(histograms.negative, "negatives", ORANGE),
        _stairs(histograms.positive, "positives", BLUE),
    ]
    y = {"title": {"text": "share"}, "range": [0, 1.05 * top]}
    means = [
        round(sum(c * h for c, h in zip(CENTERS, bins, strict=True)) / (sum(bins) or 1.0), 2) + 0.0
        for bins in (histograms.positive, histograms.negative)  # + 0.0 avoids -0.00
    ]
    summary = (
        f"{_when(setting, histograms)}: the mean cosine of positives is {means[0]:.2f}, that of "
        f"negatives is {means[1]:.2f}."
    )
    return Frame(styled_figure(traces, {**_AXIS, "range": bounds}, y), summary)


def _when(setting: Setting, histograms: Histograms) -> str:
    if not setting.has_temperature:
        return f"Step {histograms.step}"
    return f"Temperature {histograms.temperature:.3g}, step {histograms.step}"


def _gradient(setting: Setting, histograms: Histograms, bounds: list[float]) -> Frame:
    traces = [_stairs(histograms.negative, "share of the negatives", GRAY)]
    reason = why_no_gradient(setting.config)
    if not reason and histograms.gradient is None:
        reason = "the histograms are from an older version that did not measure it"
    if reason or histograms.gradient is None:
        summary = f"The gradient is not shown: {reason}."
    else:
        traces.append(_stairs(histograms.gradient, "share of the gradient", ORANGE, filled=False))
        summary = _hardest_half(histograms.negative, histograms.gradient)
    y = {"title": {"text": "share"}, "rangemode": "tozero"}
    return Frame(styled_figure(traces, {**_AXIS, "range": bounds}, y), summary)


def _hardest_half(negative: Sequence[float], gradient: Sequence[float]) -> str:
    """Describes the pairs with the highest cosines that make up half of the gradient."""
    share = pairs = 0.0
    for place in reversed(range(BINS)):
        share, pairs = share + gradient[place], pairs + negative[place]
        if share >= 0.5:
            return (
                f"{100 * share:.0f}% of the gradient comes from pairs with a cosine of "
                f"{EDGES[place]:.2f} or more, which are {100 * pairs:.2g}% of all pairs of a "
                "query and a negative."
            )
    return "No negative contributes to the gradient."


def _stairs(bins: Sequence[float], name: str, color: str, *, filled: bool = True) -> go.Scatter:
    # Zeros beyond both ends draw the first and the last bin as wide as the others.
    return go.Scatter(
        x0=round(CENTERS[0] - _WIDTH, 4),
        dx=_WIDTH,
        y=[0, *(round(share, 5) for share in bins), 0],
        name=name,
        mode="lines",
        line={"color": color, "shape": "hvh", "width": 1.5},
        fill="tozeroy" if filled else "none",
        hovertemplate="cosine %{x:.2f}: %{y:.4f}<extra>%{fullData.name}</extra>",
    )


def penalty_blocks(studies: Sequence[Study]) -> list[Block]:
    """Returns a figure of a negative's weight relative to the hardest one at the end of training.

    The weight exp((s - s_hardest) / t) is drawn against s_hardest - s.

    Args:
      studies: The studies; all settings are in one figure.

    Returns:
      The block; empty if no setting has both histograms and a loss with such weights.
    """
    traces, legend = [], []
    for (label, _, setting), key in zip(labeled(studies), keys(studies), strict=True):
        histograms = (
            None if why_no_weights(setting.config) else setting.histograms(setting.config.steps)
        )
        if histograms is None or not any(histograms.negative):
            continue
        legend.append(key)
        distances = _distances(histograms.negative)
        traces.append(
            go.Scatter(
                x=[round(distance, 5) for distance in distances],
                y=[
                    round(math.exp(-distance / histograms.temperature), 5) for distance in distances
                ],
                name=escape(label),
                mode="lines",
                line={"color": key.color, "dash": key.dash or "solid"},
                hovertemplate=f"temperature {histograms.temperature:.3g}<br>%{{x:.3f}} below: "
                "%{y:.3g}<extra>%{fullData.name}</extra>",
            )
        )
    if not traces:
        return []
    x = {"title": {"text": "cosine below the hardest negative's"}, "rangemode": "tozero"}
    y = {"title": {"text": "weight relative to the hardest"}, "range": [0, 1.05]}
    caption = (
        "Weight of a negative in the gradient of its query, relative to the query's hardest "
        "negative: exp((s - s_hardest) / temperature), over the range of the negatives' cosines. "
        "Low temperatures learn only from the hardest negatives, high ones from all equally. If "
        "queries have individual temperatures, their mean is used."
    )
    frame = Frame(styled_figure(traces, x, y, showlegend=False))
    return [Block([Figure("Weight of a negative", caption, [frame])], legend=legend)]


def _distances(negative: Sequence[float]) -> list[float]:
    """Returns distances up to the range of the negatives' cosines, densest near zero."""
    used = [place for place, share in enumerate(negative) if share > 0]
    reach = float(EDGES[used[-1] + 1] - EDGES[used[0]])
    return [reach * (place / _POINTS) ** 2 for place in range(_POINTS + 1)]

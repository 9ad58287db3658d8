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
from contrastive.lab.report.study import Study, labelled
from contrastive.temperature.details import BINS, EDGES

CENTRES = [round(float(low + high) / 2, 4) for low, high in pairwise(EDGES)]
"""Of the bins of cosines."""

_WIDTH = round(2 / BINS, 4)
_STEPS = 24  # a slider has no more of them; a page of all would be large
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
    bounds = _range(looks)
    top = max(max(*look.positive, *look.negative) for look in looks)
    pictures = [
        Picture(
            "Cosines of positives and negatives",
            "Share of each in bins of 0.02, over the first 1,024 queries of a batch, the mean over "
            "seeds.",
            [_histogram(look, bounds, top) for look in looks],
        )
    ]
    if all(setting.config.normalize for setting in settings):
        caption = (
            "InfoNCE's penalty distribution, r(s) ∝ exp(s / temperature), over all negatives of "
            "the batch. Grey: the negatives; orange: their part of the gradient."
        )
        frames = [_gradient(look, bounds) for look in looks]
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


def _looks(settings: Sequence[Setting], steps: Sequence[int]) -> Iterator[Histograms]:
    for setting in settings:
        for step in steps:
            look = setting.histograms(step)
            assert look is not None
            yield look


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


def gradient_shares(negative: Sequence[float], temperature: float) -> list[float]:
    """The penalty distribution over a histogram: each bin's part of the gradient.

    r_b = h_b exp(s_b / t) / sum_c h_c exp(s_c / t)

    Args:
      negative: Share of the negatives in each bin, h.
      temperature: t.

    Returns:
      A share a bin, zeros where there are no negatives.

    Source:
      Wang & Liu, 2021, arXiv:2012.09740.
    """
    relative = penalties(negative, temperature)
    parts = [h * relative.get(place, 0.0) for place, h in enumerate(negative)]
    total = sum(parts)
    return [part / total if total else 0.0 for part in parts]


def penalties(negative: Sequence[float], temperature: float) -> dict[int, float]:
    """What one negative weighs in the gradient against the hardest, exp((s - s_max) / t).

    Args:
      negative: Share of the negatives in each bin.
      temperature: t.

    Returns:
      Weights by bin, of those between the first and the last that has negatives.
    """
    some = [place for place, share in enumerate(negative) if share > 0]
    if not some:
        return {}
    top = CENTRES[some[-1]]
    between = range(some[0], some[-1] + 1)
    return {place: math.exp((CENTRES[place] - top) / temperature) for place in between}


def _histogram(look: Histograms, bounds: list[float], top: float) -> Frame:
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
        f"Temperature {look.temperature:.3g}, step {look.step}: the mean cosine of positives is "
        f"{means[0]:.2f}, that of negatives {means[1]:.2f}."
    )
    return Frame(drawn(traces, {**_AXIS, "range": bounds}, y), said)


def _gradient(look: Histograms, bounds: list[float]) -> Frame:
    shares = gradient_shares(look.negative, look.temperature)
    traces = [
        _stairs(look.negative, "share of the negatives", GREY),
        _stairs(shares, "share of the gradient", ORANGE, filled=False),
    ]
    y = {"title": {"text": "share"}, "rangemode": "tozero"}
    figure = drawn(traces, {**_AXIS, "range": bounds}, y)
    return Frame(figure, _hardest_half(look, shares))


def _hardest_half(look: Histograms, shares: Sequence[float]) -> str:
    """The hardest bins that together have half of the gradient."""
    gradient = negatives = 0.0
    for place in reversed(range(BINS)):
        gradient, negatives = gradient + shares[place], negatives + look.negative[place]
        if gradient >= 0.5:
            return (
                f"Temperature {look.temperature:.3g}: {100 * gradient:.0f} % of the gradient comes "
                f"from the hardest {100 * negatives:.2g} % of the negatives, those with cosines "
                f"from {EDGES[place]:.2f}."
            )
    return "No negatives."


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


def penalty_picture(studies: Sequence[Study]) -> Picture | None:
    """What a negative weighs against the hardest one, by its cosine, at each setting's end.

    Args:
      studies: All settings are in one picture.

    Returns:
      The picture, None where there are no histograms.
    """
    traces = []
    for (label, _, setting), key in zip(labelled(studies), keys(studies), strict=True):
        # Not normalised, similarities are no cosines, and the histograms do not tell them.
        look = setting.histograms(setting.config.steps) if setting.config.normalize else None
        weights = penalties(look.negative, look.temperature) if look else {}
        if look is None or not weights:
            continue
        traces.append(
            go.Scatter(
                x=[CENTRES[place] for place in weights],
                y=[round(weight, 5) for weight in weights.values()],
                name=escape(label),
                mode="lines",
                line={"color": key.colour, "dash": key.dash or "solid"},
                hovertemplate=f"temperature {look.temperature:.3g}<br>cosine %{{x:.2f}}: "
                "%{y:.3g}<extra>%{fullData.name}</extra>",
            )
        )
    if not traces:
        return None
    y = {"title": {"text": "weight against the hardest"}, "range": [0, 1.05]}
    caption = (
        "What one negative weighs in InfoNCE's gradient against the hardest of the batch, "
        "exp((s - s_max) / temperature), between the lowest and the highest cosine there is. Low "
        "temperatures learn from the few at the right alone, high ones from all alike."
    )
    x = {**_AXIS, "range": [min(min(trace.x) for trace in traces) - 0.01, 1.01]}
    return Picture("Weight of a negative", caption, [Frame(drawn(traces, x, y, showlegend=True))])

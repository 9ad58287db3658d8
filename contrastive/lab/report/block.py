"""Pictures, and what moves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import plotly.graph_objects as go

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a8a8a"
COLOURS = (BLUE, ORANGE, "#007a5a", "#a8508a", "#555555", "#8c6d00")
"""Of lines without an order, told apart by the colour-blind too."""


class Frame(NamedTuple):
    """What a picture shows at one place of its controls.

    Attributes:
      figure: The picture.
      words: What it says, in numbers.
    """

    figure: go.Figure
    words: str = ""


class Picture(NamedTuple):
    """A picture.

    Attributes:
      title: Above it.
      caption: What it shows, and how to read it.
      frames: One for each place of the block's controls, the last control's side by side.
      small: Whether others are beside it.
    """

    title: str
    caption: str
    frames: Sequence[Frame]
    small: bool = False


class Control(NamedTuple):
    """Chooses a frame.

    Attributes:
      name: What is chosen.
      places: In words.
      start: The place shown first.
      kind: A slider for what has an order.
    """

    name: str
    places: Sequence[str]
    start: int = 0
    kind: Literal["slider", "menu"] = "slider"


class Line(NamedTuple):
    """A line of a table.

    Attributes:
      label: Its heading.
      cells: The others.
      marked: Whether it stands out.
    """

    label: str
    cells: Sequence[str]
    marked: bool = False


class Table(NamedTuple):
    """A table.

    Attributes:
      caption: What it shows.
      head: Names of its columns.
      lines: It may have none.
    """

    caption: str
    head: Sequence[str]
    lines: Sequence[Line]


class Key(NamedTuple):
    """A line of a legend.

    Attributes:
      label: What it stands for.
      colour: Of the line.
      dash: Pixels of strokes and gaps, `6px,3px`; empty for a whole line.
    """

    label: str
    colour: str
    dash: str = ""


class Block(NamedTuple):
    """Pictures that the same controls move.

    Attributes:
      pictures: One or more.
      controls: None for pictures that stay as they are.
      legend: Of pictures without one of their own.
      title: Where there are several blocks of a kind.
    """

    pictures: Sequence[Picture]
    controls: Sequence[Control] = ()
    legend: Sequence[Key] = ()
    title: str = ""


def longer_down(
    caption: str,
    corner: str,
    names: Sequence[str],
    heads: Sequence[str],
    cells: Sequence[Sequence[str]],
) -> Table:
    """A table that is longer than it is wide: paper and telephones have little width.

    Args:
      caption: What it shows.
      corner: What the heads are.
      names: Of the lines.
      heads: Of the columns.
      cells: A sequence for each line.

    Returns:
      The table; with a line for each column where those are more.
    """
    if names and len(heads) > len(names):
        names, heads, cells = heads, names, list(zip(*cells, strict=True))
    lines = [Line(name, of_line) for name, of_line in zip(names, cells, strict=True)]
    return Table(caption, [corner, *heads], lines)


def drawn(traces: Sequence[Any], x: Mapping[str, Any], y: Mapping[str, Any], **layout: Any):
    """A figure in the page's plain style.

    Args:
      traces: Of plotly.
      x: Its axis.
      y: Its axis.
      **layout: Of plotly.

    Returns:
      The figure.
    """
    axis = {
        **{"automargin": True, "zeroline": False, "gridcolor": "#e6e6e6"},
        **{"linecolor": "#555", "ticks": "outside", "tickcolor": "#555"},
    }
    return go.Figure(
        list(traces),
        {
            "template": "none",
            "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#222"},
            "margin": {"l": 8, "r": 12, "t": 28, "b": 8},
            "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
            "xaxis": {**axis, **x},
            "yaxis": {**axis, **y},
            **layout,
        },
    )

"""Building blocks of a report: figures, their controls, tables and legends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import plotly.graph_objects as go

BLUE, ORANGE, GRAY = "#0072b2", "#d55e00", "#8a8a8a"
COLORS = (BLUE, ORANGE, "#007a5a", "#a8508a", "#555555", "#8c6d00")
"""Color-blind safe colors for lines without an order."""


class Frame(NamedTuple):
    """A figure at one position of the controls.

    Attributes:
      figure: The Plotly figure.
      words: A sentence with its main numbers.
    """

    figure: go.Figure
    words: str = ""


class Figure(NamedTuple):
    """A figure with a title and a caption.

    Attributes:
      title: Title above the figure.
      caption: What the figure shows, and how to read it.
      frames: One frame per combination of control positions; the last control varies fastest.
      small: Whether other figures are placed beside it.
    """

    title: str
    caption: str
    frames: Sequence[Frame]
    small: bool = False


class Control(NamedTuple):
    """A control that selects a frame.

    Attributes:
      name: Label of the control.
      places: Labels of its positions.
      start: Index of the initial position.
      kind: A slider for ordered positions, else a menu.
    """

    name: str
    places: Sequence[str]
    start: int = 0
    kind: Literal["slider", "menu"] = "slider"


class Row(NamedTuple):
    """A row of a table.

    Attributes:
      label: The first cell, which is the heading of the row.
      cells: The other cells.
      marked: Whether the row is highlighted.
    """

    label: str
    cells: Sequence[str]
    marked: bool = False


class Table(NamedTuple):
    """A table.

    Attributes:
      caption: What the table shows.
      head: Names of the columns.
      rows: The rows, possibly none.
      title: Name of the table, if there are several similar ones.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Row]
    title: str = ""


class Key(NamedTuple):
    """An entry of a legend.

    Attributes:
      label: The label of the line.
      color: The color of the line.
      dash: Lengths of strokes and gaps, such as `6px,3px`; empty for a solid line.
    """

    label: str
    color: str
    dash: str = ""


class Block(NamedTuple):
    """Figures that share controls and a legend.

    Attributes:
      figures: One or more figures.
      controls: The shared controls; empty for static figures.
      legend: The shared legend, for figures without one of their own.
      title: The title, if there are several similar blocks.
    """

    figures: Sequence[Figure]
    controls: Sequence[Control] = ()
    legend: Sequence[Key] = ()
    title: str = ""


def tall_table(
    caption: str,
    corner: str,
    names: Sequence[str],
    heads: Sequence[str],
    cells: Sequence[Sequence[str]],
) -> Table:
    """Builds a table that is longer than it is wide, to fit on paper and phones.

    Args:
      caption: What the table shows.
      corner: The heading of the first column.
      names: Names of the rows.
      heads: Names of the columns.
      cells: One sequence of cells per row.

    Returns:
      The table, transposed if it has more columns than rows.
    """
    if names and len(heads) > len(names):
        names, heads, cells = heads, names, list(zip(*cells, strict=True))
    rows = [Row(name, of_row) for name, of_row in zip(names, cells, strict=True)]
    return Table(caption, [corner, *heads], rows)


def styled_figure(
    traces: Sequence[Any], x: Mapping[str, Any], y: Mapping[str, Any], **layout: Any
) -> go.Figure:
    """Builds a figure in the plain style of the report.

    Args:
      traces: Plotly traces.
      x: Options of the x axis.
      y: Options of the y axis.
      **layout: Further Plotly layout options.

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

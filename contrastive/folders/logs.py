"""Reads the logs of runs, which are thinned while they are read."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import pydantic
from pydantic import Field, NonNegativeInt

from contrastive.errors import FolderError
from contrastive.json_files import read_json_lines
from contrastive.temperature._detailed_diagnostics import BINS

Row: TypeAlias = dict[str, Any]

_STEPS, _HISTOGRAM_STEPS = 1000, 100  # kept of a run, of each kind of row
_ROWS = 100_000  # kept of all runs
_ENDS = 10  # steps that are kept at both ends, which advice compares
_KINDS = 50
_Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
_Bins: TypeAlias = Annotated[list[_Finite], Field(min_length=BINS, max_length=BINS)]


class _Histogram(pydantic.BaseModel):
    """A line of histograms.jsonl; those of older versions lack the gradient."""

    step: NonNegativeInt
    member: NonNegativeInt = 0
    positive: _Bins
    negative: _Bins
    gradient: _Bins | None = None


class Thinned:
    """Rows of a log in order, of which only some steps are kept.

    The kept steps are the first ones, the last ones and evenly spaced ones between them. They are
    chosen separately for each kind of row, such as training steps and evaluations. All runs of a
    log keep the same steps.

    Args:
      most: Largest number of steps of each kind that are kept, apart from the first and last ones.
    """

    def __init__(self, most: int):
        self._most = most
        self._rows = 0
        self._kinds: dict[Any, _Kind] = {}

    def add(self, row: Row) -> None:
        """Adds the next row of the log."""
        names = frozenset(row)
        if names not in self._kinds and len(self._kinds) >= _KINDS:
            names = None
        if names not in self._kinds:
            self._kinds[names] = _Kind(self._most)
        self._kinds[names].add(self._rows, row)
        self._rows += 1

    def rows(self) -> list[Row]:
        """Returns the rows that were kept, in order."""
        kept = {n: row for kind in self._kinds.values() for n, row in kind.rows()}
        return [kept[n] for n in sorted(kept)]


class _Kind:
    """Rows of one kind; those of one step are kept or left out together."""

    def __init__(self, most: int):
        self._most, self._stride, self._steps = most, 1, 0
        self._step: int | None = None
        self._group: list[tuple[int, Row]] = []
        self._kept: dict[int, list[tuple[int, Row]]] = {}
        self._latest: deque[list[tuple[int, Row]]] = deque(maxlen=_ENDS)

    def add(self, number: int, row: Row) -> None:
        if row["step"] != self._step:
            self._step, self._group = row["step"], []
            self._latest.append(self._group)
            if self._is_kept(self._steps):
                self._kept[self._steps] = self._group
            self._steps += 1
            if len(self._kept) > self._most + _ENDS:
                self._stride *= 2
                self._kept = {n: group for n, group in self._kept.items() if self._is_kept(n)}
        self._group.append((number, row))

    def rows(self) -> Iterator[tuple[int, Row]]:
        for group in (*self._kept.values(), *self._latest):
            yield from group

    def _is_kept(self, step: int) -> bool:
        return step < _ENDS or step % self._stride == 0


def read_log(paths: Sequence[Path], runs: int) -> tuple[dict[int, list[Row]], dict[int, int]]:
    """Reads the metrics of all runs of a folder, thinned.

    Args:
      paths: The files; each has the rows of one or more runs.
      runs: Number of runs in the folder.

    Returns:
      The rows of each run by its number, and for each run that diverged, the first step whose loss,
      gradient or update was not finite.

    Raises:
      FolderError: If a line is damaged; the message names it.
    """
    rows: dict[int, list[Row]] = {}
    diverged: dict[int, int] = {}
    most = min(_STEPS, max(_ROWS // max(runs, 1), 5 * _ENDS))
    for path in paths:
        thinned = Thinned(most)
        for number, line in read_json_lines(path, dict[str, _Finite | None]):
            if isinstance(line, FolderError):
                raise line
            counts = {
                name: _count(path, number, name, line.get(name))
                for name in ("step", "member")
                if name in line or name == "step"
            }
            row: Row = {**line, **counts}
            if row.get("loss", 0.0) is None or row.get("finite") == 0:
                diverged.setdefault(row.get("member", 0), row["step"])
            thinned.add(row)
        for row in thinned.rows():
            rows.setdefault(row.get("member", 0), []).append(row)
    return rows, diverged


def read_histograms(paths: Sequence[Path], runs: int) -> dict[int, list[Row]]:
    """Reads the histograms of all runs of a folder, thinned.

    Args:
      paths: The files; each has the rows of one or more runs.
      runs: Number of runs in the folder.

    Returns:
      The rows of each run by its number.

    Raises:
      FolderError: If a line is damaged; the message names it.
    """
    rows: dict[int, list[Row]] = {}
    most = min(_HISTOGRAM_STEPS, max(_ROWS // 10 // max(runs, 1), _ENDS))
    for path in paths:
        thinned = Thinned(most)
        for _, row in read_json_lines(path, _Histogram):
            if isinstance(row, FolderError):
                raise row
            thinned.add(row.model_dump(exclude_unset=True))
        for row in thinned.rows():
            rows.setdefault(row.get("member", 0), []).append(row)
    return rows


def _count(path: Path, line: int, name: str, value: float | None) -> int:
    if value is None or not math.isfinite(value) or value < 0 or value != int(value):
        raise FolderError(
            f"{path}:{line}: {name} is {value}, but must be a whole number from 0; remove the line"
        )
    return int(value)

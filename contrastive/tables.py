"""Tables of numbers, which notebooks display."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

_SHOWN_ROWS = 40


class Table(Sequence[Mapping[str, Any]]):
    """A table with rows by index and columns by name, which notebooks display.

    Args:
      rows: One mapping from column to value per row; rows may lack columns.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]):
        self._rows = list(rows)

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order of first appearance."""
        return list(dict.fromkeys(name for row in self._rows for name in row))

    def column(self, name: str) -> list[Any]:
        """Returns the values of a column.

        Args:
          name: Name of the column.

        Returns:
          One value per row; None for rows that lack the column.

        Raises:
          KeyError: If no row has the column; the message names the columns.
        """
        self._check(name)
        return [row.get(name) for row in self._rows]

    def having(self, *names: str) -> Table:
        """Returns the rows that have a value in every one of some columns.

        A log has separate rows for evaluations; `table.having("loss")` is the training log.

        Args:
          *names: Names of the columns.

        Raises:
          KeyError: If no row has one of the columns; the message names the columns.
        """
        for name in names:
            self._check(name)
        return Table([r for r in self._rows if all(r.get(name) is not None for name in names)])

    def _check(self, name: str) -> None:
        if name not in self.columns:
            raise KeyError(f"no column {name!r}; the columns are {', '.join(self.columns)}")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return Table(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._rows)

    def __repr__(self) -> str:
        return text(self.columns, self._cells())

    def _repr_html_(self) -> str:
        return html(self.columns, self._cells())

    def _cells(self) -> list[list[str]]:
        """Returns the cells to display: a long table is cut in the middle."""
        cells = [[shown(row.get(name, "")) for name in self.columns] for row in self._rows]
        if len(cells) <= _SHOWN_ROWS:
            return cells
        half = _SHOWN_ROWS // 2
        return [*cells[:half], ["..."] * len(self.columns), *cells[-half:]]


def shown(value: Any) -> str:
    """Formats the value of a cell."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def text(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats a table as text, with the first column left-aligned and the others right-aligned.

    >>> print(text(["", "MRR@10"], [["BM25", "0.500"]]))
          MRR@10
    BM25   0.500
    """
    lines = [columns, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def html(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats a table as HTML; all text is escaped."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class Scores(dict[str, dict[str, float]]):
    """Metrics by task and name, which notebooks display as a table.

    Attributes:
      about: By task, the settings of its evaluator, numbers of texts and their fingerprint.
      versions: Versions of Python and of relevant packages.
      split: `test` or `validation` for the final scores of a run, else empty.
      model: Name of the scored model; empty if it is not known.
      baselines: Metrics of other systems on the same texts, by task, system and name.
    """

    def __init__(
        self,
        scores: Mapping[str, Mapping[str, float]],
        about: Mapping[str, Any] | None = None,
        versions: Mapping[str, str] | None = None,
        *,
        split: str = "",
        model: str = "",
        baselines: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    ):
        super().__init__({name: dict(metrics) for name, metrics in scores.items()})
        self.about = dict(about or {})
        self.versions = dict(versions or {})
        self.split = split
        self.model = model
        self.baselines = dict(baselines or {})

    def _table(self) -> Table:
        """Returns a row for each system and task, with what identifies its scores."""
        rows = []
        for task, metrics in self.items():
            for system, scores in {**self.baselines.get(task, {}), self.model: metrics}.items():
                documents = self.about.get(task, {}).get("documents")
                known = {"split": self.split, "task": task, "model": system, "documents": documents}
                rows.append({name: x for name, x in known.items() if x not in ("", None)} | scores)
        return Table(rows)

    def __repr__(self) -> str:
        return repr(self._table())

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

"""Tab-separated files of texts, as exported from a spreadsheet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from contrastive.errors import DataError
from contrastive.sources._examples import Examples
from contrastive.sources._source import Source

__all__ = ["Tsv"]


class Tsv(Source):
    """A tab-separated file: a query, a document that answers it, and any number of negatives.

    Each line is one row. Quotation marks have no meaning, and empty cells after the first two are
    skipped. The file is read into memory; use `Jsonl` for more than a few gigabytes.
    """

    path: str
    """The file, in UTF-8."""
    header: bool = False
    """Whether the first line names the columns and is skipped."""

    def read(self) -> Examples:
        rows, lines = [], []
        for number, cells in enumerate(self._cells(), start=1):
            if any(cells):
                rows.append(_row(cells, f"{self.path}:{number}"))
                lines.append(number)
        if self.header:
            del rows[:1], lines[:1]
        if not rows:
            raise DataError(f"{self.path}: the file has no rows")
        return Examples.of(rows, self.path, where=lambda index: f"{self.path}:{lines[index]}")

    def _cells(self) -> Iterator[list[str]]:
        """Yields the cells of each line."""
        try:
            # Spreadsheets write a byte-order mark, and only a newline ends a line.
            with open(self.path, encoding="utf-8-sig", newline="\n") as file:
                for line in file:
                    yield line.rstrip("\r\n").split("\t")
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self.path}: not UTF-8 ({error.reason}); convert the file, for example with "
                "iconv -t UTF-8"
            ) from None


def _row(cells: list[str], where: str) -> dict[str, Any]:
    if len(cells) < 2 or not cells[0] or not cells[1]:
        raise DataError(
            f"{where}: expected a query and a document, separated by a tab; got {len(cells)} "
            f"columns, the first of them {cells[0]!r:.60}"
        )
    query, positive, *negatives = cells
    return {"query": query, "pos": [positive], "neg": [text for text in negatives if text]}

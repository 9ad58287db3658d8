"""Tab-separated files of texts, as exported from a spreadsheet."""

from __future__ import annotations

import csv

from contrastive.errors import DataError
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

    def read(self) -> list[dict[str, object]]:
        rows = []
        try:
            with open(self.path, encoding="utf-8", newline="") as file:
                lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
                for number, cells in enumerate(lines, start=1):
                    if cells and not (self.header and number == 1):
                        rows.append(_row(cells, f"{self.path}:{number}"))
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: not UTF-8 ({error.reason}); convert the file") from None
        except csv.Error as error:
            raise DataError(f"{self.path}:{lines.line_num}: {error}") from None
        if not rows:
            raise DataError(f"{self.path}: the file has no rows")
        return rows


def _row(cells: list[str], where: str) -> dict[str, object]:
    if len(cells) < 2 or not cells[0] or not cells[1]:
        raise DataError(
            f"{where}: expected a query and a document, separated by a tab, got "
            f"{cells[0]!r:.60} with {len(cells)} columns"
        )
    query, positive, *negatives = cells
    return {"query": query, "pos": [positive], "neg": [text for text in negatives if text]}

"""Random access to examples, with a table of facts about each that needs no reading."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from contrastive.errors import DataError
from contrastive.lazy import np
from contrastive.sources._classmates import with_classmates
from contrastive.sources._example import Example, check_row, example_of, text_id

if TYPE_CHECKING:
    import numpy.typing as npt
__all__ = ["Examples"]

# `type` is counted only where it has an effect. The last two have an effect in FlagEmbedding but
# not here.
COUNTED_FIELDS = ("prompt", "type", "batch_size", "train_group_size")
_COLUMNS = (
    ("positives", "i4"),
    ("negatives", "i4"),
    ("wanted", "i4"),  # maximum number of negatives for the row's type
    ("scored", "?"),
    ("score_range", "f4"),
    ("least_score", "f4"),
    ("label", "i4"),  # digest of the label; 0 without one
    *((name, "?") for name in COUNTED_FIELDS),
)
_ANY_NUMBER = 2**31 - 1


class Examples:
    """Random access to the checked examples of a source.

    Args:
      read: Maps an index to the example.
      table: Facts about the examples, one row per example, as `describe` returns them.
      fingerprint: A digest of all examples; a run is not resumed on different ones.
      name: Name of the source in messages.
      where: Maps an index to the location of the example, such as file and line.
    """

    def __init__(
        self,
        read: Callable[[int], Example],
        table: npt.NDArray[Any],
        *,
        fingerprint: str,
        name: str,
        where: Callable[[int], str],
    ):
        self._rows = read, table
        self._read, self._table = self._rows
        if self.has_labeled_texts:
            self._read, self._table = with_classmates(read, table)
        self.fingerprint = fingerprint
        self._name = name
        self.where = where

    @classmethod
    def of(
        cls,
        rows: Sequence[Example | Mapping[str, Any]] | Examples,
        name: str,
        where: Callable[[int], str] | None = None,
    ) -> Examples:
        """Checks rows and records facts about them.

        Args:
          rows: Examples, or mappings like the rows of a JSON-lines file. They are read by index,
            repeatedly.
          name: Name of the source in messages.
          where: Maps an index to the location of the row, such as file and line; None names the
            source and the index.

        Returns:
          The examples.

        Raises:
          DataError: If a row is invalid; the message says where it is.
        """
        if isinstance(rows, Examples):
            return rows
        digest, described = hashlib.blake2b(digest_size=16), []
        where = where or (lambda index: f"{name} row {index}")
        for index in range(len(rows)):
            row = rows[index]
            example = check_row(as_row(row), where(index))
            described.append(describe(example, row if isinstance(row, Mapping) else {}))
            digest.update(json.dumps(example, ensure_ascii=False).encode() + b"\n")
        if not described:
            raise DataError(f"{name} has no examples")
        return cls(
            lambda index: example_of(as_row(rows[index])),
            table_of(described),
            fingerprint=digest.hexdigest(),
            name=name,
            where=where,
        )

    @classmethod
    def concatenate(cls, sources: Sequence[Examples]) -> Examples:
        """Concatenates the examples of several sources."""
        if len(sources) == 1:
            return sources[0]
        ends = np.cumsum([len(source) for source in sources])

        def find(index: int) -> tuple[Examples, int]:
            number = int(np.searchsorted(ends, index, side="right"))
            return sources[number], index - (int(ends[number - 1]) if number else 0)

        def read(index: int) -> Example:
            source, own = find(index)
            return source._rows[0](own)

        def where(index: int) -> str:
            source, own = find(index)
            return source.where(own)

        together = " ".join(source.fingerprint for source in sources)
        return cls(
            read,
            np.concatenate([source._rows[1] for source in sources]),
            fingerprint=hashlib.blake2b(together.encode(), digest_size=16).hexdigest(),
            name=" + ".join(map(repr, sources)),
            where=where,
        )

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Example:
        return self._read(index)

    def __repr__(self) -> str:
        return self._name

    @property
    def has_labeled_texts(self) -> bool:
        """Whether some rows are a text and a label, without documents."""
        return bool((self._rows[1]["positives"] == 0).any())

    @property
    def most_positives(self) -> int:
        """Maximum number of positives over all examples."""
        return int(self._table["positives"].max())

    @property
    def mean_score_range(self) -> float:
        """Difference between the highest and lowest score of a row, averaged over scored rows."""
        ranges = self._table["score_range"][self._table["scored"]]
        return float(ranges.mean()) if len(ranges) else 0.0

    def count(self, field: str) -> int:
        """Counts the rows that have a field: one of `COUNTED_FIELDS`, or `scored`."""
        return int(self._table[field].sum())

    def check_negatives(self, needed: int, *, by_type: bool = True) -> None:
        """Checks that every row has enough negatives for the group size.

        Args:
          needed: Number of negatives that a row must have, group_size - 1.
          by_type: Whether a row needs no more negatives than its type allows.

        Raises:
          DataError: If a row has fewer; the message names the first such row.
        """
        have = self._table["negatives"]
        most = self._table["wanted"] if by_type else _ANY_NUMBER
        short = np.flatnonzero(have < np.minimum(needed, most))
        if len(short):
            raise DataError(
                f"{self.where(int(short[0]))}: a group needs {needed} negatives but this row has "
                f"{int(have[short[0]])} ({len(short)} of {len(self)} rows have too few); add "
                f"negatives, use groups of {int(have.min()) + 1}, or allow rows with fewer",
                see=("data.group_size", "data.few_negatives"),
            )

    def check_own_negatives(self) -> None:
        """Checks that every row has a negative; without in-batch negatives, others teach nothing.

        Raises:
          DataError: If a row has none; the message names the first such row.
        """
        self._refuse_without(
            self._table["negatives"] > 0,
            "this row has no negatives and does not use documents of other queries, so nothing is "
            "learned from it",
            "add at least 1 negative, leave such rows out, or use in-batch negatives",
        )

    def check_scores(self, *, negative: bool, missing: bool = False) -> None:
        """Checks that every row has valid scores for its documents.

        Args:
          negative: Whether scores may be negative.
          missing: Whether rows may be without scores.

        Raises:
          DataError: If scores are missing or out of range; the message names the first such row.
        """
        if not missing:
            self._refuse_without(
                self._table["scored"],
                'the loss needs "pos_scores" and "neg_scores" but this row has none',
                "add them, or choose a loss that does not need scores",
            )
        if not negative:
            self._refuse_without(
                self._table["least_score"] >= 0,
                "a score of this row is negative, so it cannot be a share of the row's relevance",
                "shift the scores, or set target='softmax' in the listwise loss",
            )

    def check_labels(self) -> None:
        """Checks that every row has a label.

        Raises:
          DataError: If a row has none; the message names the first such row.
        """
        self._refuse_without(
            self._table["label"] != 0,
            'the loss needs a "label" but this row has none',
            "add the class of each row, or choose another loss",
        )

    def _refuse_without(self, has: npt.NDArray[Any], wrong: str, way_out: str) -> None:
        without = np.flatnonzero(~has)
        if len(without):
            raise DataError(
                f"{self.where(int(without[0]))}: {wrong} ({len(without)} of {len(self)} rows); "
                f"{way_out}"
            )

    def subset(self, chosen: npt.NDArray[Any], fingerprint: str) -> Examples:
        """Selects examples by index.

        Args:
          chosen: Indices of the examples to keep.
          fingerprint: Digest of the selected examples.
        """
        read, table = self._rows
        return Examples(
            lambda index: read(int(chosen[index])),
            table[chosen],
            fingerprint=fingerprint,
            name=self._name,
            where=lambda index: self.where(int(chosen[index])),
        )


def as_row(row: Example | Mapping[str, Any]) -> Mapping[str, Any]:
    """Converts an example to a mapping like a row of a JSON-lines file."""
    if not isinstance(row, Example):
        return row
    if not row.positives and row.label is not None:
        return {"text": row.query, "label": row.label, "prompt": row.prompt}
    count = len(row.positives)
    return {
        "query": row.query,
        "pos": row.positives,
        "neg": row.negatives,
        "pos_scores": row.scores[:count] if row.scores else None,
        "neg_scores": row.scores[count:] if row.scores else None,
        "prompt": row.prompt,
        "type": row.kind,
        "label": row.label,
    }


def describe(example: Example, row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Collects the facts about an example that checks of groups and losses need.

    Args:
      example: The example.
      row: The row that it came from, for fields that an example does not keep.

    Returns:
      A row of the table.
    """
    most, scores = example.most_negatives, example.scores
    return (
        len(example.positives),
        len(example.negatives),
        _ANY_NUMBER if most is None else most,
        bool(scores),
        max(scores) - min(scores) if scores else 0.0,
        min(scores, default=0.0),
        0 if example.label is None else text_id(example.label),
        example.prompt is not None,
        most is not None or example.is_symmetric,
        row.get("batch_size") is not None,
        row.get("train_group_size") is not None,
    )


def table_of(described: Iterable[tuple[Any, ...]]) -> npt.NDArray[Any]:
    """Builds the table of facts from what `describe` returned for each example."""
    return np.array(list(described), np.dtype(list(_COLUMNS)))

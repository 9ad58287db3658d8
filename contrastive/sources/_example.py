"""One row of training data: its check, and the example that it becomes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

from contrastive.errors import DataError

__all__ = ["Example"]

_LARGEST = 3.4028235e38  # of float32


class Example(NamedTuple):
    """A query, the documents that answer it and documents that do not.

    Attributes:
      query: Its text.
      positives: Documents that answer it; empty for a text with a label, which a source completes
        with other texts of its class.
      negatives: Documents that do not.
      scores: A teacher's scores of the positives, then of the negatives; empty without a teacher.
      prompt: Prompt that replaces the source's; None keeps the source's.
      kind: The row's "type" in FlagEmbedding's sense, which changes its prompts and negatives.
      label: Class of the row; None if it has none.
    """

    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    prompt: str | None = None
    kind: str | None = None
    label: str | None = None

    @property
    def most_negatives(self) -> int | None:
        """Maximum number of negatives in a group of this row; None means no limit."""
        if self.kind == "only_1neg":
            return 1
        return len(self.negatives) if self.kind == "symmetric_class" else None

    @property
    def is_symmetric(self) -> bool:
        """Whether documents are encoded like queries, with the query's prompt."""
        return self.kind in ("symmetric_sts", "symmetric_clustering")


def check_row(row: Any, where: str) -> Example:
    """Checks a row `{"query": str, "pos": [str], "neg": [str]}` or `{"text": str, "label": str}`.

    Args:
      row: A decoded JSON value. `neg`, `pos_scores`, `neg_scores`, `prompt`, `type` and `label`
        may be missing or null, except for the label of a text; other fields are ignored.
      where: File and line, for error messages.

    Returns:
      The row as an example.

    Raises:
      DataError: If the row is invalid; the message names `where`, the field and what is expected.
    """
    if isinstance(row, list):
        raise DataError(
            f"{where}: a JSON array; write one row per line, for example with jq -c '.[]'"
        )
    if not isinstance(row, Mapping):
        raise DataError(
            f'{where}: expected an object {{"query": ..., "pos": [...]}}, got {row!r:.60}'
        )
    fields = ("text", "label") if _is_labeled_text(row) else ("query", "pos")
    for field in fields:
        if field not in row:
            raise DataError(f'{where}: "{field}" is missing; the row has {sorted(row)}')
    if _is_labeled_text(row):
        _check_text(row, "text", where)
        if row["label"] is None:
            raise DataError(f'{where}: "label" is null; every text needs one')
    else:
        _check_documents(row, where)
    for field in ("prompt", "type", "label"):
        is_number = isinstance(row.get(field), Integral) and not isinstance(row[field], bool)
        if row.get(field) is not None and not (field == "label" and is_number):
            _check_text(row, field, where)
    return example_of(row)


def _is_labeled_text(row: Mapping[str, Any]) -> bool:
    return "text" in row and "query" not in row


def _check_documents(row: Mapping[str, Any], where: str) -> None:
    _check_text(row, "query", where)
    _check_texts(row, "pos", where)
    if not row["pos"]:
        raise DataError(f'{where}: "pos" is empty; every query needs a positive')
    if row.get("neg") is not None:
        _check_texts(row, "neg", where)
    _check_scores(row, "pos", where)
    _check_scores(row, "neg", where)


def example_of(row: Mapping[str, Any]) -> Example:
    """Converts a row that has been checked to an example."""
    if _is_labeled_text(row):
        return Example(row["text"], (), prompt=row.get("prompt"), label=str(row["label"]))
    positives, negatives = tuple(row["pos"]), tuple(row.get("neg") or ())
    scores = (*(row.get("pos_scores") or ()), *(row.get("neg_scores") or ()))
    label = row.get("label")
    return Example(
        row["query"],
        positives,
        negatives,
        tuple(map(float, scores)) if len(scores) == len(positives) + len(negatives) else (),
        row.get("prompt"),
        row.get("type"),
        None if label is None else str(label),  # classes 3 and "3" are one
    )


def _check_text(row: Mapping[str, Any], field: str, where: str) -> None:
    value = row.get(field)
    if not isinstance(value, str):
        raise DataError(f'{where}: "{field}" must be a string, got {value!r:.60}')
    check_whole(value, field, where)


def _check_texts(row: Mapping[str, Any], field: str, where: str) -> None:
    value = row.get(field)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise DataError(f'{where}: "{field}" must be a list of strings, got {value!r:.60}')
    for text in value:
        if not isinstance(text, str):
            raise DataError(
                f'{where}: "{field}" must be a list of strings, but contains {text!r:.60}'
            )
        check_whole(text, field, where)


def _check_scores(row: Mapping[str, Any], of: str, where: str) -> None:
    field, count = f"{of}_scores", len(row.get(of) or ())
    value = row.get(field)
    if value is None:
        return
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != count:
        raise DataError(
            f'{where}: "{field}" must be a list of {count} numbers, one for each text of "{of}"'
        )
    for score in value:
        if not is_finite(score):
            raise DataError(
                f'{where}: "{field}" must be finite numbers (in float32), but contains '
                f"{score!r:.60}"
            )


def is_finite(value: Any) -> bool:
    """Returns whether a value is a number that is finite in float32."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return abs(float(value)) <= _LARGEST  # False if not a number
    except OverflowError:  # an integer with hundreds of digits
        return False


def check_whole(text: str, field: str, where: str) -> None:
    """Rejects half a surrogate pair, which is valid in JSON but not in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start : error.end]
        raise DataError(
            f'{where}: "{field}" contains half of a surrogate pair, {half!r}; remove it'
        ) from None


def text_id(text: str) -> int:
    """Returns a 32-bit digest of a text, never 0.

    Two different texts have the same digest with probability 2^-32, which masks one negative.

    Args:
      text: Any string.

    Returns:
      An integer in the range of int32.
    """
    digest = hashlib.blake2b(text.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little", signed=True) or 1

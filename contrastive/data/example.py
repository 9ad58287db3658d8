"""One row of training data, checked."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from contrastive.errors import DataError


class Example(NamedTuple):
    """A query, the documents that answer it and documents that do not.

    Attributes:
      query: Its text.
      positives: Documents that answer it.
      negatives: Documents that do not.
      scores: A teacher's, of the positives and then the negatives; none without a teacher.
      prompt: Instead of the source's prompt, None for that.
      kind: FlagEmbedding's "type" of the row.
      label: Class of the row, None without one.
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
        """The most negatives a group of this row may have; None for any number."""
        if self.kind == "only_1neg":
            return 1
        return len(self.negatives) if self.kind == "symmetric_class" else None

    @property
    def is_symmetric(self) -> bool:
        """Whether documents are asked as queries are, with the query's prompt."""
        return self.kind in ("symmetric_sts", "symmetric_clustering")


class Source(Protocol):
    """Random access to examples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...

    @property
    def fingerprint(self) -> str:
        """A digest of all the examples: a run is not resumed on others."""
        ...

    @property
    def most_positives(self) -> int:
        """The most positives any example has."""
        ...

    def check_negatives(self, needed: int) -> None:
        """Raises DataError, naming the row, if some example has fewer negatives than needed."""
        ...

    def check_own_negatives(self) -> None:
        """Raises DataError, naming the row, if some example has no negative at all."""
        ...

    def check_scores(self, *, negative: bool) -> None:
        """Raises DataError, naming the row, if some example has no teacher's scores.

        Args:
          negative: Whether scores may be negative.
        """
        ...

    def check_labels(self) -> None:
        """Raises DataError, naming the row, if some example has no label."""
        ...

    @property
    def score_spread(self) -> float:
        """How far a row's highest teacher's score is above its lowest, on average."""
        ...

    @property
    def field_counts(self) -> Counter[str]:
        """How many rows have each of the fields that a user may want to hear of."""
        ...


def example_from_row(row: Any, where: str) -> Example:
    """Checks a row `{"query": str, "pos": [str], "neg": [str]}`.

    Args:
      row: A decoded JSON value. `neg`, `pos_scores`, `neg_scores`, `prompt`, `type` and `label`
        may be missing or null; other fields are left alone.
      where: File and line, for messages.

    Returns:
      The row as an example.

    Raises:
      DataError: Naming `where`, the field and what it should be.
    """
    if isinstance(row, list):
        raise DataError(f"{where}: a JSON array; write a row a line, for example with jq -c '.[]'")
    if not isinstance(row, Mapping):
        raise DataError(
            f'{where}: expected an object {{"query": ..., "pos": [...]}}, got {row!r:.60}'
        )
    if "query" not in row:
        raise DataError(f'{where}: "query" is missing; the fields are {sorted(row)}')
    query = _text(row, "query", where)
    assert query is not None
    positives = _texts(row, "pos", where)
    if not positives:
        raise DataError(f'{where}: "pos" is empty; every query needs a positive')
    negatives = _texts(row, "neg", where) if row.get("neg") is not None else ()
    scores = _scores(row, "pos", len(positives), where) + _scores(row, "neg", len(negatives), where)
    return Example(
        query,
        positives,
        negatives,
        scores if len(scores) == len(positives) + len(negatives) else (),
        _text(row, "prompt", where, optional=True),
        _text(row, "type", where, optional=True),
        _label(row, where),
    )


def _text(row: Mapping[str, Any], field: str, where: str, *, optional: bool = False) -> str | None:
    value = row.get(field)
    if value is None and optional:
        return None
    if not isinstance(value, str):
        raise DataError(f'{where}: "{field}" must be a string, got {value!r:.60}')
    check_whole(value, field, where)
    return value


def _texts(row: Mapping[str, Any], field: str, where: str) -> tuple[str, ...]:
    value = row.get(field)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise DataError(f'{where}: "{field}" must be a list of strings, got {value!r:.60}')
    for text in value:
        if not isinstance(text, str):
            raise DataError(f'{where}: "{field}" must be a list of strings, it holds {text!r:.60}')
        check_whole(text, field, where)
    return tuple(value)


def _scores(row: Mapping[str, Any], of: str, count: int, where: str) -> tuple[float, ...]:
    field = f"{of}_scores"
    value = row.get(field)
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != count:
        raise DataError(f'{where}: "{field}" must be {count} numbers, one for each of "{of}"')
    for score in value:
        number = isinstance(score, int | float) and not isinstance(score, bool)
        if not number or not math.isfinite(score):
            raise DataError(f'{where}: "{field}" must be finite numbers, it holds {score!r:.60}')
    return tuple(map(float, value))


def _label(row: Mapping[str, Any], where: str) -> str | None:
    """Classes are named by words or by numbers; 3 and "3" are one."""
    value = row.get("label")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(row, "label", where, optional=True)


def check_whole(text: str, field: str, where: str) -> None:
    """Refuses half a surrogate pair, which JSON can hold and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start : error.end]
        raise DataError(f'{where}: "{field}" holds half a character, {half!r}') from None


def text_id(text: str) -> int:
    """A 32-bit digest of a text, never 0.

    Two different texts share one with probability 2^-32; in training that hides one negative.

    Args:
      text: Any string.

    Returns:
      An int that fits int32.
    """
    digest = hashlib.blake2b(text.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little", signed=True) or 1

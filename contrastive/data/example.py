"""One row of training data, checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from contrastive.errors import DataError


class Example(NamedTuple):
    """A query, the documents that answer it and documents that do not."""

    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...] = ()


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


def example_from_row(row: Any, where: str) -> Example:
    """Checks a row `{"query": str, "pos": [str], "neg": [str]}`.

    Args:
      row: A decoded JSON value.
      where: File and line, for messages.

    Returns:
      The row as an example. `neg` may be missing; other fields are left alone.

    Raises:
      DataError: Naming `where`, the field and what it should be.
    """
    if not isinstance(row, Mapping):
        raise DataError(
            f'{where}: expected an object {{"query": ..., "pos": [...]}}, got {row!r:.60}'
        )
    if "query" not in row:
        raise DataError(f'{where}: "query" is missing; the fields are {sorted(row)}')
    if not isinstance(row["query"], str):
        raise DataError(f'{where}: "query" must be a string, got {row["query"]!r:.60}')
    check_whole(row["query"], "query", where)
    positives = _texts(row, "pos", where)
    if not positives:
        raise DataError(f'{where}: "pos" is empty; every query needs a positive')
    return Example(row["query"], positives, _texts(row, "neg", where) if "neg" in row else ())


def _texts(row: Mapping[str, Any], field: str, where: str) -> tuple[str, ...]:
    value = row.get(field)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise DataError(f'{where}: "{field}" must be a list of strings, got {value!r:.60}')
    for text in value:
        if not isinstance(text, str):
            raise DataError(f'{where}: "{field}" must be a list of strings, it holds {text!r:.60}')
        check_whole(text, field, where)
    return tuple(value)


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

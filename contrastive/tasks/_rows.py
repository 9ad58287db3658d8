"""Reads and validates the JSON-lines files of evaluators."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from contrastive.errors import DataError
from contrastive.sources._example import check_whole, is_finite


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the location (file and line number) and the text of each line of a file.

    Args:
      path: The file, plain or `.gz`.

    Raises:
      DataError: If the file is missing, truncated or not UTF-8.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    number = 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                # Editors of Windows put a byte order mark before the first line.
                yield f"{path}:{number}", line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: {error}") from None
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: cannot be read after line {number}, {error}") from None


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the location and the object of each line of a JSON-lines file.

    Args:
      path: The file, plain or `.gz`; if it does not exist, `PATH.gz` is read instead.

    Raises:
      DataError: If the file is missing, or a line is not a JSON object.
    """
    packed = path.with_name(f"{path.name}.gz")
    if not path.is_file() and packed.is_file():
        path = packed
    for where, line in read_lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected an object, got {row!r:.60}")
        yield where, row


def read_columns(path: str, **columns: Callable[[dict[str, Any], str, str], Any]) -> list[list]:
    """Reads several fields of every row.

    Args:
      path: A JSON-lines file.
      **columns: For each field, the function that validates and converts its value: `text`,
        `number` or `label`.

    Returns:
      One list of values per field.

    Raises:
      DataError: If a field is missing or has another type; the message names file and line.
    """
    values: dict[str, list] = {name: [] for name in columns}
    for where, row in read_rows(Path(path)):
        for name, convert in columns.items():
            if name not in row:
                raise DataError(f'{where}: "{name}" is missing; the fields are {sorted(row)}')
            values[name].append(convert(row, name, where))
    if not next(iter(values.values())):
        raise DataError(f"{path}: the file has no rows")
    return list(values.values())


def text(row: dict[str, Any], field: str, where: str) -> str:
    """Returns the value of a field that must be a string."""
    if not isinstance(row.get(field), str):
        raise DataError(f'{where}: "{field}" must be a string, got {row.get(field)!r:.60}')
    check_whole(row[field], field, where)
    return row[field]


def number(row: dict[str, Any], field: str, where: str) -> float:
    """Returns the value of a field that must be a finite number."""
    value = row.get(field)
    if is_finite(value):
        return float(row[field])
    raise DataError(f'{where}: "{field}" must be a finite number, got {value!r:.60}')


def label(row: dict[str, Any], field: str, where: str) -> str:
    """Returns a class label, a string or an integer; 3 and "3" are the same class."""
    value = row.get(field)
    if isinstance(value, int) and not isinstance(value, bool) and is_finite(value):
        return str(value)
    return text(row, field, where)


def fingerprint(*columns: Sequence[Any] | Iterable[Any]) -> str:
    """Returns a digest of columns."""
    digest = hashlib.blake2b(digest_size=16)
    for column in columns:
        digest.update(json.dumps(list(column), ensure_ascii=False).encode())
    return digest.hexdigest()

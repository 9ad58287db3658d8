"""Typed reading of the JSON files in folders of runs, models and data."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from contrastive.errors import FolderError

T = TypeVar("T")

_MAX_BYTES = 64 << 20  # of a file or a line, which takes several times its size in memory
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_json(path: Path, kind: type[T] | Any, *, remedy: str = "copy or download it again") -> T:
    """Reads a JSON file whose contents must be of a type.

    Args:
      path: The file.
      kind: The expected type: a pydantic model, or a type such as `dict[str, int]`. Values are not
        converted, so "3" is not an integer.
      remedy: What the user can do about a damaged file; ends the message.

    Returns:
      The contents, as `kind`.

    Raises:
      FolderError: If the file is missing, cannot be read, or has other contents. The message names
        the file and the field.
    """
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= _MAX_BYTES else b""
    except FileNotFoundError:
        raise FolderError(f"{path}: no such file; {remedy}") from None
    except OSError as error:
        raise FolderError(f"{path} cannot be read: {error.strerror}; {remedy}") from None
    if size > _MAX_BYTES:
        raise FolderError(f"{path} has {size:,} bytes, more than {_MAX_BYTES:,}; {remedy}")
    return parse_json(content, kind, str(path), remedy=remedy)


def parse_json(content: bytes, kind: type[T] | Any, where: str, *, remedy: str) -> T:
    """Parses JSON whose contents must be of a type.

    Args:
      content: UTF-8 text, which may begin with a byte order mark.
      kind: The expected type; see `read_json`.
      where: The file, or file and line, for messages.
      remedy: What the user can do about damaged contents; ends the message.

    Returns:
      The contents, as `kind`.

    Raises:
      FolderError: If the contents are not of this type; the message names the field.
    """
    with _naming(where, remedy):
        return _adapter(kind).validate_json(content.removeprefix(_BYTE_ORDER_MARK), strict=True)


def checked(value: Any, kind: type[T] | Any, where: str, *, remedy: str) -> T:
    """Checks that a value that was read from JSON is of a type.

    Args:
      value: The value.
      kind: The expected type; see `read_json`.
      where: The file, for messages.
      remedy: What the user can do about damaged contents; ends the message.

    Returns:
      The value, as `kind`.

    Raises:
      FolderError: If the value is not of this type; the message names the field.
    """
    with _naming(where, remedy):
        return _adapter(kind).validate_python(value, strict=True)


def read_json_lines(path: Path, kind: type[T] | Any) -> Iterator[tuple[int, T | FolderError]]:
    """Reads a file with one JSON value per line, without loading it whole.

    A last line without a line break was cut short by a kill and is left out.

    Args:
      path: The file; nothing is read if it does not exist.
      kind: The expected type of each line; see `read_json`.

    Yields:
      The number of each line, from 1, and its value, or the error if the line is damaged.
    """
    if not path.exists():
        return
    with open(path, "rb") as file:
        lines = iter(functools.partial(file.readline, _MAX_BYTES), b"")
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n") and len(line) < _MAX_BYTES:
                return
            try:
                yield number, parse_json(line, kind, f"{path}:{number}", remedy="remove the line")
            except FolderError as error:
                yield number, error


@contextlib.contextmanager
def _naming(where: str, remedy: str) -> Iterator[None]:
    """Context whose validation errors name the file, and what the user can do about it."""
    try:
        yield
    except pydantic.ValidationError as error:
        raise FolderError(f"{where}: {_first_problem(error)}; {remedy}") from None


@functools.lru_cache(maxsize=64)
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)


def _first_problem(error: pydantic.ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    field = ".".join(map(str, problem["loc"]))
    reason = problem["msg"][0].lower() + problem["msg"][1:]
    if problem["type"] == "json_invalid":
        return f"not valid JSON ({reason.removeprefix('invalid JSON: ')})"
    if problem["type"] == "missing":
        return f'the field "{field}" is missing'
    value = f"{problem['input']!r:.60}"
    return f'the field "{field}" is {value}: {reason}' if field else f"{value}: {reason}"

"""Random access to JSON-lines files of `{"query", "pos", "neg"}` rows."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import os
import shutil
import weakref
import zlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt

from contrastive.cache import cached_file
from contrastive.digests import file_digest
from contrastive.errors import DataError
from contrastive.lazy import np
from contrastive.sources._example import Example, check_row, example_of
from contrastive.sources._examples import Examples, describe, table_of
from contrastive.sources._source import Source

__all__ = ["Jsonl"]

_PROGRESS_BYTES = 64 << 20  # larger files take seconds to check and get a progress bar
_ENDINGS = (".jsonl", ".json", ".jsonl.gz", ".json.gz")


class Jsonl(Source):
    """JSON-lines files with rows {"query": str, "pos": [str], "neg": [str]}, plain or .gz.

    Rows may also be texts with their classes, {"text": str, "label": str or integer}, for losses
    such as SupCon. The positives of such a row are other texts of its class.
    """

    path: str | Annotated[tuple[str, ...], Field(min_length=1)]
    """A file, a folder whose .jsonl and .json files form one source, or several files."""
    limit: PositiveInt | None = None
    """Maximum number of rows per file; the choice of rows is random but always the same."""

    def read(self) -> Examples:
        return Examples.concatenate([open_file(file, self.limit) for file in self.files()])

    def files(self) -> list[Path]:
        """Returns the files to read, in order.

        Raises:
          DataError: If a folder contains no such files.
        """
        paths = (self.path,) if isinstance(self.path, str) else self.path
        return [
            file
            for path in map(Path, paths)
            for file in (row_files(path) if path.is_dir() else [path])
        ]


def row_files(folder: Path) -> list[Path]:
    """Returns the JSON-lines files of a folder, sorted by name.

    Raises:
      DataError: If there are none.
    """
    files = sorted(path for path in folder.iterdir() if path.name.endswith(_ENDINGS))
    if not files:
        raise DataError(f"{folder} contains no file that ends in {', '.join(_ENDINGS)}")
    return files


def open_file(path: Path, limit: int | None = None) -> Examples:
    """Opens a file, plain or `.gz`, and checks all of its rows.

    Only byte offsets are kept in memory. A `.gz` file is unpacked once into the cache folder. An
    unchanged file is checked only once, however often it is opened.

    Args:
      path: The file.
      limit: Maximum number of rows.

    Returns:
      The examples of the file.

    Raises:
      DataError: If the file does not exist, is empty, is not UTF-8 or is not valid JSON, or if a
        row is invalid. The message names file and line.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    status = path.stat()
    stamp = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return _open_file(path, limit, stamp)


@functools.lru_cache(maxsize=256)
def _open_file(path: Path, limit: int | None, stamp: tuple[int, ...]) -> Examples:
    del stamp
    plain = _unpack(path) if path.suffix == ".gz" else path
    places, table, fingerprint = _scan(plain, path)
    descriptor = os.open(plain, os.O_RDONLY)

    def where(index: int) -> str:
        return f"{path}:{places[index][2]}"

    def read(index: int) -> Example:
        begin, end, _ = map(int, places[index])
        try:
            # pread does not use the file position, so threads may share the file.
            return example_of(json.loads(os.pread(descriptor, end - begin, begin)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(f"{where(index)}: the file has changed since it was checked") from None

    examples = Examples(
        read, table, fingerprint=fingerprint, name=f"Jsonl({str(path)!r})", where=where
    )
    weakref.finalize(read, os.close, descriptor)
    if limit is None or limit >= len(examples):
        return examples
    chosen = np.random.default_rng(0).choice(len(examples), limit, replace=False)
    return examples.subset(np.sort(chosen), f"{fingerprint} {limit}")


def _scan(plain: Path, path: Path) -> tuple[Any, Any, str]:
    """Returns begin, end and line of each row, the table of the rows, and a digest of the file."""
    from tqdm import tqdm

    places, described = [], []
    digest = hashlib.blake2b(digest_size=16)
    size = plain.stat().st_size
    bar = tqdm(
        desc=f"checking {path.name}",
        total=size,
        unit="B",
        unit_scale=True,
        disable=size < _PROGRESS_BYTES,
    )
    begin = 0
    with open(plain, "rb") as file, bar:
        for number, line in enumerate(file, start=1):
            bar.update(len(line))
            digest.update(line)
            if line.strip():
                where = f"{path}:{number}"
                row = _decode(line, where)
                described.append(describe(check_row(row, where), row))
                places.append((begin, begin + len(line), number))
            begin += len(line)
    if not places:
        raise DataError(f"{path}: the file has no rows")
    return np.array(places, np.int64), table_of(described), digest.hexdigest()


def _decode(line: bytes, where: str):
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")  # columns of errors count from its start
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: not UTF-8 at byte {error.start + 1} of the line "
            f"(0x{line[error.start]:02x}); convert the file, for example with iconv -t UTF-8"
        ) from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("["):
            raise DataError(
                f"{where}: a JSON array; write one row per line, for example with jq -c '.[]'"
            ) from None
        raise DataError(f"{where}: invalid JSON, {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # numbers too long, nesting too deep
        raise DataError(f"{where}: the JSON cannot be read, {error}") from None


def _unpack(path: Path) -> Path:
    def unpack(plain: Path) -> None:
        try:
            with gzip.open(path, "rb") as packed, open(plain, "wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path}: cannot be unpacked, {error}") from None

    try:
        key = file_digest(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read, {error.strerror}") from None
    return cached_file("jsonl", key, ".jsonl", unpack)

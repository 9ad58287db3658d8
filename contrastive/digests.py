"""Digests of files and folders, which tell whether something changed since it was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from contrastive.errors import FolderError
from contrastive.files import finite, write_json
from contrastive.json_files import checked, read_json

DIGEST = "digest"
_MANIFEST = "digests.json"
_WRITTEN_LATER = ("_CHECKPOINT_METADATA",)  # Orbax updates its timestamps at the very end


def digest_of(content: bytes) -> str:
    """Returns the 128-bit digest of bytes, in hexadecimal."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """Returns the 128-bit digest of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def digests(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Returns the digests of files in a folder by relative path.

    Args:
      folder: The folder.
      paths: Paths of the files.
    """
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in sorted(paths)}


def changed(folder: Path, expected: Mapping[str, str]) -> str | None:
    """Returns the first file of a folder that is missing or does not have its digest.

    Args:
      folder: The folder.
      expected: Digests by relative path.

    Returns:
      The relative path; None if every file has its digest.
    """
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file() or file_digest(path) != digest:
            return name
    return None


def write_manifest(folder: Path) -> None:
    """Writes the digests of all files of a folder into the folder."""
    (folder / _MANIFEST).unlink(missing_ok=True)
    files = [path for path in folder.rglob("*") if path.is_file()]
    files = [path for path in files if path.name not in _WRITTEN_LATER]
    write_sealed(folder / _MANIFEST, {"files": digests(folder, files)})


def check_manifest(folder: Path) -> bool:
    """Checks that the files of a folder are as they were when its manifest was written.

    Args:
      folder: The folder.

    Returns:
      Whether there is a manifest; older versions did not write one.

    Raises:
      FolderError: If a file is missing or has changed; the message names it.
    """
    if not (folder / _MANIFEST).is_file():
        return False
    stored = read_sealed(folder / _MANIFEST, dict[str, Any], remedy="restore it from a copy")
    name = changed(folder, stored["files"])
    if name is not None:
        raise FolderError(f"{folder / name} is missing or has changed since it was written")
    return True


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Adds a digest of the other fields to an object that is stored as JSON."""
    fields = finite(dict(value))
    return {**fields, DIGEST: digest_of(json.dumps(fields, sort_keys=True).encode())}


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object atomically, with a digest of its fields.

    Args:
      path: The file.
      value: The object.

    Raises:
      SaveError: If the disk is full.
    """
    write_json(path, sealed(value))


def read_sealed(path: Path, kind: Any, *, remedy: str) -> Any:
    """Reads a JSON object that `write_sealed` wrote; objects of older versions have no digest.

    Args:
      path: The file.
      kind: The expected type of the object without its digest; see `read_json`.
      remedy: What the user can do about a damaged file; ends the message.

    Returns:
      The object, as `kind`.

    Raises:
      FolderError: If the file is missing or damaged.
    """
    stored = read_json(path, dict[str, Any], remedy=remedy)
    if DIGEST in stored:
        fields = {name: value for name, value in stored.items() if name != DIGEST}
        if sealed(fields)[DIGEST] != stored[DIGEST]:
            raise FolderError(f"{path} has changed since it was written; {remedy}")
        stored = fields
    return checked(stored, kind, str(path), remedy=remedy)

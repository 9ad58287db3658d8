"""Files: the cache directory, and writes that are all or nothing."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contrastive.errors import FolderError, SaveError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What SMB and many FUSE file systems, which write folders at once, say of flushing one.
_CANNOT_FLUSH = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
_OTHERS_CAN_WRITE = 0o022


def cache_directory(room: str) -> Path:
    """Returns a cache folder for prepared data, which is created if it does not exist.

    The cache is in `$CONTRASTIVE_CACHE`, else `$XDG_CACHE_HOME/contrastive`, else
    `~/.cache/contrastive`. Its contents can be deleted at any time, and are then prepared again.
    Whoever can write to a cache decides what is trained on, so users that share a folder have a
    cache each, in `user-UID`.

    Args:
      room: Name of the folder inside the cache.

    Returns:
      The folder, which belongs to this user.

    Raises:
      FolderError: If the folder belongs to another user.
    """
    base = os.environ.get("CONTRASTIVE_CACHE")
    if base is None:
        xdg = os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")
        base = Path(xdg) / "contrastive"
    path = Path(base)
    if path.is_dir() and not _is_private(path):
        path = path / f"user-{os.getuid()}"
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in (path, path / room):
        folder.mkdir(mode=0o700, exist_ok=True)
        if (folder.is_symlink() and folder != Path(base)) or not _is_private(folder):
            raise FolderError(
                f"the cache {folder} belongs to another user, or others can write to it; remove "
                "it, or set CONTRASTIVE_CACHE to a folder of your own"
            )
    return path / room


def _is_private(folder: Path) -> bool:
    """Returns whether a folder belongs to this user, and no one else can write to it."""
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & _OTHERS_CAN_WRITE


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path; on exit, the file written there atomically replaces `path`.

    The temporary path cannot be predicted, and is unique even if several machines share the folder.
    The file is on the disk before it gets its name. After an exception, the temporary file is
    deleted and `path` is unchanged.

    Args:
      path: The file to replace.

    Raises:
      SaveError: If the disk is full.
    """
    # A temporary folder, because a temporary file would be readable by its owner only.
    with (
        naming_full_disks(path),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder,
    ):
        partial = Path(folder) / path.name
        yield partial
        flush(partial)
        os.replace(partial, path)
    flush(path.parent)


@contextlib.contextmanager
def naming_full_disks(path: Path) -> Iterator[None]:
    """Context in which the error about a full disk names the path that could not be written.

    Args:
      path: The file or folder that is written.

    Raises:
      SaveError: If the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise SaveError(
            f"{path} cannot be written: {os.strerror(error.errno)}. Free some space, then run the "
            "same command again"
        ) from None


def flush(path: Path) -> None:
    """Waits until a file or folder is on the disk, so that it survives a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically.

    Args:
      path: The file.
      value: Any value that JSON can represent. Numbers that are not finite, which JSON does not
        have, become null.

    Raises:
      SaveError: If the disk is full.
    """
    with replacing(path) as partial:
        partial.write_text(json.dumps(finite(value), indent=2) + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """Replaces numbers that are not finite by None, in a value that JSON can represent."""
    if isinstance(value, Mapping):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

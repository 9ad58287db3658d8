"""Files in the cache, which are prepared again if they are not what was written."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from contrastive.digests import file_digest
from contrastive.files import cache_directory, flush, naming_full_disks


def cached_file(room: str, key: str, ending: str, prepare: Callable[[Path], None]) -> Path:
    """Returns a file of the cache, which is prepared unless it is there and intact.

    The name of the file contains the digest of its contents, so that the file and what tells
    whether it is intact are written at once.

    Args:
      room: Name of the folder in the cache.
      key: Identifies the contents: a digest of everything that they are prepared from.
      ending: End of the file's name, such as `.json`.
      prepare: Writes the contents to a path.

    Returns:
      The file.

    Raises:
      SaveError: If the disk is full.
      FolderError: If the cache belongs to another user.
    """
    folder = cache_directory(room)
    for known in sorted(folder.glob(f"{key}.*{ending}")):
        if known.is_file() and not known.is_symlink() and known.name == _name(key, known, ending):
            return known
        print(
            f"contrastive: {known} is not as it was written and is prepared again", file=sys.stderr
        )
        known.unlink(missing_ok=True)
    with (
        naming_full_disks(folder / key),
        tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary,
    ):
        partial = Path(temporary) / key
        prepare(partial)
        flush(partial)
        path = folder / _name(key, partial, ending)
        os.replace(partial, path)
    flush(folder)
    return path


def _name(key: str, file: Path, ending: str) -> str:
    return f"{key}.{file_digest(file)}{ending}"

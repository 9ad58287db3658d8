"""Where prepared data is kept between runs."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def cache_directory(room: str) -> Path:
    """A folder for prepared data, made if need be.

    `CONTRASTIVE_CACHE`, else `$XDG_CACHE_HOME/contrastive`, else `~/.cache/contrastive`. Everything
    in it can be deleted; it is made again.

    Args:
      room: Name of the folder inside.

    Returns:
      Its path.
    """
    base = os.environ.get("CONTRASTIVE_CACHE")
    if base is None:
        xdg = os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")
        base = Path(xdg) / "contrastive"
    path = Path(base) / room
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes the file once it is whole.

    The path is nobody else's, also where several machines share the folder.

    Args:
      path: The file.

    Returns:
      The path to write to; nothing is left of it after an exception.
    """
    # In a folder, for a temporary file could be read by its owner alone.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        partial = Path(folder) / path.name
        yield partial
        os.replace(partial, path)

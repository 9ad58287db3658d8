"""Files: the cache directory, and atomic writes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def cache_directory(room: str) -> Path:
    """Returns a cache folder for prepared data, which is created if it does not exist.

    The cache is in `$CONTRASTIVE_CACHE`, else `$XDG_CACHE_HOME/contrastive`, else
    `~/.cache/contrastive`. Its contents can be deleted at any time, and are then prepared again.

    Args:
      room: Name of the folder inside the cache.

    Returns:
      The folder.
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
    """Yields a temporary path; on exit, the file written there atomically replaces `path`.

    The temporary path is unique to the process, even if several machines share the folder. After
    an exception, the temporary file is deleted and `path` is unchanged.

    Args:
      path: The file to replace.
    """
    # A temporary folder, because a temporary file would be readable by its owner only.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        partial = Path(folder) / path.name
        yield partial
        os.replace(partial, path)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically.

    Args:
      path: The file.
      value: Any value that JSON can represent. Numbers that are not finite, which JSON does not
        have, become null.
    """
    with replacing(path) as partial:
        partial.write_text(json.dumps(_finite(value), indent=2) + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

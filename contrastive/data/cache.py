"""Where prepared data is kept between runs."""

from __future__ import annotations

import os
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

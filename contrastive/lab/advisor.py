"""The rule of thumb about temperature as code: what a run shows, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that a run shows.

    Attributes:
      cause: One word for it: healthy, learning_rate, low_temperature, ...
      seen: What was measured, with numbers.
      advice: What to change, or why nothing needs to.
    """

    cause: str
    seen: str
    advice: str


def advise(workdir: Path) -> list[Finding]:
    """What a finished, running or diverged run shows, the most important first.

    Args:
      workdir: Of `contrastive train` or `finetune`.

    Returns:
      Findings; one that says `healthy` where nothing needs to change.
    """
    raise NotImplementedError(workdir)

"""What a sweep's runs write while they train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Array, Int

from contrastive.lab.grid import Member
from contrastive.temperature.details import Summary
from contrastive.training.log import HISTOGRAMS, divided
from contrastive.training.writers import JsonLines, read_metrics

Ended: TypeAlias = Int[np.ndarray, " M"]


class Log:
    """Lines of metrics and histograms of every run; none of a run after the step that ended it.

    Args:
      members: The runs.
      folder: Of these runs.
      step: That they go on from; lines of later ones are dropped.
    """

    def __init__(self, members: Sequence[Member], folder: Path, step: int):
        self._members = members
        self._lines = JsonLines(folder / "metrics.jsonl", step)
        self._histograms = JsonLines(folder / HISTOGRAMS, step)
        rows = read_metrics(folder / "metrics.jsonl")
        self._ended = {int(row["member"]) for row in rows if row.get("finite") == 0}

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exception) -> None:
        self._lines.close()
        self._histograms.close()

    def write(self, step: int, metrics: Mapping[str, Array], ended: Ended) -> int:
        """Writes a step of the runs that go on, and the end of the others; counts these.

        Args:
          step: Updates made.
          metrics: Of all runs.
          ended: The step that ended each; 0 of those that go on.
        """
        for place, member in enumerate(self._members):
            if ended[place] and member.number not in self._ended:
                self._lines.write(int(ended[place]), {"member": member.number, "finite": 0.0})
                self._ended.add(member.number)
        for number, values in self._of_each(metrics, ended):
            self._lines.write(step, {"member": number, **divided(values)[0]})
        return len(self._ended)

    def write_scores(self, step: int, scores: Mapping[int, Mapping[str, float]]) -> None:
        """Writes an evaluation on the validation data, by the place of each run."""
        for place, found in scores.items():
            named = {f"validation/{name}": x for name, x in found.items()}
            self._lines.write(step, {"member": self._members[place].number, **named})

    def write_summary(self, step: int, summary: Summary, ended: Ended) -> None:
        """Writes a closer look at each run's batch."""
        for number, own in self._of_each(summary, ended):
            scalars, bins = divided(own)
            self._lines.write(step, {"member": number, **scalars})
            self._histograms.write(step, {"member": number, **bins})

    def _of_each(
        self, arrays: Mapping[str, Array], ended: Ended
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """The number of each run that goes on, and its part of arrays of all."""
        on_host = {name: np.asarray(x) for name, x in arrays.items() if name != "finite"}
        for place, member in enumerate(self._members):
            if not ended[place]:
                yield member.number, {name: x[place] for name, x in on_host.items()}


def last_metrics(folder: Path) -> dict[int, dict[str, float]]:
    """What was last logged of each run, as `last/loss` and the like."""
    found: dict[int, dict[str, float]] = {}
    for row in read_metrics(folder / "metrics.jsonl"):
        own = found.setdefault(int(row["member"]), {})
        own |= {
            f"last/{name}": x
            for name, x in row.items()
            if name not in ("member", "step", "finite") and not name.startswith("validation/")
        }
    return found

"""Metrics as JSON lines, which every run writes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

METRICS, HISTOGRAMS = "metrics.jsonl", "histograms.jsonl"


class JsonLines:
    """Writes one line per logged step; a resumed run drops lines from after its checkpoint.

    Args:
      path: File to write.
      resume_step: Last step whose lines are kept.
    """

    def __init__(self, path: Path, resume_step: int):
        kept = [json.dumps(row) + "\n" for row in read_metrics(path) if row["step"] <= resume_step]
        partial = path.with_suffix(".partial")
        partial.write_text("".join(kept), encoding="utf-8")
        os.replace(partial, path)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 closed by close()

    def write(self, step: int, metrics: Mapping[str, float | list[float]]) -> None:
        # JSON cannot represent NaN and infinity; lists contain only finite values.
        finite = {
            name: value if isinstance(value, list) or math.isfinite(value) else None
            for name, value in metrics.items()
        }
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Reads a metrics file; a last line that was cut short by a kill is ignored."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return rows

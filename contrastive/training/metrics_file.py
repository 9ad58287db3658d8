"""Metrics as JSON lines, which every run writes."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator

from contrastive.errors import FolderError
from contrastive.files import replacing
from contrastive.json_files import read_json_lines

METRICS, HISTOGRAMS = "metrics.jsonl", "histograms.jsonl"
_MOST_NOTICES = 3


def _with_step(row: dict[str, Any]) -> dict[str, Any]:
    for name in ("step", "member"):
        if type(row.get(name, 0 if name == "member" else None)) is not int:
            raise ValueError(f'"{name}" must be an integer')
    return row


Row: TypeAlias = Annotated[dict[str, Any], AfterValidator(_with_step)]
"""A line of the file: the step, the number of the run in a sweep, and values by name."""


class JsonLines:
    """Writes one line per logged step; a resumed run drops lines from after its checkpoint.

    Args:
      path: File to write.
      resume_step: Last step whose lines are kept.
    """

    def __init__(self, path: Path, resume_step: int):
        damaged: list[FolderError] = []
        with replacing(path) as partial:
            with open(partial, "w", encoding="utf-8") as file:
                for row in _rows(path, damaged):
                    if row["step"] <= resume_step:
                        file.write(json.dumps(row) + "\n")
            if damaged:
                copy = path.with_suffix(".damaged.jsonl")
                shutil.copyfile(path, copy)
                print(f"contrastive: the damaged lines are kept in {copy}", file=sys.stderr)
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


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Reads a metrics file, without a last line that was cut short by a kill.

    Args:
      path: The file; it has no rows if it does not exist.

    Returns:
      The rows. Damaged lines are left out, with a notice.
    """
    return list(_rows(path, []))


def _rows(path: Path, damaged: list[FolderError]) -> Iterator[dict[str, Any]]:
    """Yields the rows of a file; damaged lines are reported and added to `damaged`."""
    for _, row in read_json_lines(path, Row):
        if isinstance(row, FolderError):
            damaged.append(row)
            if len(damaged) <= _MOST_NOTICES:
                print(f"contrastive: a line of the log is left out: {row}", file=sys.stderr)
        else:
            yield row

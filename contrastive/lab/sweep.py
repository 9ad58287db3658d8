"""Trains every run of a grid, those that differ in numbers alone as one program."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from contrastive.config import Experiment
from contrastive.errors import ConfigError
from contrastive.evaluation.retrieval import evaluate_bm25
from contrastive.lab import crew
from contrastive.lab.batched import Batched, member_mesh, traced_axes
from contrastive.lab.crew import Score
from contrastive.lab.grid import Grid, Member
from contrastive.lab.table import JSON, write_table
from contrastive.training.assemble import Parts, assemble
from contrastive.training.compilation import keep_compiled_programs
from contrastive.training.finish import command, hardware, versions
from contrastive.training.interrupt import Interrupt
from contrastive.training.mesh import make_mesh
from contrastive.training.workdir import check, claimed, write_json

_SHARE = 0.8  # of the memory that is free, for a step


def sweep(grid: Grid, workdir: Path, score: Score | None = None) -> dict[str, Any] | None:
    """Trains and evaluates every run of a grid; goes on where an earlier call stopped.

    Runs share batches, and each is, but for rounding, the run that `Grid.alone` trains by itself.
    Where there are validation data, each run's best parameters on them are scored, and it is by
    the column `validation/...` that a setting is to be chosen: the others are of the test data.

    Args:
      grid: The runs.
      workdir: The sweep's folder.
      score: Further numbers of each run's encoder, for its row of the table.

    Returns:
      The table as it is written, or None when it was asked to stop before its end.

    Raises:
      ConfigError: For several processes, or settings that do not go together.
      DataError: For data that cannot be used.
      FolderError: For a folder that belongs to something else.
    """
    if jax.process_count() > 1:
        raise ConfigError("a sweep is for one process; give each machine a sweep of its own")
    keep_compiled_programs()
    check(workdir, grid.base)
    begin = time.perf_counter()
    first = grid.alone(grid.members[0])
    parts = _assembled(first)
    traced = traced_axes(first, grid.axes)
    identity = {"axes": {n: list(v) for n, v in grid.axes.items()}, "seeds": grid.seeds}
    rows: list[crew.Row] = []
    source = crew.source_of(score)
    with claimed(workdir, grid.base, {**parts.inputs, **identity}), Interrupt() as interrupt:
        if (table := _finished(workdir)) and table["score"] == source:
            return table
        for number, members in enumerate(_programs(grid, traced)):
            base = grid.alone(members[0])
            own = parts if base == first else _assembled(base)
            folder = workdir / "programs" / str(number)
            for part, some in enumerate(_that_fit(own, base, members, traced, folder)):
                batched = Batched(own.program, base, some, tuple(traced), member_mesh())
                found = crew.train(own, batched, folder / str(part), score, lambda: interrupt.asked)
                if found is None:
                    return None
                rows += found
        table = {
            "name": grid.base.name,
            "command": command(),
            **identity,
            "score": source,
            "metric": grid.base.metric,
            "rows": sorted(rows, key=lambda row: row["member"]),
            "bm25": _bm25(parts),
            "session_seconds": round(time.perf_counter() - begin, 1),
            "hardware": hardware(),
            "versions": versions(),
        }
        write_table(workdir, table)
    return table


def _assembled(experiment: Experiment) -> Parts:
    """Data and encoder on one device: it is the runs that are divided among all."""
    return assemble(experiment, make_mesh(devices=jax.devices()[:1]))


def _programs(grid: Grid, traced: Sequence[str]) -> Iterator[list[Member]]:
    """Runs that one program can hold: those that agree in all fields that are not traced."""

    def fixed(member: Member):
        return [value for name, value in member.values.items() if name not in traced]

    for _, members in itertools.groupby(sorted(grid.members, key=fixed), key=fixed):
        yield list(members)


def _that_fit(
    parts: Parts, base: Experiment, members: list[Member], traced: Sequence[str], folder: Path
) -> Iterator[list[Member]]:
    """Equal parts of the runs, as large as memory allows; decided once for a folder."""
    decided, start = folder / "size.json", parts.feed.position
    if not decided.exists():
        batched = Batched(parts.program, base, members, tuple(traced), member_mesh())
        # Where there is validation, the best so far, and while that is chosen, the next best.
        copies = 2 if parts.validation else 0
        need = batched.memory(parts.feed.take(stop=False).batch, copies=copies)
        size = part_size(len(members), batched.mesh.size, need, _SHARE * free_memory())
        folder.mkdir(parents=True, exist_ok=True)
        write_json(decided, size)
    size = json.loads(decided.read_text(encoding="utf-8"))
    for first in range(0, len(members), size):
        parts.feed.seek(start)
        yield members[first : first + size]


def part_size(runs: int, devices: int, need: float, free: float) -> int:
    """How many runs to train at once: as few parts as fit, of like sizes, on full devices.

    >>> part_size(24, 8, need=3e9, free=2e9)  # 3 a device do not fit, 2 do
    16

    Args:
      runs: All there are.
      devices: They are divided among.
      need: Bytes on each device for all of them at once.
      free: Bytes on each device.
    """
    each = math.ceil(runs / devices)
    fit = max(1, int(each * free / need))
    return math.ceil(each / math.ceil(each / fit)) * devices


def free_memory() -> float:
    """Bytes that a device may still take; devices of a CPU share what it has."""
    statistics = jax.devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    known = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(known["MemAvailable"].split()[0]) * 1024 / jax.device_count()


def _bm25(parts: Parts) -> dict[str, float] | None:
    task = parts.test or parts.validation
    return None if task is None else evaluate_bm25(task)


def _finished(workdir: Path) -> dict[str, Any] | None:
    path = workdir / JSON
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

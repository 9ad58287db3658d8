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
from contrastive.training.mesh import make_mesh
from contrastive.training.workdir import check, claimed, write_json

_SHARE = 0.8  # of the memory that is free, for a step


def sweep(grid: Grid, workdir: Path, score: Score | None = None) -> dict[str, Any] | None:
    """Trains and evaluates every run of a grid; goes on where an earlier call stopped.

    Runs share batches, and each is, but for rounding, the run that `Grid.alone` trains by itself.

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
    start = parts.feed.position
    traced = traced_axes(parts.program, first, grid.axes, parts.feed.take(stop=False).batch)
    parts.feed.seek(start)
    identity = {"axes": {n: list(v) for n, v in grid.axes.items()}, "seeds": grid.seeds}
    rows: list[crew.Row] = []
    with claimed(workdir, grid.base, {**parts.inputs, **identity}):
        for number, members in enumerate(_programs(grid, traced)):
            base = grid.alone(members[0])
            own = parts if base == first else _assembled(base)
            folder = workdir / "programs" / str(number)
            found = _train(own, base, members, traced, folder, score)
            if found is None:
                return None
            rows += found
        table = {
            "name": grid.base.name,
            "command": command(),
            **identity,
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


def _train(
    parts: Parts,
    base: Experiment,
    members: list[Member],
    traced: Sequence[str],
    folder: Path,
    score: Score | None,
) -> list[crew.Row] | None:
    start = parts.feed.position
    rows = []
    for number, some in enumerate(_that_fit(parts, base, members, traced, folder)):
        parts.feed.seek(start)
        batched = Batched(parts.program, base, some, tuple(traced), member_mesh())
        found = crew.train(parts, batched, folder / str(number), score)
        if found is None:
            return None
        rows += found
    return rows


def _that_fit(
    parts: Parts, base: Experiment, members: list[Member], traced: Sequence[str], folder: Path
) -> Iterator[list[Member]]:
    """Equal parts of the runs, as large as memory allows; decided once for a folder."""
    decided = folder / "size.json"
    if not decided.exists():
        batched = Batched(parts.program, base, members, tuple(traced), member_mesh())
        need = batched.memory(parts.feed.take(stop=False).batch) / batched.mesh.size
        count = math.ceil(need / (_SHARE * free_memory()))
        folder.mkdir(parents=True, exist_ok=True)
        write_json(decided, math.ceil(len(members) / min(count, len(members))))
    size = json.loads(decided.read_text(encoding="utf-8"))
    yield from (members[i : i + size] for i in range(0, len(members), size))


def free_memory() -> float:
    """Bytes that a device may still take."""
    statistics = jax.devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    known = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(known["MemAvailable"].split()[0]) * 1024


def _bm25(parts: Parts) -> dict[str, float] | None:
    task = parts.test or parts.validation
    return None if task is None else evaluate_bm25(task)


def finished(workdir: Path) -> dict[str, Any] | None:
    """The table of a finished sweep, None where there is none."""
    path = workdir / JSON
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

"""Trains every run of a grid; runs that differ only in numbers share one program."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
import pydantic
from tqdm import tqdm

from contrastive.devices.compilation import keep_compiled_programs
from contrastive.devices.mesh import make_mesh
from contrastive.errors import ConfigError
from contrastive.files import write_json
from contrastive.json_files import read_json
from contrastive.sweeps.grid import Grid, Member
from contrastive.sweeps.table import write_table
from contrastive.sweeps.vmapped_runs import VmappedRuns, member_mesh, traced_axes
from contrastive.tasks._score_name import columns
from contrastive.tasks._suite import Evaluated
from contrastive.training.build import BuiltRun, build
from contrastive.training.checkpoints import Checkpoints
from contrastive.training.experiment import Experiment
from contrastive.training.interrupt import Interrupt
from contrastive.training.loop import Loop, Trained
from contrastive.training.metrics_file import METRICS, read_metrics
from contrastive.training.results import command, hardware, versions, write_examples
from contrastive.training.stored import ROWS, read_rows, read_table
from contrastive.training.workdir import check, claimed

Row: TypeAlias = dict[str, Any]
Table: TypeAlias = dict[str, Any]

_SHARE = 0.8  # share of the free memory that a step may use


def run_sweep(grid: Grid, workdir: Path) -> Table | None:
    """Trains and evaluates every run of a grid; resumes where an earlier call stopped.

    Runs share batches, and each equals the run that `Grid.alone` trains, up to rounding. If there
    are evaluators, the best parameters of each run by their score are evaluated. That validation
    score also selects the best setting; the scores of final evaluators are test scores, and select
    nothing.

    Args:
      grid: The runs.
      workdir: The folder of the sweep.

    Returns:
      The table as written to disk, or None if the sweep was interrupted.

    Raises:
      ConfigError: If there are several processes, or settings are incompatible.
      DataError: If the data cannot be used.
      FolderError: If the folder belongs to a different sweep or run.
    """
    if jax.process_count() > 1:
        raise ConfigError(
            f"a sweep runs in one process, but there are {jax.process_count()}; start a separate "
            "sweep on each machine"
        )
    keep_compiled_programs()
    check(workdir, grid.base)
    begin = time.perf_counter()
    first = grid.alone(grid.members[0])
    built = _built(first)
    traced = traced_axes(first, grid.axes)
    identity = {"axes": {n: list(v) for n, v in grid.axes.items()}, "seeds": grid.seeds}
    rows: list[Row] = []
    with claimed(workdir, grid.base, {**built.inputs, **identity}):
        if table := read_table(workdir, grid.base):
            return table
        for number, members in enumerate(_programs(grid, traced)):
            base = grid.alone(members[0])
            shared = built if base == first else _built(base)
            folder = workdir / "programs" / str(number)
            for part, fitting in enumerate(_that_fit(shared, base, members, traced, folder)):
                runs = VmappedRuns(shared.functions, base, fitting, traced, member_mesh())
                trained = _rows(shared, runs, folder / str(part))
                if trained is None:
                    return None
                rows += trained
        final = built.final_evaluators or built.evaluators
        table = {
            "name": grid.base.name,
            "command": command(),
            **identity,
            "select_best": grid.base.select_by,
            "split": grid.base.final_split,
            "rows": sorted(rows, key=lambda row: row["member"]),
            "baselines": final.baselines(),
            "evaluators": final.describe(),
            "session_seconds": round(time.perf_counter() - begin, 1),
            "hardware": hardware(),
            "versions": versions(),
        }
        write_table(workdir, table)
    return table


def _built(experiment: Experiment) -> BuiltRun:
    """Builds data and encoder on one device, because runs are distributed over devices later."""
    return build(experiment, make_mesh(devices=jax.devices()[:1]))


def _rows(built: BuiltRun, runs: VmappedRuns, folder: Path) -> list[Row] | None:
    """Trains and evaluates runs, and returns one row per run, or None if interrupted."""
    finished = folder / ROWS
    if finished.exists():
        return read_rows(finished, runs.experiment)
    folder.mkdir(parents=True, exist_ok=True)
    with Checkpoints(folder / "checkpoints", keep=1) as checkpoints:
        loop = Loop(runs, built.feed, built.evaluators, built.encoder, checkpoints, folder)
        trained = loop.run()
        if not trained.finished:
            return None
        with Interrupt() as interrupt:
            rows = _evaluated(built, runs, trained, checkpoints, folder, interrupt)
    if rows is not None:
        write_json(finished, {"split": runs.experiment.final_split, "rows": rows})
    return rows


def _evaluated(
    built: BuiltRun,
    runs: VmappedRuns,
    trained: Trained,
    checkpoints: Checkpoints,
    folder: Path,
    interrupt: Interrupt,
) -> list[Row] | None:
    suite = built.final_evaluators or built.evaluators
    progress, alive = trained.progress, set(runs.alive(trained.state))
    best = runs.best(checkpoints, progress) if progress.saved_step else None
    last = last_metrics(folder, without=tuple(runs.experiment.evaluators))
    ended = runs.ended(trained.state)
    rows = []
    evaluated: dict[int, Evaluated] = {}
    for place, member in enumerate(tqdm(runs.members, desc="evaluating", unit=" runs", delay=2)):
        if interrupt.asked:
            return None
        row: Row = {
            "member": member.number,
            **member.values,
            "init_seed": member.init_seed,
            "diverged_at": ended[place][0] if place in ended else None,
            "best_step": progress.best_step[place] or None,
            **last.get(member.number, {}),
        }
        if place in alive:
            params = runs.encoder_params(trained.state, place)
            if best is not None and progress.best_step[place]:
                params = jax.device_put(jax.tree.map(lambda x: x[place], best), jax.devices()[0])  # noqa: B023
                assert runs.experiment.select_by is not None
                row[runs.experiment.select_by] = _number(progress.best[place])
            evaluated[member.number] = one = suite.evaluate(built.encoder.with_params(params))
            named = columns(runs.experiment.final_split, one.scores)
            row |= {name: _number(value) for name, value in named.items()}
        rows.append(row)
    write_examples(folder, runs.experiment.final_split, evaluated)
    return rows


def last_metrics(folder: Path, without: Sequence[str] = ()) -> dict[int, dict[str, float]]:
    """Returns the last logged metrics of each run, such as `last/loss`, without evaluators'."""
    last: dict[int, dict[str, float]] = {}
    for row in read_metrics(folder / METRICS):
        of_member = last.setdefault(int(row["member"]), {})
        of_member |= {
            f"last/{name}": value
            for name, value in row.items()
            if name not in ("member", "step", "finite") and name.split("/")[0] not in without
        }
    return last


def _number(value: float | None) -> float | None:
    """Returns a finite value unchanged, else None, as JSON requires."""
    return value if value is not None and math.isfinite(value) else None


def _programs(grid: Grid, traced: Sequence[str]) -> Iterator[list[Member]]:
    """Yields the runs of each program, which agree in all fields that are not traced."""

    def fixed(member: Member):
        return [value for name, value in member.values.items() if name not in traced]

    for _, members in itertools.groupby(sorted(grid.members, key=fixed), key=fixed):
        yield list(members)


def _that_fit(
    built: BuiltRun, base: Experiment, members: list[Member], traced: Sequence[str], folder: Path
) -> Iterator[list[Member]]:
    """Yields equal parts of the runs that fit in memory; the size is stored in the folder."""
    decided, start = folder / "size.json", built.feed.position
    if not decided.exists():
        mesh = member_mesh()
        runs = VmappedRuns(built.functions, base, members, traced, mesh)
        # With validation: the best parameters so far, and a second copy while they are updated.
        copies = 2 if built.evaluators else 0
        need = runs.memory(built.feed.take(stop=False).batch, copies=copies)
        size = part_size(len(members), mesh.size, need, _SHARE * free_memory())
        folder.mkdir(parents=True, exist_ok=True)
        write_json(decided, size)
    remedy = f"remove {folder} to train its runs again"
    size = read_json(decided, pydantic.PositiveInt, remedy=remedy)
    for first in range(0, len(members), size):
        built.feed.seek(start)
        yield members[first : first + size]


def part_size(runs: int, devices: int, need: float, free: float) -> int:
    """Returns how many runs to train at once, in as few and as equal parts as fit in memory.

    >>> part_size(24, 8, need=3e9, free=2e9)  # 3 runs per device do not fit, but 2 do
    16

    Args:
      runs: Total number of runs.
      devices: Number of devices that the runs are distributed over.
      need: Bytes per device to train all runs at once.
      free: Free bytes per device.
    """
    each = math.ceil(runs / devices)
    fit = max(1, int(each * free / need))
    return math.ceil(each / math.ceil(each / fit)) * devices


def free_memory() -> float:
    """Returns the free bytes per device; CPU devices share the free memory of the host."""
    statistics = jax.devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    known = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(known["MemAvailable"].split()[0]) * 1024 / jax.device_count()

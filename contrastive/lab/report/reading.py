"""Folders of runs and sweeps as plain data."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from contrastive.config import Experiment
from contrastive.errors import FolderError
from contrastive.lab.grid import Grid
from contrastive.lab.report.setting import Run, Setting
from contrastive.lab.table import JSON
from contrastive.training.log import HISTOGRAMS
from contrastive.training.workdir import load_config
from contrastive.training.writers import read_metrics

Row: TypeAlias = dict[str, Any]

_OF_THE_RUN = ("member", "init_seed", "diverged_at", "best_step")  # columns that are no scores


@dataclasses.dataclass(frozen=True)
class Folder:
    """What the folder of a run or of a sweep holds.

    Attributes:
      path: The folder.
      label: The end of its path that tells it from the others.
      config: Of the run, or what the runs of the sweep share.
      axes: Values of each swept field; None for a run.
      settings: Of the sweep; the run alone is one.
      bm25: Scores by name, where there are any.
      written: When its newest results were.
      ending: Command, hardware, versions and the like, which are written at the end.
    """

    path: Path
    label: str
    config: Experiment
    axes: Mapping[str, Sequence[float]] | None
    settings: Sequence[Setting]
    bm25: Mapping[str, float]
    written: datetime.datetime
    ending: Mapping[str, Any]


def read(paths: Sequence[Path]) -> list[Folder]:
    """Reads folders of runs and of sweeps.

    Args:
      paths: The folders; one that is given twice is read once.

    Returns:
      What they hold, in their order.

    Raises:
      FolderError: If one is neither, or a file in it cannot be read.
    """
    once = {path.resolve(): path for path in paths}
    return [_read(once[path], label) for path, label in zip(once, _tails(list(once)), strict=True)]


def _read(path: Path, label: str) -> Folder:
    try:
        config = load_config(path)
    except FolderError as error:
        raise FolderError(
            f"{path} is neither the folder of a run nor of a sweep that this version reads; "
            f"expected a --workdir of `contrastive train` or `contrastive sweep` ({error})"
        ) from None
    table = _json(path / JSON)
    axes = table.get("axes", _json(path / "inputs.json").get("axes"))
    if axes is None:
        ending = _json(path / "results.json")
        settings = [Setting(label, {}, config, [_run(path, ending)])]
    else:
        ending = table
        settings = _settings(path, label, config, axes, table)
    return Folder(
        path=path,
        label=label,
        config=config,
        axes=axes,
        settings=settings,
        bm25=_numbers(ending.get("bm25") or {}),
        written=_written(path),
        ending=ending,
    )


def _run(path: Path, results: Row) -> Run:
    metrics = read_metrics(path / "metrics.jsonl")
    return Run(
        scores=_numbers(results.get("scores", {})),
        metrics=metrics,
        histograms=read_metrics(path / HISTOGRAMS),
        diverged_at=_diverged(metrics),
        finished=bool(results),
    )


def _settings(
    path: Path, label: str, config: Experiment, axes: Mapping[str, Any], table: Row
) -> list[Setting]:
    """The settings of a sweep in rising order, each with its seeds."""
    programs = path / "programs"
    metrics, histograms = (
        _by_member(row for file in programs.glob(f"*/*/{name}") for row in read_metrics(file))
        for name in ("metrics.jsonl", HISTOGRAMS)
    )
    found: dict[tuple[float, ...], list[Run]] = {}
    for row in table.get("rows") or _rows_so_far(path, config, axes):
        of_run = metrics.get(row["member"], [])
        run = Run(
            scores=_scores(row, axes),
            metrics=of_run,
            histograms=histograms.get(row["member"], []),
            diverged_at=row.get("diverged_at") or _diverged(of_run),
            finished="diverged_at" in row,
        )
        found.setdefault(tuple(row[name] for name in axes), []).append(run)
    settings = []
    for key in sorted(found):
        values = dict(zip(axes, key, strict=True))
        words = ", ".join(f"{short(name)} {shown(value)}" for name, value in values.items())
        settings.append(Setting(words or label, values, config.replace(**values), found[key]))
    return settings


def _rows_so_far(path: Path, config: Experiment, axes: Mapping[str, Any]) -> list[Row]:
    """Of a sweep that is not finished: all its runs, those that are with their scores."""
    seeds = _json(path / "inputs.json").get("seeds", 1)
    grid = Grid(config, {name: tuple(values) for name, values in axes.items()}, seeds)
    finished = [row for file in path.glob("programs/*/*/rows.json") for row in _json(file)["rows"]]
    by_member = {row["member"]: row for row in finished}
    return [
        {"member": member.number, **member.values, **by_member.get(member.number, {})}
        for member in grid.members
    ]


def _by_member(rows) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(int(row["member"]), []).append(row)
    return found


def _scores(row: Row, axes: Mapping[str, Any]) -> dict[str, float]:
    others = (*_OF_THE_RUN, *axes)
    return _numbers({n: x for n, x in row.items() if n not in others and not n.startswith("last/")})


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Those that are finite numbers."""
    return {name: float(x) for name, x in values.items() if is_number(x) and math.isfinite(x)}


def is_number(value: Any) -> bool:
    """Whether it is one; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _diverged(metrics: Sequence[Row]) -> int | None:
    """The first step whose loss, gradient or update was not finite."""
    bad = (row for row in metrics if row.get("loss", 0) is None or row.get("finite") == 0)
    return next((row["step"] for row in bad), None)


def _json(path: Path) -> Any:
    """What a file holds, nothing where there is none."""
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FolderError(f"{path} is not JSON: {error}") from None


def _written(path: Path) -> datetime.datetime:
    names = (JSON, "results.json", "metrics.jsonl", "programs/*/*/metrics.jsonl", "config.json")
    files = next(found for name in names if (found := list(path.glob(name))))
    seconds = max(file.stat().st_mtime for file in files)
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _tails(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of paths that tell them apart."""
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        tails = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(tails)) == len(tails):
            return tails
    return [str(path) for path in paths]


def short(field: str) -> str:
    """`temperature` for `loss.temperature`."""
    return field.rpartition(".")[2]


def shown(value: Any) -> str:
    """A field's value in words."""
    return f"{value:g}" if is_number(value) else str(value)

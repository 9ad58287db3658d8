"""Reads the folders of runs and sweeps as plain data."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from contrastive.errors import FolderError
from contrastive.folders.setting import Run, Setting
from contrastive.sweeps.grid import Grid
from contrastive.sweeps.table import JSON, member_rows
from contrastive.training.experiment import Experiment
from contrastive.training.metrics_file import HISTOGRAMS, METRICS, read_metrics
from contrastive.training.workdir import load_config

Row: TypeAlias = dict[str, Any]
Baselines: TypeAlias = dict[str, dict[str, float]]

_NOT_SCORES = ("member", "init_seed", "diverged_at", "best_step")  # columns of a table's rows


@dataclasses.dataclass(frozen=True)
class Folder:
    """Contents of the folder of a run or a sweep.

    Attributes:
      path: The folder.
      label: The end of its path that distinguishes it from the other folders.
      config: Config of the run, or the config that the runs of the sweep share.
      axes: Values of each swept field; None for a run.
      settings: Settings of the sweep; a run has exactly one.
      metric: The score that selects the best checkpoint, as EVALUATOR/METRIC.
      baselines: Scores of other systems, such as BM25, by system and name.
      written: Time at which the newest results were written.
      ending: What is written when training ends: command, hardware, versions and results.
    """

    path: Path
    label: str
    config: Experiment
    axes: Mapping[str, Sequence[float]] | None
    settings: Sequence[Setting]
    metric: str
    baselines: Baselines
    written: datetime.datetime
    ending: Mapping[str, Any]


def read(paths: Sequence[Path]) -> list[Folder]:
    """Reads folders of runs and sweeps.

    Args:
      paths: The folders; duplicates are read once.

    Returns:
      Their contents, in the same order.

    Raises:
      FolderError: If a folder is not that of a run or a sweep, or a file in it cannot be read.
    """
    distinct = {path.resolve(): path for path in paths}
    labels = _tails(list(distinct))
    return [_read(path, label) for path, label in zip(distinct.values(), labels, strict=True)]


def _read(path: Path, label: str) -> Folder:
    try:
        config = load_config(path)
    except FolderError as error:
        raise FolderError(
            f"{path} is neither the folder of a run nor of a sweep that this version can read; "
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
        metric=_metric(config, ending),
        baselines=_baselines(ending),
        written=_written(path),
        ending=ending,
    )


def _run(path: Path, results: Row) -> Run:
    metrics = read_metrics(path / METRICS)
    return Run(
        scores=_numbers({**results.get("select_best", {}), **_flat(results.get("scores", {}))}),
        metrics=metrics,
        histograms=read_metrics(path / HISTOGRAMS),
        diverged_at=_diverged(metrics),
        finished=bool(results),
    )


def _settings(
    path: Path, label: str, config: Experiment, axes: Mapping[str, Any], table: Row
) -> list[Setting]:
    """Returns the settings of a sweep in ascending order, each with its seeds."""
    metrics = _by_member(member_rows(path, METRICS))
    histograms = _by_member(member_rows(path, HISTOGRAMS))
    runs: dict[tuple[float, ...], list[Run]] = {}
    for row in table.get("rows") or _rows_so_far(path, config, axes):
        run_metrics = metrics.get(row["member"], [])
        run = Run(
            scores=_scores(row, axes),
            metrics=run_metrics,
            histograms=histograms.get(row["member"], []),
            diverged_at=row.get("diverged_at") or _diverged(run_metrics),
            finished="diverged_at" in row,
        )
        runs.setdefault(tuple(row[name] for name in axes), []).append(run)
    settings = []
    for key in sorted(runs):
        values = dict(zip(axes, key, strict=True))
        words = ", ".join(f"{short(name)} {shown(value)}" for name, value in values.items())
        settings.append(Setting(words or label, values, config.replace(**values), runs[key]))
    return settings


def _rows_so_far(path: Path, config: Experiment, axes: Mapping[str, Any]) -> list[Row]:
    """Returns all runs of an unfinished sweep, with scores if a run is finished."""
    seeds = _json(path / "inputs.json").get("seeds", 1)
    grid = Grid(config, {name: tuple(values) for name, values in axes.items()}, seeds)
    finished = [row for file in path.glob("programs/*/*/rows.json") for row in _json(file)["rows"]]
    by_member = {row["member"]: row for row in finished}
    return [
        {"member": member.number, **member.values, **by_member.get(member.number, {})}
        for member in grid.members
    ]


def _by_member(rows) -> dict[int, list[Row]]:
    by_member: dict[int, list[Row]] = {}
    for row in rows:
        by_member.setdefault(int(row["member"]), []).append(row)
    return by_member


def _scores(row: Row, axes: Mapping[str, Any]) -> dict[str, float]:
    others = (*_NOT_SCORES, *axes)
    return _numbers({n: x for n, x in row.items() if n not in others and not n.startswith("last/")})


def _metric(config: Experiment, ending: Mapping[str, Any]) -> str:
    stored = ending.get("select_best")
    if stored:
        return stored if isinstance(stored, str) else next(iter(stored))
    if older := ending.get("metric"):  # written by versions without evaluators
        names = {name for row in ending.get("rows", ()) for name in row}
        return next((n for n in (f"validation/{older}", older) if n in names), older)
    return "/".join(config.selection) if config.selection else ""


def _baselines(ending: Mapping[str, Any]) -> Baselines:
    """Returns scores by system, under the same names as the scores of the runs."""
    systems: Baselines = {}
    for evaluator, measured in (ending.get("baselines") or {}).items():
        for system, scores in measured.items():
            named = {f"{evaluator}/{name}": x for name, x in scores.items()}
            systems.setdefault(system, {}).update(_numbers(named))
    if ending.get("bm25"):  # written by versions without evaluators
        systems["BM25"] = _numbers(ending["bm25"])
    return systems


def _flat(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Names scores `EVALUATOR/METRIC`; versions without evaluators wrote the metric only."""
    flat: dict[str, Any] = {}
    for name, value in scores.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{metric}": x for metric, x in value.items()}
        else:
            flat[name] = value
    return flat


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Keeps the values that are finite numbers."""
    return {name: float(x) for name, x in values.items() if is_number(x) and math.isfinite(x)}


def is_number(value: Any) -> bool:
    """Returns whether a value is a number; booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _diverged(metrics: Sequence[Row]) -> int | None:
    """Returns the first step whose loss, gradient or update was not finite."""
    bad = (row for row in metrics if row.get("loss", 0) is None or row.get("finite") == 0)
    return next((row["step"] for row in bad), None)


def _json(path: Path) -> Any:
    """Reads a JSON file; a missing file is an empty object."""
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FolderError(f"{path} is not JSON: {error}") from None


def _written(path: Path) -> datetime.datetime:
    names = (JSON, "results.json", "metrics.jsonl", "programs/*/*/metrics.jsonl", "config.json")
    files = next(matches for name in names if (matches := list(path.glob(name))))
    seconds = max(file.stat().st_mtime for file in files)
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _tails(paths: Sequence[Path]) -> list[str]:
    """Returns the shortest path suffixes that are all different."""
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        tails = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(tails)) == len(tails):
            return tails
    return [str(path) for path in paths]


def short(field: str) -> str:
    """Returns the last part of a field's name, such as `temperature` of `loss.temperature`."""
    return field.rpartition(".")[2]


def shown(value: Any) -> str:
    """Formats the value of a field."""
    return f"{value:g}" if is_number(value) else str(value)

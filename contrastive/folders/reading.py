"""Reads the folders of runs and sweeps as plain data."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from contrastive.errors import FolderError
from contrastive.folders.logs import Row, read_histograms, read_log
from contrastive.folders.setting import Run, Setting
from contrastive.tasks._score_name import VALIDATION, ScoreName, columns
from contrastive.training.experiment import Experiment
from contrastive.training.metrics_file import HISTOGRAMS, METRICS
from contrastive.training.stored import (
    RESULTS,
    ROWS,
    TABLE,
    read_examples,
    read_inputs,
    read_results,
    read_rows,
    read_table,
    scores_of,
)
from contrastive.training.workdir import load_config

Baselines: TypeAlias = dict[str, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Folder:
    """Contents of the folder of a run or a sweep.

    Attributes:
      path: The folder.
      label: The end of its path that distinguishes it from the other folders.
      config: Config of the run, or the config that the runs of the sweep share.
      axes: Values of each swept field; None for a run.
      settings: Settings of the sweep; a run has exactly one.
      metric: The validation score that selects checkpoints and settings, as `ScoreName` writes
        it; empty if there is none.
      split: Split of the final scores: `test`, or `validation` without final evaluators.
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
    split: str
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
    table, inputs = read_table(path, config), read_inputs(path)
    axes = table.get("axes", inputs.get("axes"))
    if axes is None:
        ending = read_results(path, config)
        settings = [Setting(label, {}, config, [_run(path, ending, config)])]
    else:
        ending = table
        rows = table.get("rows") or _rows_so_far(path, config, inputs)
        settings = _settings(path, label, config, axes, rows)
    return Folder(
        path=path,
        label=label,
        config=config,
        axes=axes,
        settings=settings,
        metric=config.select_by or "",
        split=config.final_split,
        baselines=_baselines(ending),
        written=_written(path),
        ending=ending,
    )


def _run(path: Path, results: Row, config: Experiment) -> Run:
    metrics, diverged = read_log([path / METRICS], 1)
    final = columns(config.final_split, results.get("scores", {}))
    return Run(
        seed=config.first_seed,
        scores=scores_of({**results.get("select_best", {}), **final}),
        metrics=_renamed(metrics.get(0, []), config),
        histograms=read_histograms([path / HISTOGRAMS], 1).get(0, []),
        diverged_at=diverged.get(0),
        finished=bool(results),
        examples=read_examples([path]).get(0, {}),
    )


def _settings(
    path: Path, label: str, config: Experiment, axes: Mapping[str, Any], rows: Sequence[Row]
) -> list[Setting]:
    """Returns the settings of a sweep in ascending order, each with its seeds."""
    programs = sorted(path.glob("programs/*/*"))
    metrics, diverged = read_log([program / METRICS for program in programs], len(rows))
    histograms = read_histograms([program / HISTOGRAMS for program in programs], len(rows))
    examples = read_examples(programs)
    runs: dict[tuple[float, ...], list[Run]] = {}
    for row in rows:
        member = row["member"]
        run = Run(
            seed=row.get("init_seed", member),
            scores=scores_of(row),
            metrics=_renamed(metrics.get(member, []), config),
            histograms=histograms.get(member, []),
            diverged_at=row.get("diverged_at") or diverged.get(member),
            finished="diverged_at" in row,
            examples=examples.get(member, {}),
        )
        runs.setdefault(tuple(row[name] for name in axes), []).append(run)
    settings = []
    for key in sorted(runs):
        values = dict(zip(axes, key, strict=True))
        words = ", ".join(f"{short(name)} {shown(value)}" for name, value in values.items())
        try:
            setting = config.replace(**values)
        except ValueError as error:
            raise FolderError(f"{path}: {words} is not a setting of its config: {error}") from None
        settings.append(Setting(words or label, values, setting, runs[key]))
    return settings


def _renamed(rows: list[Row], config: Experiment) -> list[Row]:
    """Names the scores of evaluations while training, which the log names TASK/METRIC."""

    def name(text: str) -> str:
        task, slash, metric = text.partition("/")
        return str(ScoreName(VALIDATION, task, metric)) if slash and task in tasks else text

    tasks = config.evaluators
    return [{name(text): x for text, x in row.items()} for row in rows] if tasks else rows


def _rows_so_far(path: Path, config: Experiment, inputs: Row) -> list[Row]:
    """Returns all runs of an unfinished sweep, with scores if a run is finished."""
    axes = inputs["axes"]
    finished = [
        row for file in path.glob(f"programs/*/*/{ROWS}") for row in read_rows(file, config)
    ]
    by_member = {row["member"]: row for row in finished}
    seeds = range(config.first_seed, config.first_seed + inputs.get("seeds", 1))
    return [
        {"member": member, **dict(zip(axes, values, strict=True)), "init_seed": seed}
        | by_member.get(member, {})
        for member, (*values, seed) in enumerate(itertools.product(*axes.values(), seeds))
    ]


def _baselines(ending: Mapping[str, Any]) -> Baselines:
    """Returns scores by system, under the same names as the scores of the runs."""
    systems: Baselines = {}
    for task, measured in (ending.get("baselines") or {}).items():
        for system, scores in measured.items():
            named = columns(ending["split"], {task: scores})
            systems.setdefault(system, {}).update(scores_of(named))
    return systems


def is_number(value: Any) -> bool:
    """Returns whether a value is a number; booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _written(path: Path) -> datetime.datetime:
    names = (TABLE, RESULTS, METRICS, f"programs/*/*/{METRICS}", "config.json")
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

"""Reads what runs and sweeps wrote: results, tables, rows, examples and inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import pydantic
from pydantic import Field

from contrastive.errors import FolderError
from contrastive.json_files import read_json
from contrastive.tasks._score_name import is_score, task_title
from contrastive.training.experiment import Experiment
from contrastive.training.old_configs import current_results, current_row, current_table

RESULTS, EXAMPLES, TABLE, ROWS, INPUTS = (
    *("results.json", "examples.json", "sweep.json", "rows.json", "inputs.json"),
)
MOST_RUNS = 10_000
"""The largest number of runs that is read from the folder of a sweep."""

_Integer: TypeAlias = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_Number: TypeAlias = _Integer | Annotated[float, Field(allow_inf_nan=False)]
_REMEDY = "restore it from a copy, or train in another folder"
_AGAIN = "restore it from a copy, or remove it and give the command that wrote it again"
_REMEDIES = {
    RESULTS: _AGAIN,
    TABLE: _AGAIN,
    EXAMPLES: "restore it from a copy, or remove it; only the examples of the report need it",
}
Row: TypeAlias = dict[str, Any]

_Metrics: TypeAlias = dict[str, _Number | None]
_Split: TypeAlias = Literal["validation", "test"]
_Systems: TypeAlias = dict[str, dict[str, _Metrics]]


class _Stored(pydantic.BaseModel):
    """Contents of a file, of which only the types of known fields are checked."""

    model_config = pydantic.ConfigDict(extra="allow", strict=True)

    def plain(self) -> Row:
        """Returns the fields that the file has."""
        return self.model_dump(exclude_unset=True)


_Kind = TypeVar("_Kind", bound=_Stored)


class _Ending(_Stored):
    """What runs and sweeps write at their end."""

    name: str = ""
    command: str = ""
    split: _Split | None = None
    baselines: _Systems = {}
    evaluators: dict[str, dict[str, Any]] = {}
    hardware: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    bm25: _Metrics | None = None


class _Results(_Ending):
    """The contents of results.json; those of older versions too."""

    scores: dict[str, _Metrics] | _Metrics = {}
    select_best: _Metrics = {}
    validation: _Metrics = {}


class _Rows(_Stored):
    """The contents of rows.json."""

    split: _Split | None = None
    rows: list[_Metrics]


class _Inputs(_Stored):
    """The contents of inputs.json; a run has fingerprints alone."""

    axes: dict[str, Annotated[list[_Number], Field(min_length=1)]] = {}
    seeds: Annotated[int, Field(ge=1, le=MOST_RUNS)] = 1


class _Table(_Ending, _Inputs):
    """The contents of sweep.json."""

    rows: list[_Metrics]
    select_best: str | None = None
    metric: str = ""


class RetrievedDocument(_Stored):
    """A document that a query retrieved."""

    text: str
    relevant: bool


class RankedQuery(_Stored):
    """A query and its first documents; see `tasks.retrieval.examples`."""

    query: str
    rank: int | None
    documents: list[RetrievedDocument]


class _Examples(_Stored):
    """The contents of examples.json: queries by task, for each run by its number."""

    split: _Split
    runs: dict[str, dict[str, list[RankedQuery]]]


def read_results(workdir: Path, config: Experiment) -> Row:
    """Reads the results of a run, in the format of this version.

    Args:
      workdir: Folder of the run.
      config: Config of the run.

    Returns:
      The results; empty if the run is not finished.

    Raises:
      FolderError: If the file is damaged.
    """
    path = workdir / RESULTS
    return current_results(_read(path, _Results).plain(), config) if path.exists() else {}


def read_table(workdir: Path, config: Experiment) -> Row:
    """Reads the table of a sweep, in the format of this version.

    Args:
      workdir: Folder of the sweep.
      config: The config that the runs share.

    Returns:
      The table; empty if the sweep is not finished.

    Raises:
      FolderError: If the file is damaged.
    """
    path = workdir / TABLE
    if not path.exists():
        return {}
    table = current_table(_read(path, _Table).plain(), config)
    if "axes" not in table:
        raise FolderError(f'{path}: the field "axes" is missing; {_REMEDY}')
    for number, row in enumerate(table["rows"]):
        _check_row(path, number, row, table["axes"])
    unstated = {"name": config.name, "seeds": 1, "baselines": {}, "evaluators": {}}
    table = {**unstated, "session_seconds": 0.0, "select_best": None, **table}
    if table["select_best"] is not None and not is_score(table["select_best"]):
        selected = f"{table['select_best']!r:.60}"
        raise FolderError(f"{path}: select_best is {selected}, not the name of a score; {_REMEDY}")
    return table


def read_rows(path: Path, config: Experiment) -> list[Row]:
    """Reads the rows of the finished runs of a program of a sweep.

    Args:
      path: The file that the program wrote at its end.
      config: The config that the runs share.

    Returns:
      One row per run, in the format of this version.

    Raises:
      FolderError: If the file is damaged.
    """
    stored = _read(path, _Rows).plain()
    for number, row in enumerate(stored["rows"]):
        _check_row(path, number, row, ())
    return stored["rows"] if "split" in stored else [current_row(x, config) for x in stored["rows"]]


def read_inputs(workdir: Path) -> Row:
    """Reads the inputs of a run or a sweep: `axes` and `seeds` of a sweep, and fingerprints.

    Args:
      workdir: The folder.

    Returns:
      The inputs; empty if nothing was started.

    Raises:
      FolderError: If the file is damaged, or a sweep has more runs than can be read.
    """
    path = workdir / INPUTS
    if not path.exists():
        return {}
    inputs = _read(path, _Inputs).plain()
    runs = inputs.get("seeds", 1) * math.prod(map(len, inputs.get("axes", {}).values()))
    if runs > MOST_RUNS:
        raise FolderError(
            f"{path}: axes and seeds give {runs:,} runs, and at most {MOST_RUNS:,} are read; "
            f"{_REMEDY}"
        )
    return inputs


def read_examples(folders: Sequence[Path]) -> dict[int, dict[str, list[RankedQuery]]]:
    """Reads what a few queries retrieved.

    Args:
      folders: The folder of a run, or those of the programs of a sweep.

    Returns:
      For each run by its number, the queries by split and task, such as `test/scifact`.

    Raises:
      FolderError: If a file is damaged.
    """
    by_run: dict[int, dict[str, list[RankedQuery]]] = {}
    for path in (folder / EXAMPLES for folder in folders):
        if not path.exists():
            continue
        stored = _read(path, _Examples)
        for run, tasks in stored.runs.items():
            if not run.isdecimal():
                raise FolderError(f"{path}: runs.{run} is not the number of a run")
            by_run[int(run)] = {task_title(stored.split, task): x for task, x in tasks.items()}
    return by_run


def _check_row(path: Path, number: int, row: Mapping[str, Any], axes: Any) -> None:
    member = row.get("member")
    if not isinstance(member, int) or not 0 <= member < MOST_RUNS:
        raise FolderError(f"{path}: rows[{number}].member is {member!r}, not the number of a run")
    for name in axes:
        if row.get(name) is None:
            raise FolderError(f"{path}: rows[{number}] has no value of the swept field {name}")


def scores_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Returns the scores among the columns of a row that are finite numbers."""
    return {
        name: float(x)
        for name, x in row.items()
        if is_score(name) and x is not None and math.isfinite(x)
    }


def _read(path: Path, kind: type[_Kind]) -> _Kind:
    return read_json(path, kind, remedy=_REMEDIES.get(path.name, _REMEDY))

"""Reproductions of papers as code: published numbers, claims, and the runs that test them."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import pkgutil
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import pydantic

from contrastive.errors import ConfigError, DataError
from contrastive.files import write_json
from contrastive.json_files import read_json
from contrastive.lazy import optional
from contrastive.models._model import Model
from contrastive.models._static import Static
from contrastive.papers.claims import Verdict
from contrastive.python_files import execute
from contrastive.sweeps.grid import Grid
from contrastive.sweeps.sweep import Row, run_sweep
from contrastive.tasks._score_name import ScoreName, is_score
from contrastive.training.results import command, hardware, versions

__all__ = ["Claim", "Findings", "Grid", "Paper", "Setting", "Where", "swept"]

Findings: TypeAlias = dict[str, Any]
PACKAGE = "contrastive.experiments.papers"
_RESULTS, _INTERRUPTED = "results.json", "interrupted.json"
_PAPER_MODULE = re.compile(r"t\d+_")  # such as t1_simcse


@dataclasses.dataclass(frozen=True)
class Setting:
    """Scale of a reproduction.

    Attributes:
      steps: Number of optimizer steps per run.
      batch_size: Number of queries per step.
      batch_sizes: Batch sizes, for a paper that varies them.
      seeds: Number of runs per setting.
      learning_rate: Peak learning rate.
      model: The encoder to train.
      values: Values of the field that the paper varies, usually the temperature.
    """

    steps: int = 0
    batch_size: int = 256
    batch_sizes: tuple[int, ...] = ()
    seeds: int = 3
    learning_rate: float = 2e-3
    model: Model = dataclasses.field(default_factory=lambda: Static(width=256))
    values: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Where:
    """Folders that a reproduction reads and writes.

    Attributes:
      data: Data folder, as described in `experiments/papers/README.md`, which is also installed.
      workdir: Folder of the runs; runs that it already contains are reused.
    """

    data: Path
    workdir: Path

    def __post_init__(self):
        for name in ("data", "workdir"):
            object.__setattr__(self, name, Path(getattr(self, name)))


@dataclasses.dataclass(frozen=True)
class Claim:
    """A falsifiable claim of a paper.

    Attributes:
      text: The claim, as one sentence that is understood without the others.
      check: Tests the claim on the findings. If it raises an exception, the claim is undecided.
      theirs: The numbers that the paper reports for it.
    """

    text: str
    check: Callable[[Findings], Verdict]
    theirs: str = ""


@dataclasses.dataclass(frozen=True)
class Paper:
    """The reproduction of a paper.

    Attributes:
      name: Short name, T1 to T8.
      title: Topic of the paper.
      source: Authors, year and arXiv id.
      published: Numbers that the paper reports.
      claims: The claims to test.
      differs: How the small setting differs from the paper's setting.
      small: A setting that takes minutes on two CPU cores.
      full: A setting of the paper's scale, for a TPU pod.
      run: Trains the models and returns the findings.
      draw: Draws the paper's results next to ours on an empty Matplotlib figure.
      needs_data: Whether the reproduction reads the data folder.
    """

    name: str
    title: str
    source: str
    published: Mapping[str, Any]
    claims: tuple[Claim, ...]
    differs: str
    small: Setting
    full: Setting
    run: Callable[[Setting, Where], Findings]
    draw: Callable[[Any, Findings, Mapping[str, Any]], None]
    needs_data: bool = True


def reproduce(paper: Paper, setting: str, where: Where) -> Findings:
    """Reproduces a paper: runs its experiment, tests its claims and draws its figure.

    Args:
      paper: The paper.
      setting: `small` or `full`.
      where: Folders to read from and write to.

    Returns:
      The results, as they are written to `results.json`.
    """
    with _kept_if_used(where.workdir):
        findings, seconds = _timed_run(paper, setting, where)
    results = {
        "paper": paper.name,
        "title": paper.title,
        "source": paper.source,
        "setting": setting,
        "claims": [],
        "differs": paper.differs if setting == "small" else "",
        "published": paper.published,
        "findings": findings,
        "command": command(),
        "seconds": round(seconds, 1),
        "hardware": hardware(),
        "versions": versions(),
    }
    write_json(where.workdir / _RESULTS, results)  # runs are expensive, and a check may fail
    results["claims"] = [
        {
            "claim": claim.text,
            "theirs": claim.theirs,
            "outcome": verdict.outcome,
            "because": verdict.because,
            "at": list(verdict.at),
        }
        for claim in paper.claims
        for verdict in [_verdict(claim, findings)]
    ]
    write_json(where.workdir / _RESULTS, results)
    _draw(paper, findings, where.workdir / "figure.png")
    return results


def _verdict(claim: Claim, findings: Findings) -> Verdict:
    """Tests a claim; any error in its check leaves it undecided."""
    try:
        return claim.check(findings)
    except Exception as error:
        return Verdict("undecided", f"{type(error).__name__}: {error}")


def _timed_run(paper: Paper, setting: str, where: Where) -> tuple[Findings, float]:
    """Runs the experiment, and adds the seconds of earlier sessions, whose runs are reused."""
    results, interrupted = where.workdir / _RESULTS, where.workdir / _INTERRUPTED
    earlier = _seconds(interrupted)
    begin = time.perf_counter()
    try:
        findings = paper.run(getattr(paper, setting), where)
    except BaseException:  # also if it is stopped
        if any(where.workdir.iterdir()):  # otherwise there is nothing to resume
            write_json(interrupted, {"seconds": earlier + time.perf_counter() - begin})
        raise
    return findings, max(_seconds(results), earlier + time.perf_counter() - begin)


@contextlib.contextmanager
def _kept_if_used(folder: Path) -> Iterator[None]:
    """Context that creates a folder, and removes it again if it fails before anything is saved."""
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # not empty
            for path in created:
                path.rmdir()
        raise


class _Session(pydantic.BaseModel):
    seconds: pydantic.NonNegativeFloat = 0.0


def _seconds(path: Path) -> float:
    """Returns the seconds that a file of an earlier session states, 0 if there is none."""
    return read_json(path, _Session, remedy="remove it").seconds if path.exists() else 0.0


def swept(grid: Grid, folder: Path) -> list[Row]:
    """Runs a sweep with one final evaluator.

    Args:
      grid: The runs of the sweep.
      folder: Folder of the sweep.

    Returns:
      One row per run; the evaluator's metrics have no prefix.

    Raises:
      ConfigError: If the experiment does not have exactly one evaluator, which is a final one.
      KeyboardInterrupt: If the sweep was interrupted; the same call resumes it.
    """
    if grid.base.evaluators or len(grid.base.final_evaluators) != 1:
        raise ConfigError(
            "must be exactly one, without evaluators, so that each metric has one meaning",
            field="final_evaluators",
        )
    table = run_sweep(grid, folder)
    if table is None:
        raise KeyboardInterrupt
    return [{_plain(name): value for name, value in row.items()} for row in table["rows"]]


def _plain(column: str) -> str:
    """Returns the metric of a score, or the name of another column as it is."""
    return ScoreName.parse(column).metric if is_score(column) else column


def _draw(paper: Paper, findings: Findings, path: Path) -> None:
    matplotlib = optional("matplotlib", "papers")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(9.6, 3.8), layout="constrained")
    paper.draw(figure, findings, paper.published)
    figure.suptitle(
        f"{paper.name}. {paper.title}: results of the paper and of this reproduction", fontsize=11
    )
    figure.savefig(path, dpi=90)
    plt.close(figure)


def open_paper(name: str) -> Paper:
    """Opens a paper by its name, such as `T1`, or from the file that defines it.

    Args:
      name: Name of the paper, or path of a Python file.

    Returns:
      The paper.

    Raises:
      ConfigError: If there is no such paper or file, or the file fails; the message names the line.
    """
    module = execute(Path(name)) if name.endswith(".py") else _imported(name)
    paper = getattr(module, "paper", None)
    if not isinstance(paper, Paper):
        raise ConfigError(
            f"{module.__file__} does not define a variable `paper` of type contrastive.papers.Paper"
        )
    return paper


def _imported(name: str) -> ModuleType:
    """Imports the module of a paper, such as `t1_simcse` for T1."""
    folders = importlib.import_module(PACKAGE).__path__
    names = [module.name for module in pkgutil.iter_modules(folders)]
    modules = {stem.partition("_")[0].upper(): stem for stem in names if _PAPER_MODULE.match(stem)}
    if name.upper() not in modules:
        raise ConfigError(
            f"there is no paper {name!r}; the papers are {', '.join(sorted(modules))}"
        )
    return importlib.import_module(f"{PACKAGE}.{modules[name.upper()]}")


def data_folder(given: Path | None) -> Path:
    """Returns the data folder: the given path, else `CONTRASTIVE_DATA`, else `data`.

    Args:
      given: The folder, or None.

    Returns:
      The folder, which exists.

    Raises:
      DataError: If the folder does not exist.
    """
    path = given or Path(os.environ.get("CONTRASTIVE_DATA", "data"))
    if not path.is_dir():
        (package,) = importlib.import_module(PACKAGE).__path__
        raise DataError(
            f"{path}: no such data folder; set it with --data or CONTRASTIVE_DATA. "
            f"{Path(package) / 'README.md'} lists the files that it needs and where to get them"
        )
    return path

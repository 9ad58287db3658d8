"""Results of papers as code: their numbers, their claims, and the runs that test them here."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from contrastive.config import Model, Static
from contrastive.errors import ConfigError, DataError
from contrastive.lab.claims import Verdict
from contrastive.lab.crew import Row, Score
from contrastive.lab.grid import Grid
from contrastive.lab.sweep import sweep
from contrastive.training.finish import command, hardware, versions
from contrastive.training.workdir import write_json

Findings: TypeAlias = dict[str, Any]
_FOLDER, _RESULTS = Path("experiments") / "papers", "results.json"


@dataclasses.dataclass(frozen=True)
class Setting:
    """How large a reproduction is.

    Attributes:
      steps: Of each run.
      batch_size: Queries a step.
      batch_sizes: Of a paper that varies it.
      seeds: Runs of each setting.
      learning_rate: Highest.
      model: What is trained.
      values: Of the field that the paper varies, most often the temperature.
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
    """What a reproduction reads and writes.

    Attributes:
      data: The folder of `experiments/papers/README.md`.
      workdir: Of its runs; what is there is not run again.
    """

    data: Path
    workdir: Path


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence of a paper that runs can contradict.

    Attributes:
      text: The sentence.
      check: Findings to a verdict.
      theirs: The paper's own numbers for it.
    """

    text: str
    check: Callable[[Findings], Verdict]
    theirs: str = ""


@dataclasses.dataclass(frozen=True)
class Paper:
    """A result.

    Attributes:
      name: T1 to T8.
      title: What it says.
      source: Authors, year, arXiv id.
      published: The paper's own numbers.
      claims: That are tested.
      differs: How the small setting is another than the paper's.
      small: Minutes on two cores.
      full: For a pod.
      run: Trains what is needed and returns numbers.
      draw: Draws the paper's figure beside ours on an empty Matplotlib figure.
      needs_data: Whether it reads the folder of data.
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
    """Runs a paper's experiment, draws its figure and writes which claims held.

    Args:
      paper: Which.
      setting: `small` or `full`.
      where: Folders.

    Returns:
      What is written to `results.json`.
    """
    begin = time.perf_counter()
    where.workdir.mkdir(parents=True, exist_ok=True)
    findings = paper.run(getattr(paper, setting), where)
    results = {
        "paper": paper.name,
        "title": paper.title,
        "source": paper.source,
        "setting": setting,
        "claims": [
            {"claim": claim.text, "theirs": claim.theirs, **_verdict(claim, findings)._asdict()}
            for claim in paper.claims
        ],
        "differs": paper.differs if setting == "small" else "",
        "published": paper.published,
        "findings": findings,
        "command": command(),
        "seconds": round(max(_seconds_before(where.workdir), time.perf_counter() - begin), 1),
        "hardware": hardware(),
        "versions": versions(),
    }
    write_json(where.workdir / _RESULTS, results)
    _draw(paper, findings, where.workdir / "figure.png")
    return results


def _verdict(claim: Claim, findings: Findings) -> Verdict:
    """Of what was trained at great cost nothing is lost for a setting of which no run is left."""
    try:
        return claim.check(findings)
    except (LookupError, ValueError) as error:
        return Verdict(False, f"not measured: {type(error).__name__} {error}")


def _seconds_before(workdir: Path) -> float:
    """What an earlier call took, whose runs are not run again."""
    path = workdir / _RESULTS
    return json.loads(path.read_text(encoding="utf-8"))["seconds"] if path.exists() else 0.0


def swept(grid: Grid, folder: Path, score: Score | None = None) -> list[Row]:
    """Rows of a sweep.

    Args:
      grid: Its runs.
      folder: Of the sweep.
      score: As in `sweep`.

    Returns:
      A row a run.

    Raises:
      KeyboardInterrupt: If it was asked to stop; the same call goes on from there.
    """
    table = sweep(grid, folder, score)
    if table is None:
        raise KeyboardInterrupt
    return table["rows"]


def _draw(paper: Paper, findings: Findings, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(9.6, 3.8), layout="constrained")
    paper.draw(figure, findings, paper.published)
    figure.suptitle(f"{paper.name}. {paper.title}: the paper's, and ours", fontsize=11)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def open_paper(name: str) -> Paper:
    """Finds a paper by its name, `T1`, or by its file.

    Args:
      name: Which.

    Returns:
      The paper.

    Raises:
      ConfigError: If there is none, naming those that there are.
    """
    folder = next((f for f in _folders() if f.is_dir()), None)
    files = sorted(folder.glob("t[0-9]*.py")) if folder else []
    if name.endswith(".py"):
        files = [Path(name)] if Path(name).is_file() else []
    else:
        known = ", ".join(file.stem.partition("_")[0].upper() for file in files)
        files = [file for file in files if file.stem.partition("_")[0] == name.lower()]
        if not files and known:
            raise ConfigError(f"there is no paper {name!r}; there are {known}")
    if not files:
        raise ConfigError(
            f"{name}: no such paper; run this where experiments/papers/ is, or give a file"
        )
    return _load(files[0])


def _folders() -> tuple[Path, ...]:
    return _FOLDER, Path(__file__).resolve().parents[2] / _FOLDER


def _load(file: Path) -> Paper:
    # Papers share a module beside them, as scripts of one folder do.
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[file.stem] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    if not isinstance(getattr(module, "paper", None), Paper):
        raise ConfigError(f"{file} defines no Paper called `paper`")
    return module.paper


def data_folder(given: Path | None) -> Path:
    """The folder of data: the one given, `CONTRASTIVE_DATA`, or `data`.

    Raises:
      DataError: If it is not there.
    """
    path = given or Path(os.environ.get("CONTRASTIVE_DATA", "data"))
    if not path.is_dir():
        raise DataError(
            f"{path}: no such folder of data; give one by --data or CONTRASTIVE_DATA. "
            "experiments/papers/README.md says what is in it and where to get it"
        )
    return path

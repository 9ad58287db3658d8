"""Runs, sweeps and reports as Python objects, read from their folders."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from contrastive.encoder import Encoder
from contrastive.errors import FolderError
from contrastive.interop.run_model import run_folder
from contrastive.sweeps.table import JSON, Interval, member_rows, over_seeds
from contrastive.tables import Scores, Table, html, text
from contrastive.training.experiment import Experiment
from contrastive.training.metrics_file import METRICS, read_metrics
from contrastive.training.old_configs import current_results
from contrastive.training.results import RESULTS
from contrastive.training.workdir import is_sweep, load_config

__all__ = ["Report", "Run", "SweepTable", "load_run", "load_sweep"]


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A training run and the files that it wrote.

    Attributes:
      workdir: The folder of the run.
      config: The experiment that it trains.
    """

    workdir: Path
    config: Experiment

    @property
    def finished(self) -> bool:
        """Whether the run is finished. `train` resumes one that was stopped."""
        return (self.workdir / RESULTS).exists()

    @functools.cached_property
    def results(self) -> dict[str, Any]:
        """The contents of results.json: scores, baselines, hardware, versions and time.

        Raises:
          FolderError: If the run is not finished.
        """
        if not self.finished:
            raise FolderError(f"{self.workdir} is not finished; train it again to resume it")
        return current_results(json.loads((self.workdir / RESULTS).read_text(encoding="utf-8")))

    @property
    def scores(self) -> Scores:
        """The final scores, by evaluator and metric."""
        results = self.results
        return Scores(results.get("scores", {}), results.get("evaluators"), results.get("versions"))

    @property
    def metrics(self) -> Table:
        """The logged metrics, one row per logged step; evaluations have rows of their own."""
        return Table(read_metrics(self.workdir / METRICS))

    @functools.cached_property
    def encoder(self) -> Encoder:
        """The trained encoder, which is loaded on first use."""
        return Encoder.from_pretrained(self.workdir)

    def _repr_html_(self) -> str:
        if not self.finished:
            return f"<p>{escape(str(self.workdir))}: not finished</p>"
        return self.scores._repr_html_()


class SweepTable(Table):
    """The runs of a sweep, one row each. A notebook shows the means of settings over seeds.

    Args:
      table: The contents of sweep.json.
      workdir: The folder of the sweep.
    """

    def __init__(self, table: Mapping[str, Any], workdir: Path):
        super().__init__(table["rows"])
        self.results = dict(table)
        """The contents of sweep.json: axes, rows, baselines, hardware and versions."""
        self.workdir = workdir
        """The folder of the sweep."""

    @property
    def axes(self) -> list[str]:
        """The swept fields."""
        return list(self.results["axes"])

    @property
    def chosen_by(self) -> str | None:
        """The score that selects the best setting, as EVALUATOR/METRIC; None if there is none."""
        return self.results.get("select_best")

    @property
    def metrics(self) -> Table:
        """The logged metrics of all runs, one row per run and logged step.

        A row also contains the number of its run, `member`, and the values of the swept fields.
        """
        values = {row["member"]: {name: row[name] for name in self.axes} for row in self}
        logged = member_rows(self.workdir, METRICS)
        return Table([{**values[row["member"]], **row} for row in logged])

    @property
    def score_names(self) -> list[str]:
        """The columns that contain scores, as EVALUATOR/METRIC."""
        evaluators = {*self.results.get("evaluators", {})}
        evaluators.add((self.chosen_by or "").partition("/")[0])
        return [name for name in self.columns if name.partition("/")[0] in evaluators]

    def by_setting(self, metric: str | None = None) -> dict[tuple[float, ...], Interval]:
        """Computes the mean of a score over seeds, and its 95% interval, for each setting.

        Args:
          metric: The column of the score; `chosen_by` by default.

        Returns:
          Means and intervals by the values of the swept fields.

        Raises:
          FolderError: If the sweep has no such score.
        """
        metric = metric or self.chosen_by
        if metric is None:
            known = ", ".join(self.score_names) or "none, since its experiment has no evaluators"
            raise FolderError(f"name a score of {self.workdir}; it has {known}")
        if metric not in self.columns:
            raise FolderError(
                f"{self.workdir} has no score {metric!r}; it has {', '.join(self.score_names)}"
            )
        return over_seeds(self.results["rows"], self.axes, metric)

    @property
    def best(self) -> dict[str, float]:
        """The values, by field, of the setting with the highest mean of `chosen_by`.

        Raises:
          FolderError: If no score selects a setting, or every run diverged.
        """
        settings = {key: x.mean for key, x in self.by_setting().items() if x.runs}
        if not settings:
            raise FolderError(f"no run in {self.workdir} has a score: all of them diverged")
        best = max(settings, key=settings.__getitem__)
        return dict(zip(self.axes, best, strict=True))

    def _settings(self) -> tuple[list[str], list[list[str]]]:
        metrics = self.score_names
        intervals = {metric: self.by_setting(metric) for metric in metrics}
        rows = []
        for setting in dict.fromkeys(tuple(row[name] for name in self.axes) for row in self):
            cells = [_cell(intervals[metric][setting]) for metric in metrics]
            rows.append([*(f"{value:g}" for value in setting), *cells])
        return [*self.axes, *metrics], rows

    def __repr__(self) -> str:
        return text(*self._settings())

    def _repr_html_(self) -> str:
        return html(*self._settings())


def _cell(x: Interval) -> str:
    if x.runs < 2:
        return f"{x.mean:.3f}" if x.runs else "-"
    return f"{x.mean:.3f} ± {x.high - x.mean:.3f}"


@dataclasses.dataclass(frozen=True)
class Report:
    """An HTML page about runs and sweeps. A notebook shows it inline.

    Attributes:
      path: The HTML file.
    """

    path: Path

    def _repr_html_(self) -> str:
        page = escape(self.path.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="800" frameborder="0"></iframe>'


def load_run(workdir: str | Path) -> Run:
    """Opens the folder of a run.

    Parts of its config whose modules were not imported stay inert: none of their code runs.

    Args:
      workdir: The folder of the run, or the output folder of `contrastive finetune`.

    Returns:
      The run.

    Raises:
      FolderError: If there is no run in the folder.
    """
    folder = run_folder(Path(workdir))
    config = load_config(folder)
    if is_sweep(folder):
        raise FolderError(f"{workdir} is the folder of a sweep; use load_sweep")
    return Run(folder, config)


def load_sweep(workdir: str | Path) -> SweepTable:
    """Opens the folder of a finished sweep.

    Args:
      workdir: The folder of the sweep.

    Returns:
      The table of its runs.

    Raises:
      FolderError: If there is no finished sweep in the folder.
    """
    path = Path(workdir) / JSON
    if not path.exists():
        raise FolderError(f"{path}: no such file; is {workdir} the folder of a finished sweep?")
    return SweepTable(json.loads(path.read_text(encoding="utf-8")), Path(workdir))


def folder_of(run: str | Path | Run | SweepTable) -> Path:
    """Returns the folder of a run or a sweep."""
    return run_folder(Path(run)) if isinstance(run, str | Path) else run.workdir

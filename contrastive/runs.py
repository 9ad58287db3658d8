"""Runs, sweeps and reports as Python objects, read from their folders."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from contrastive.encoder import Encoder
from contrastive.errors import FolderError
from contrastive.interop.run_model import run_folder
from contrastive.sweeps.table import (
    Interval,
    about_scores,
    best_setting,
    in_words,
    member_rows,
    over_seeds,
    paired,
)
from contrastive.tables import Scores, Table, html, text
from contrastive.tasks._score_name import is_score
from contrastive.training.experiment import Experiment
from contrastive.training.metrics_file import METRICS, read_metrics
from contrastive.training.stored import RESULTS, TABLE, read_results, read_table
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
        return read_results(self.workdir, self.config)

    @property
    def scores(self) -> Scores:
        """The final scores, by task and metric: test scores if there are final evaluators."""
        results = self.results
        return Scores(
            results.get("scores", {}),
            results.get("evaluators"),
            results.get("versions"),
            split=results["split"],
            model=results.get("name", ""),
            baselines=results.get("baselines"),
        )

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
        """The validation score that selects the best setting, as `ScoreName` writes it; None if
        there is none, because test scores select nothing."""
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
        """The columns that contain scores, as SPLIT/TASK/METRIC; see `tasks.ScoreName`."""
        return [name for name in self.columns if is_score(name)]

    def by_setting(self, metric: str | None = None) -> dict[tuple[float, ...], Interval]:
        """Computes the mean of a score over seeds, and its 95% interval, for each setting.

        Args:
          metric: The column of the score, such as `test/nDCG@10`; `chosen_by` by default.

        Returns:
          Means and intervals by the values of the swept fields.

        Raises:
          FolderError: If the sweep has no such score.
        """
        return over_seeds(self.results["rows"], self.axes, self._metric(metric))

    def compare(
        self, to: Mapping[str, float] | None = None, metric: str | None = None
    ) -> dict[tuple[float, ...], Interval]:
        """Computes by how much each setting exceeds another one, paired by seed.

        Runs with the same seed share batches and start alike. Therefore, differences paired by seed
        are more certain than the means of settings are. A setting differs at the 95% level if its
        interval excludes 0.

        Args:
          to: The values, by field, of the setting to compare with; `best` by default.
          metric: The column of the score; `chosen_by` by default.

        Returns:
          Mean differences and 95% intervals, by the values of the swept fields.

        Raises:
          FolderError: If the sweep has no such score or no such setting.
        """
        metric = self._metric(metric)
        to = self.best if to is None else to
        settings = list(dict.fromkeys(tuple(row[name] for name in self.axes) for row in self))
        base = tuple(to.get(name, math.nan) for name in self.axes)
        if base not in settings or to.keys() - set(self.axes):
            known = ", ".join(str(dict(zip(self.axes, x, strict=True))) for x in settings)
            raise FolderError(f"{self.workdir} has no setting {dict(to)}; it has {known}")
        return paired(self.results["rows"], self.axes, metric, base)

    def _metric(self, metric: str | None) -> str:
        metric = metric or self.chosen_by
        known = ", ".join(self.score_names) or "none, since its experiment has no evaluators"
        if metric is None:
            raise FolderError(
                f"nothing selects a setting of {self.workdir}, because it has no validation "
                f"scores; name a score, or train with evaluators. It has {known}"
            )
        if metric not in self.columns:
            raise FolderError(f"{self.workdir} has no score {metric!r}; it has {known}")
        return metric

    @property
    def best(self) -> dict[str, float]:
        """The values, by field, of the setting with the highest mean of `chosen_by`.

        Settings with diverged runs count only if there are no others.

        Raises:
          FolderError: If no score selects a setting, or every run diverged.
        """
        best = best_setting(self.results["rows"], self.axes, self._metric(None))
        if best is None:
            raise FolderError(f"no run in {self.workdir} has a score: all of them diverged")
        return dict(zip(self.axes, best, strict=True))

    def _settings(self) -> tuple[list[str], list[list[str]]]:
        metrics = self.score_names
        intervals = {metric: self.by_setting(metric) for metric in metrics}
        rows = []
        for setting in dict.fromkeys(tuple(row[name] for name in self.axes) for row in self):
            cells = [in_words(intervals[metric][setting]) for metric in metrics]
            rows.append([*(f"{value:g}" for value in setting), *cells])
        return [*self.axes, *metrics], rows

    def __repr__(self) -> str:
        return f"{text(*self._settings())}\n\n{about_scores(self.results)}"

    def _repr_html_(self) -> str:
        return f"{html(*self._settings())}<p>{escape(about_scores(self.results))}</p>"


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
    path = Path(workdir) / TABLE
    if not path.exists():
        raise FolderError(f"{path}: no such file; is {workdir} the folder of a finished sweep?")
    return SweepTable(read_table(path.parent, load_config(path.parent)), path.parent)


def folder_of(run: str | Path | Run | SweepTable) -> Path:
    """Returns the folder of a run or a sweep."""
    return run_folder(Path(run)) if isinstance(run, str | Path) else run.workdir

"""Trains, sweeps, evaluates, reports and advises from Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from contrastive.advice.advisor import advise as _advise
from contrastive.advice.observed import Finding
from contrastive.encoder import Encoder
from contrastive.errors import ConfigError
from contrastive.lazy import optional
from contrastive.runs import Report, Run, SweepTable, folder_of
from contrastive.sweeps.grid import Grid, check_sweeps
from contrastive.sweeps.sweep import run_sweep
from contrastive.tables import Scores
from contrastive.tasks._evaluator import Evaluator
from contrastive.tasks._suite import Suite, named
from contrastive.training.experiment import Experiment
from contrastive.training.results import versions
from contrastive.training.train import train_experiment

__all__ = ["advise", "evaluate", "report", "sweep", "train"]


def train(experiment: Experiment, workdir: str | Path, *, overwrite: bool = False) -> Run:
    """Trains an experiment, or resumes it where an earlier call with the same folder stopped.

    Args:
      experiment: What to train.
      workdir: Folder for the config, metrics, checkpoints, model and results of the run.
      overwrite: Whether to remove a run with another config or other inputs from the folder.

    Returns:
      The finished run.

    Raises:
      ConfigError: If settings are incompatible.
      DataError: If the data cannot be used; it is checked before training.
      FolderError: If the folder belongs to a run with another config.
      DivergedError: If the loss or the gradient stops being finite.
      SaveError: If a checkpoint cannot be written.
      KeyboardInterrupt: If training was interrupted, after its state was saved.
    """
    _check_experiment(experiment)
    if train_experiment(experiment, Path(workdir), overwrite=overwrite) is None:
        raise KeyboardInterrupt(f"stopped and saved in {workdir}; the same call resumes it")
    return Run(Path(workdir), experiment)


def sweep(
    experiment: Experiment,
    axes: Mapping[str, Sequence[float]],
    *,
    workdir: str | Path,
    seeds: int = 1,
) -> SweepTable:
    """Trains an experiment at many settings; those that differ only in numbers share a program.

    Args:
      experiment: The settings that all runs share.
      axes: Values by field, such as `{"loss.temperature": [0.01, 0.02, 0.05]}`; the runs
        are the product of all fields.
      workdir: Folder of the sweep; the same call resumes a sweep that was stopped.
      seeds: Number of runs of each setting, which differ in initialization and dropout.

    Returns:
      The table of all runs.

    Raises:
      ConfigError: If settings are incompatible, or nothing is swept.
      DataError: If the data cannot be used.
      FolderError: If the folder belongs to another sweep or a run.
      SaveError: If a checkpoint cannot be written.
      KeyboardInterrupt: If the sweep was interrupted, after its state was saved.
    """
    _check_experiment(experiment)
    for name, values in axes.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise ConfigError(f"is {values!r}; give a list of values", field=name)
    numbers = {name: tuple(map(_as_number, values)) for name, values in axes.items()}
    check_sweeps(numbers, seeds)
    grid = Grid(experiment, numbers, seeds)
    table = run_sweep(grid, Path(workdir))
    if table is None:
        raise KeyboardInterrupt(f"stopped and saved in {workdir}; the same call resumes it")
    return SweepTable(table, Path(workdir))


def _check_experiment(experiment: Experiment) -> None:
    if not isinstance(experiment, Experiment):
        raise ConfigError(
            f"expected an Experiment, got {experiment!r:.60}; import it from the file that defines "
            "it"
        )


def _as_number(value: Any) -> Any:
    """Converts a scalar of NumPy or JAX to a number of Python."""
    return value.item() if hasattr(value, "item") else value


def evaluate(
    encoder: Encoder | Run | str | Path,
    tasks: Evaluator | Sequence[Evaluator] | Mapping[str, Evaluator],
    *,
    truncate_dim: int | None = None,
) -> Scores:
    """Scores an encoder.

    Args:
      encoder: An encoder, a run, or the folder or Hub name of one.
      tasks: One evaluator, several, or several by name.
      truncate_dim: Number of leading values to keep of each embedding, for Matryoshka models; None
        keeps all.

    Returns:
      Metrics by evaluator and name; `scores.about` describes the data of each evaluator.

    Raises:
      ConfigError: If `truncate_dim` is not between 1 and the width of the embeddings.
      DataError: If the data of an evaluator cannot be used.
    """
    suite = Suite(named(tasks))
    if isinstance(encoder, Run):
        encoder = encoder.encoder
    if not isinstance(encoder, Encoder):
        encoder = Encoder.from_pretrained(encoder)
    if truncate_dim is not None:
        encoder = encoder.truncated(truncate_dim)
    return Scores(suite.scores(encoder), suite.describe(), versions())


def report(*folders: str | Path | Run | SweepTable, output: str | Path | None = None) -> Report:
    """Writes an HTML page about runs and sweeps. A notebook shows it inline.

    Args:
      *folders: Runs, sweeps, or their folders.
      output: The file to write; report.html in the first folder by default.

    Returns:
      The page.

    Raises:
      FolderError: If a folder contains neither a run nor a sweep.
      ConfigError: If plotly or jinja2 is not installed; the message names the extra to install.
    """
    write_report = optional("contrastive.reports.page", "report").write_report
    paths = list(map(folder_of, folders))
    return Report(write_report(paths, None if output is None else Path(output)))


def advise(folder: str | Path | Run | SweepTable) -> list[Finding]:
    """Explains what a run or a sweep shows about its temperature, and what to change.

    Args:
      folder: A run or a sweep, or its folder; it may still be running.

    Returns:
      The findings, most important first.

    Raises:
      FolderError: If the folder contains neither, or nothing was logged yet.
    """
    return _advise(folder_of(folder))

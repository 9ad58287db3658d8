"""Commands that train experiments: train and sweep."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
import tyro

from contrastive.cli.experiment_files import experiment_file, load_experiments
from contrastive.cli.experiment_flags import flag_namer, refusal
from contrastive.cli.flags import REGISTRY
from contrastive.cli.stopping import stoppable
from contrastive.errors import ConfigError, fields_named
from contrastive.training.experiment import Experiment

if TYPE_CHECKING:
    from contrastive.sweeps.grid import Grid


def train(file: tyro.conf.Positional[str], /, *, workdir: Path, setting: str = "default") -> None:
    """Train an experiment: contrastive train FILE.py --workdir DIR.

    Every field of the experiment is a flag: --loss.temperature 0.05 --steps 500. List them with
    contrastive train FILE.py --help. Choose a part by name, and then set its fields:
    loss.function:hard-negative --loss.function.beta 2. Run the same command again to resume a
    stopped run, which exits with status 75.

    Args:
      file: A Python file that defines an Experiment called `default`, and possibly others; or
        quickstart, which comes with the package.
      workdir: Folder for the config, metrics, checkpoints, model and results of the run.
      setting: Name of the Experiment in the file.
    """
    train_file(file, ["--workdir", str(workdir), "--setting", setting])


def sweep(
    file: tyro.conf.Positional[str],
    /,
    *,
    workdir: Path,
    seeds: pydantic.PositiveInt = 1,
    setting: str = "default",
) -> None:
    """Train an experiment at many settings: contrastive sweep FILE.py --workdir DIR ...

    A flag with several numbers is swept; several such flags give all combinations:
    --loss.temperature 0.01 0.02 0.05 0.1 --optimizer.learning_rate 1e-3 3e-3 --seeds 3. Choose a
    part by name, and then set its fields: loss.function:hard-negative --loss.function.beta 2. All
    other flags are those of `contrastive train`. Runs that differ only in floating-point settings
    of the loss and the optimizer are trained as one program that shares batches; values of other
    fields are trained one after the other. Run the same command again to resume a stopped sweep,
    which exits with status 75.

    Args:
      file: A Python file that defines an Experiment called `default`, and possibly others; or
        quickstart, which comes with the package.
      workdir: Folder for sweep.json and sweep.parquet, which have one row per run, and score.png.
      seeds: Number of runs per setting, with different initialization and dropout.
      setting: Name of the Experiment in the file.
    """
    sweep_file(file, ["--workdir", str(workdir), "--seeds", str(seeds), "--setting", setting])


def train_file(file: str, arguments: list[str]) -> None:
    """Trains the experiment of a file.

    Args:
      file: The file, or the name of an experiment of this package.
      arguments: The other words of the command line.

    Raises:
      ConfigError: If the file or its setting is missing, or a value is invalid.
      UserError: If the experiment cannot be trained.
    """
    chosen, default = _chosen(file, arguments)

    def command(
        workdir: Path,
        setting: str = chosen,
        experiment: Annotated[Experiment, tyro.conf.arg(name="")] = default,
    ) -> tuple[Path, Any]:
        """Train or resume a run. A stopped run exits with status 75.

        Choose a part by name, and then set its fields: loss.function:hard-negative
        --loss.function.beta 2.

        Args:
          workdir: Folder for the config, metrics, checkpoints, model and results of the run.
          setting: Name of the Experiment in the file, which the flags below change.
          experiment: The run.
        """
        del setting
        return workdir, experiment

    workdir, fields = _parse(command, f"contrastive train {file}", arguments, default)
    with stoppable(), fields_named(flag_namer(default)):
        experiment = Experiment(**fields)
        from contrastive.cli.endings import show_run
        from contrastive.devices.distributed import is_first
        from contrastive.training.train import train_experiment

        results = train_experiment(experiment, workdir)
        if results is None:
            raise KeyboardInterrupt(f"The run is saved in {workdir}")
        if is_first():
            show_run(results, experiment, workdir, workdir)


def sweep_file(file: str, arguments: list[str]) -> None:
    """Sweeps the experiment of a file.

    Args:
      file: The file, or the name of an experiment of this package.
      arguments: The other words of the command line.

    Raises:
      ConfigError: If the file or its setting is missing, or a value is invalid.
      UserError: If the experiment cannot be swept.
    """
    chosen, default = _chosen(file, arguments)
    with stoppable(), fields_named(flag_namer(default)):
        workdir, grid = _grid(file, chosen, default, arguments)
        from contrastive.sweeps.sweep import run_sweep

        table = run_sweep(grid, workdir)
        if table is None:
            raise KeyboardInterrupt(f"The sweep is saved in {workdir}")
        _show_sweep(table, workdir)


def _grid(file: str, chosen: str, default: Experiment, arguments: list[str]) -> tuple[Path, Grid]:
    """Returns the folder and the settings of a sweep."""
    from contrastive.sweeps.grid import Grid, check_sweeps, take_axes

    axes, rest = take_axes(arguments, default)

    def command(
        workdir: Path,
        seeds: pydantic.PositiveInt = 1,
        setting: str = chosen,
        experiment: Annotated[Experiment, tyro.conf.arg(name="")] = default,
    ) -> tuple[Path, int, Any]:
        """Train an experiment at many settings: a flag with several numbers is swept.

        Choose a part by name, and then set its fields: loss.function:hard-negative
        --loss.function.beta 2.

        Args:
          workdir: Folder for sweep.json and sweep.parquet, which have one row per run, and
            score.png.
          seeds: Number of runs per setting, with different initialization and dropout.
          setting: Name of the Experiment in the file, which the flags below change.
          experiment: Settings that all runs share.
        """
        del setting
        return workdir, seeds, experiment

    workdir, seeds, fields = _parse(command, f"contrastive sweep {file}", rest, default)
    check_sweeps(axes, seeds)
    return workdir, Grid(Experiment(**fields), axes, seeds)


def _show_sweep(table: Mapping[str, Any], workdir: Path) -> None:
    from contrastive.sweeps.plots import draw
    from contrastive.sweeps.table import shown

    try:
        picture = draw(table, workdir)
    except ConfigError as error:  # without matplotlib
        picture = None
        print(f"contrastive: no picture was drawn: {error}", file=sys.stderr)
    runs, seconds = len(table["rows"]), table["session_seconds"]
    print(f"\n{table['name']}: {runs} runs, {seconds:.0f} s in this session\n")
    print(shown(table))
    print(f"\ntable: {workdir / 'sweep.json'}{f'   picture: {picture}' if picture else ''}")
    folder = shlex.quote(str(workdir))
    print(f"\nnext:\n  contrastive advise {folder}\n  contrastive report {folder}")


def _parse(command: Any, program: str, arguments: list[str], default: Experiment) -> Any:
    """Parses the words of a command line, and refuses those that belong to no flag."""
    parsed, unknown = tyro.cli(
        command,
        prog=program,
        args=arguments,
        config=(tyro.conf.CascadeSubcommandArgs,),
        registry=REGISTRY,
        return_unknown_args=True,
    )
    if unknown:
        raise refusal(unknown, arguments, default, list(signature(command).parameters))
    return parsed


class _Setting(pydantic.BaseModel):
    setting: str = "default"


def _chosen(file: str, arguments: list[str]) -> tuple[str, Experiment]:
    """Returns the name of the setting, and its experiment: the defaults of all other flags."""
    settings = load_experiments(experiment_file(file))
    chosen = tyro.cli(_Setting, args=arguments, return_unknown_args=True, add_help=False)[0].setting
    if chosen not in settings:
        raise ConfigError(f"{file} has no setting {chosen!r}; it has {', '.join(settings)}")
    return chosen, settings[chosen]

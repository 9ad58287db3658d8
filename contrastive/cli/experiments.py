"""Commands of experiment files: train and sweep."""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path
from typing import Annotated

import pydantic
import tyro

from contrastive.cli.stopping import stoppable
from contrastive.config import Experiment
from contrastive.errors import ConfigError


def train(file: tyro.conf.Positional[Path], /, *, workdir: Path, setting: str = "default") -> None:
    """Train the experiment of a file: contrastive train FILE.py --workdir DIR.

    Every field of the experiment is a flag: --loss.temperature 0.05 --steps 500. See them all with
    contrastive train FILE.py --help. The same command again goes on where the run stopped.

    Args:
      file: A Python file that defines an Experiment called `default`, and perhaps others.
      workdir: Folder of the run: config, metrics, checkpoints, model and results.
      setting: Which Experiment of the file.
    """
    train_file(str(file), ["--workdir", str(workdir), "--setting", setting])


def sweep(
    file: tyro.conf.Positional[Path],
    /,
    *,
    workdir: Path,
    seeds: pydantic.PositiveInt = 1,
    setting: str = "default",
) -> None:
    """Train an experiment at many settings: contrastive sweep FILE.py --workdir DIR ...

    A flag with several numbers is swept, every combination of several flags:
    --loss.temperature 0.01 0.02 0.05 0.1 --optimizer.learning_rate 1e-3 3e-3 --seeds 3. All other
    flags are those of `contrastive train`. Runs that differ in numbers of the loss and the
    optimizer are one program that shares batches; values of other fields are programs one after
    the other. The same command again goes on where the sweep stopped.

    Args:
      file: A Python file that defines an Experiment called `default`, and perhaps others.
      workdir: Folder of the sweep: sweep.json and sweep.parquet, a row a run, and score.png.
      seeds: Runs of each setting, with other first parameters and dropout.
      setting: Which Experiment of the file.
    """
    sweep_file(
        str(file),
        ["--workdir", str(workdir), "--seeds", str(seeds), "--setting", setting],
    )


def sweep_file(file: str, arguments: list[str]) -> None:
    """Sweeps the experiment of a file.

    Args:
      file: The file.
      arguments: The other words of the command line.
    """
    from contrastive.lab.grid import Grid, take_axes

    settings = load_experiments(Path(file))
    chosen = _chosen(file, settings, arguments)
    axes, rest = take_axes(arguments, settings[chosen])

    def command(
        workdir: Path,
        seeds: pydantic.PositiveInt = 1,
        setting: str = chosen,
        experiment: Annotated[Experiment, tyro.conf.arg(name="")] = settings[chosen],
    ) -> tuple[Path, int, Experiment]:
        """Train an experiment at many settings: a flag with several numbers is swept.

        Args:
          workdir: Folder of the sweep: sweep.json and sweep.parquet, a row a run, and score.png.
          seeds: Runs of each setting, with other first parameters and dropout.
          setting: Experiment of the file that the flags below change.
          experiment: What all runs share.
        """
        del setting
        return workdir, seeds, experiment

    workdir, seeds, base = tyro.cli(
        command,
        prog=f"contrastive sweep {file}",
        args=rest,
        config=(tyro.conf.CascadeSubcommandArgs,),
    )
    grid = Grid(base, axes, seeds)
    with stoppable():
        from contrastive.lab.plots import draw
        from contrastive.lab.sweep import sweep
        from contrastive.lab.table import shown

        table = sweep(grid, workdir)
        if table is None:
            print(f"Stopped and saved in {workdir}. The same command goes on from there.")
            return
        draw(table, workdir)
        runs, seconds = len(table["rows"]), table["session_seconds"]
        print(f"\n{table['name']}: {runs} runs, {seconds:.0f} s in this session\n")
        chosen_by = f"validation/{table['metric']}"
        wanted = [chosen_by, "nDCG@10", "MRR@10", "Recall@10"]
        print(shown(table, [name for name in wanted if any(name in row for row in table["rows"])]))
        picture = f"   picture: {workdir / 'score.png'}" if table["axes"] else ""
        print(f"\ntable: {workdir / 'sweep.json'}{picture}")


def _chosen(file: str, settings: dict[str, Experiment], arguments: list[str]) -> str:
    """The setting decides the defaults of all other flags, so it is looked for first."""
    chosen = tyro.cli(_Setting, args=arguments, return_unknown_args=True, add_help=False)[0].setting
    if chosen not in settings:
        raise ConfigError(f"{file} has no setting {chosen!r}; it has {', '.join(settings)}")
    return chosen


def train_file(file: str, arguments: list[str]) -> None:
    """Trains the experiment of a file.

    Args:
      file: The file.
      arguments: The other words of the command line.
    """
    settings = load_experiments(Path(file))
    chosen = _chosen(file, settings, arguments)

    def command(
        workdir: Path,
        setting: str = chosen,
        experiment: Annotated[Experiment, tyro.conf.arg(name="")] = settings[chosen],
    ) -> tuple[Path, Experiment]:
        """Train, or go on with, one run.

        Args:
          workdir: Folder of the run: config, metrics, checkpoints, model and results.
          setting: Experiment of the file that the flags below change.
          experiment: The run.
        """
        del setting
        return workdir, experiment

    workdir, experiment = tyro.cli(
        command,
        prog=f"contrastive train {file}",
        args=arguments,
        config=(tyro.conf.CascadeSubcommandArgs,),
    )
    with stoppable():
        from contrastive.training.distributed import is_first
        from contrastive.training.runner import run

        results = run(experiment, workdir)
        if not is_first():
            return
        if results is None:
            print(f"Stopped and saved in {workdir}. The same command goes on from there.")
        else:
            _report(results, workdir)


class _Setting(pydantic.BaseModel):
    setting: str = "default"


def _report(results: dict, workdir: Path) -> None:
    from contrastive.evaluation.metrics import table

    session = results["session"]
    print(
        f"\n{results['name']}: {results['steps']} steps, {session['training_seconds']:.0f} s of "
        f"training in this session, {session['waiting_share']:.1%} of it waiting for data; "
        f"temperature {results['temperature']:.3g}"
    )
    if "scores" in results:
        print(
            f"{results['task']}: {results['queries']} queries, {results['documents']} documents\n"
        )
        rows = [("BM25", results["bm25"]), (results["name"], results["scores"])]
        print(table(rows, ["nDCG@10", "MRR@10", "Recall@10"]))
    print(f"\nmodel: {workdir / 'model'}   results: {workdir / 'results.json'}")


def load_experiments(file: Path) -> dict[str, Experiment]:
    """The experiments a Python file defines at its top level, by name.

    Args:
      file: The file; it is executed.

    Returns:
      Settings, `default` among them.

    Raises:
      ConfigError: If there is no such file, or no such experiment in it.
    """
    if not file.is_file():
        raise ConfigError(
            f"{file}: no such file; expected a Python file that defines an Experiment"
        )
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = max((f.lineno or 0 for f in frames if f.filename == str(file)), default=0)
        where = f"{file}:{line}" if line else str(file)
        raise ConfigError(f"{where}: {type(error).__name__}: {error}") from error
    settings = {
        name: value for name, value in vars(module).items() if isinstance(value, Experiment)
    }
    if "default" not in settings:
        raise ConfigError(f"{file} defines no Experiment called `default`; it has {list(settings)}")
    return settings

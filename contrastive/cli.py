"""The command line. Heavy imports wait until a command needs them, so that --help is instant."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import pydantic
import tyro

from contrastive.config import Experiment
from contrastive.errors import ConfigError, UserError

_Pooling: TypeAlias = Literal["mean", "cls", "last_token"] | None
_DESCRIPTION = """Contrastive training of embedding models, with temperature as a first-class,
measurable thing.

contrastive train experiments/quickstart.py --workdir runs/quickstart

contrastive search runs/quickstart "parse a date from a string"

contrastive finetune --model_name_or_path MODEL --train_data train.jsonl --output_dir out
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `contrastive`.

    Args:
      arguments: Those of the process unless given.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        files = [word for word in given if word.endswith(".py")]
        if given[:1] == ["train"] and files:
            rest = given[1:]
            rest.remove(files[0])
            _train(files[0], rest)
        elif given[:1] == ["sweep"] and files:
            rest = given[1:]
            rest.remove(files[0])
            _sweep(files[0], rest)
        elif given[:1] == ["finetune"]:
            with _stoppable():
                from contrastive.finetune.command import finetune as command

                command(given[1:])
        else:
            commands: dict[str, Callable[..., None]] = {
                "train": train,
                "sweep": sweep,
                "finetune": finetune,
                "evaluate": evaluate,
                "encode": encode,
                "search": search,
            }
            tyro.extras.subcommand_cli_from_dict(
                commands, prog="contrastive", description=_DESCRIPTION, args=given
            )
    except (UserError, OSError, pydantic.ValidationError) as error:
        sys.exit(f"contrastive: {error}")


def train(file: tyro.conf.Positional[Path], /, *, workdir: Path, setting: str = "default") -> None:
    """Train the experiment of a file: contrastive train FILE.py --workdir DIR.

    Every field of the experiment is a flag: --loss.temperature 0.05 --steps 500. See them all with
    contrastive train FILE.py --help. The same command again goes on where the run stopped.

    Args:
      file: A Python file that defines an Experiment called `default`, and perhaps others.
      workdir: Folder of the run: config, metrics, checkpoints, model and results.
      setting: Which Experiment of the file.
    """
    _train(str(file), ["--workdir", str(workdir), "--setting", setting])


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
    _sweep(
        str(file),
        ["--workdir", str(workdir), "--seeds", str(seeds), "--setting", setting],
    )


def _sweep(file: str, arguments: list[str]) -> None:
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
    with _stoppable():
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
        print(shown(table, ["nDCG@10", "MRR@10", "Recall@10"]))
        print(f"\ntable: {workdir / 'sweep.json'}   picture: {workdir / 'score.png'}")


def _chosen(file: str, settings: dict[str, Experiment], arguments: list[str]) -> str:
    """The setting decides the defaults of all other flags, so it is looked for first."""
    chosen = tyro.cli(_Setting, args=arguments, return_unknown_args=True, add_help=False)[0].setting
    if chosen not in settings:
        raise ConfigError(f"{file} has no setting {chosen!r}; it has {', '.join(settings)}")
    return chosen


def _train(file: str, arguments: list[str]) -> None:
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
    with _stoppable():
        from contrastive.training.distributed import is_first
        from contrastive.training.runner import run

        results = run(experiment, workdir)
        if not is_first():
            return
        if results is None:
            print(f"Stopped and saved in {workdir}. The same command goes on from there.")
        else:
            _report(results, workdir)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Before and after the loop, which saves first, being asked to stop is an interrupt."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        print("Stopped; nothing that was saved is lost. The same command goes on from there.")


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


def finetune() -> None:
    """Fine-tune a checkpoint with the flags of FlagEmbedding: contrastive finetune --help."""


def evaluate(
    model: tyro.conf.Positional[Path],
    /,
    *,
    beir: Path,
    split: str = "test",
    bm25: bool = True,
    pooling: _Pooling = None,
) -> None:
    """Score a trained model, beside BM25, on a retrieval task in BEIR's layout.

    Args:
      model: Folder of a run, or of a model.
      beir: Folder of the task: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.
      split: Which judgements.
      bm25: Whether to score BM25 too.
      pooling: For a folder that does not say how it pools.
    """
    from contrastive.evaluation import retrieval
    from contrastive.evaluation.metrics import METRICS, table
    from contrastive.evaluation.task import load_beir

    encoder, params = _load(model, pooling)
    task = load_beir(beir, split)
    rows = [("BM25", retrieval.evaluate_bm25(task))] if bm25 else []
    rows.append((model.name, retrieval.evaluate(encoder, params, task)))
    print(f"{task.name}: {len(task.queries)} queries, {len(task.corpus)} documents\n")
    print(table(rows, list(METRICS)))


def encode(
    model: tyro.conf.Positional[Path],
    /,
    *,
    input: Path,
    output: Path,
    kind: Literal["query", "document"] = "document",
    pooling: _Pooling = None,
) -> None:
    """Embed the lines of a text file: a row of vectors.npy for each, float32.

    Args:
      model: Folder of a run, or of a model.
      input: Text file, UTF-8, a text a line.
      output: NumPy file to write.
      kind: Which prompt and length texts get.
      pooling: For a folder that does not say how it pools.
    """
    import numpy as np

    texts = _lines(input)
    with open(output, "wb") as file:  # opened first: an hour of encoding needs a place to go
        encoder, params = _load(model, pooling)
        vectors = (encoder.queries if kind == "query" else encoder.documents)(params, texts)
        np.save(file, vectors)
    print(f"{output}: {vectors.shape[0]} vectors of width {vectors.shape[1]}")


def search(
    run: tyro.conf.Positional[Path],
    query: tyro.conf.Positional[str],
    /,
    *,
    corpus: Path | None = None,
    top: pydantic.PositiveInt = 3,
    pooling: _Pooling = None,
) -> None:
    """Show the documents nearest to a query.

    Args:
      run: Folder of a run; with --corpus, of a model.
      query: What to look for.
      corpus: Text file, UTF-8, a document a line; the run's held-out documents unless given.
      top: Documents to show.
      pooling: For a folder that does not say how it pools.
    """
    from contrastive.evaluation.topk import top_k

    texts = _held_out(run) if corpus is None else _lines(corpus)
    encoder, params = _load(run, pooling)
    vectors = encoder.documents(params, texts)
    scores, places = top_k(encoder.queries(params, [query]), vectors, min(top, len(texts)))
    print(f"{query!r} in {len(texts)} documents\n")
    for rank, (score, place) in enumerate(zip(scores[0], places[0], strict=True), start=1):
        shown = texts[place].split("\n")
        more = f"\n   ... {len(shown) - 8} more lines" if len(shown) > 8 else ""
        print(f"{rank}. similarity {score:.3f}")
        print("\n".join(f"   {line[:96]}" for line in shown[:8]) + more + "\n")


def _load(folder: Path, pooling: _Pooling):
    from contrastive.evaluation.loading import load
    from contrastive.training.compilation import keep_compiled_programs
    from contrastive.training.mesh import make_mesh

    keep_compiled_programs()
    return load(folder, make_mesh(), pooling)


def _held_out(run: Path) -> list[str]:
    from contrastive.data.opening import open_source
    from contrastive.evaluation.task import from_examples
    from contrastive.training.workdir import load_config

    data = load_config(run).data
    held_out = data.test or data.validation
    if held_out is None:
        raise ConfigError(
            f"the run in {run} held nothing out; give --corpus FILE, a document a line"
        )
    return list(from_examples(open_source(held_out), "held out").corpus.values())


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8, at byte {error.start + 1}") from None
    texts = lines[:-1] if lines[-1] == "" else lines
    if not texts:
        raise ConfigError(f"{path} is empty; expected a text a line")
    return texts

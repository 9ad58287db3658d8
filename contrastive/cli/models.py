"""Commands that use trained models: evaluate, encode and search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import tyro

from contrastive.cli.task_flags import (
    NO_PATHS,
    TaskPaths,
    tasks_of_file,
    tasks_of_paths,
    unused_name,
)
from contrastive.cli.text_files import read_texts
from contrastive.errors import ConfigError, FolderError, fields_named

if TYPE_CHECKING:
    from contrastive.encoder import Encoder
    from contrastive.tasks._evaluator import Evaluator

_Pooling: TypeAlias = Literal["mean", "cls", "last_token"] | None


def evaluate(
    model: tyro.conf.Positional[str],
    /,
    *,
    paths: Annotated[TaskPaths, tyro.conf.arg(name="")] = NO_PATHS,
    split: str = "test",
    classification: tuple[str, str] | None = None,
    tasks: Path | None = None,
    baselines: bool = True,
    truncate_dim: int | None = None,
    pooling: _Pooling = None,
    parts: tuple[Path, ...] = (),
    output: Path | None = None,
) -> None:
    """Score a trained model, with BM25 for retrieval: contrastive evaluate RUN --retrieval DIR.

    Every task is a file or folder of data; `contrastive.tasks` documents the formats.

    Args:
      model: Folder of a run or of a model, or a name on the Hugging Face Hub.
      paths: Files or folders of data, by kind of task.
      split: Split of the relevance judgments, for folders given with --retrieval.
      classification: Two files with rows {"text", "label"}, for training and for testing.
      tasks: A Python file that defines `evaluators`, a dict of evaluators by name.
      baselines: Whether to also score baselines such as BM25.
      truncate_dim: Number of leading values of each embedding to keep (Matryoshka).
      pooling: Pooling of a model whose folder does not specify it.
      parts: Python files that define the encoder which the model's folder names.
      output: A JSON file to write the scores to.

    Raises:
      ConfigError: If there is no task, or a task is given twice.
      DataError: If data is missing or cannot be used.
      FolderError: If the model cannot be loaded.
    """
    evaluators = _evaluators(paths, split, classification, tasks)
    if output is not None:
        check_output(output)
    with fields_named(_flag):
        encoder = _load(model, pooling, parts)
        if truncate_dim is not None:
            encoder = encoder.truncated(truncate_dim)
    results = _results(model, encoder, evaluators, baselines)
    _show(results, output)


def _evaluators(
    paths: TaskPaths, split: str, classification: tuple[str, str] | None, tasks: Path | None
) -> dict[str, Evaluator]:
    from contrastive.tasks._classification import Classification

    evaluators = tasks_of_paths(paths, {"split": split})
    if classification is not None:
        train, test = classification
        evaluators[unused_name(test, evaluators)] = Classification(train=train, test=test)
    if tasks is not None:
        evaluators |= tasks_of_file(tasks, evaluators)
    if not evaluators:
        raise ConfigError(
            "there is no task to score the model on; give --retrieval DIR, another flag of a task, "
            "or --tasks FILE.py with a dict called evaluators"
        )
    return evaluators


def _flag(field: str) -> str:
    return f"--{field}"


def _results(
    model: str, encoder: Encoder, evaluators: Mapping[str, Evaluator], baselines: bool
) -> dict[str, Any]:
    from contrastive.tasks._suite import Suite
    from contrastive.training.results import versions

    suite = Suite(evaluators)
    return {
        "model": model,
        "width": encoder.width,
        "scores": suite.scores(encoder),
        "baselines": suite.baselines() if baselines else {},
        "evaluators": suite.describe(),
        "versions": versions(),
    }


def check_output(output: Path) -> None:
    """Checks that a file can be written there, before the work that it is for.

    Args:
      output: What was given as `--output`.

    Raises:
      ConfigError: If it is a folder, or if the folder that it is to be in does not exist.
    """
    if output.is_dir():
        raise ConfigError(f"--output {output} is a folder; give the name of a file in it")
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"--output {output}: there is no folder {output.parent}; create it first")


def _show(results: Mapping[str, Any], output: Path | None) -> None:
    from contrastive.cli.scores import score_tables
    from contrastive.files import write_json

    for words in score_tables(Path(results["model"]).name, results):
        print(words)
    if output is not None:
        write_json(output, results)
        print(f"scores: {output}")


def encode(
    model: tyro.conf.Positional[str],
    /,
    *,
    input: Path,
    output: Path,
    kind: Literal["query", "document"] = "document",
    truncate_dim: int | None = None,
    pooling: _Pooling = None,
    parts: tuple[Path, ...] = (),
) -> None:
    """Embed the texts of a file as float32 vectors, one row per text.

    Args:
      model: Folder of a run or of a model, or a name on the Hugging Face Hub.
      input: UTF-8 file with one text per line; or rows {"text": str} if its name ends in .jsonl or
        .jsonl.gz, for texts of several lines.
      output: NumPy file to write.
      kind: Whether to use the prompt and maximum length of queries or of documents.
      truncate_dim: Number of leading values of each embedding to keep (Matryoshka).
      pooling: Pooling of a model whose folder does not specify it.
      parts: Python files that define the encoder which the model's folder names.
    """
    import numpy as np

    from contrastive.files import replacing

    texts = read_texts(input)
    check_output(output)
    # Before encoding, which may take an hour, a folder that cannot be written fails.
    with replacing(output) as partial, fields_named(_flag), open(partial, "wb") as file:
        encoder = _load(model, pooling, parts)
        embed = encoder.encode_queries if kind == "query" else encoder.encode_documents
        vectors = embed(texts, truncate_dim=truncate_dim)
        np.save(file, vectors)
    print(f"{output}: {vectors.shape[0]} vectors of width {vectors.shape[1]}")


def search(
    run: tyro.conf.Positional[str],
    query: tyro.conf.Positional[str],
    /,
    *,
    corpus: Path | None = None,
    top: int = 3,
    pooling: _Pooling = None,
    parts: tuple[Path, ...] = (),
) -> None:
    """Show the documents nearest to a query.

    Args:
      run: Folder of a run or of its model; with --corpus also the folder of any model, or a name on
        the Hugging Face Hub.
      query: Text of the query.
      corpus: File of documents, as --input of encode; the run's held-out documents by default.
      top: Number of documents to show.
      pooling: Pooling of a model whose folder does not specify it.
      parts: Python files that define the encoder which the model's folder names.
    """
    from contrastive.tasks.retrieval.topk import top_k

    if top < 1:
        raise ConfigError(f"--top is {top}, but must be at least 1")
    texts = _held_out(Path(run)) if corpus is None else read_texts(corpus)
    encoder = _load(run, pooling, parts)
    vectors = encoder.encode_documents(texts)
    scores, places = top_k(encoder.encode_queries([query]), vectors, min(top, len(texts)))
    print(f"{query!r} in {len(texts)} documents\n")
    for rank, (score, place) in enumerate(zip(scores[0], places[0], strict=True), start=1):
        shown = texts[place].split("\n")
        more = f"\n   ... {len(shown) - 8} more lines" if len(shown) > 8 else ""
        print(f"{rank}. similarity {score:.3f}")
        print("\n".join(f"   {line[:96]}" for line in shown[:8]) + more + "\n")


def _load(model: str, pooling: _Pooling, parts: tuple[Path, ...]) -> Encoder:
    from contrastive.encoder import Encoder
    from contrastive.python_files import execute

    for file in parts:
        execute(file)
    return Encoder.from_pretrained(model, pooling=pooling)


def _held_out(run: Path) -> list[str]:
    from contrastive.interop.run_model import run_folder
    from contrastive.tasks._retrieval import Retrieval
    from contrastive.training.workdir import load_config

    try:
        config = load_config(run_folder(run))
    except FolderError as error:
        raise FolderError(f"{error} (or give --corpus FILE, one document per line)") from None
    for evaluator in (*config.final_evaluators.values(), *config.evaluators.values()):
        if isinstance(evaluator, Retrieval) and not evaluator.is_inert:
            # A text that is ranked under several prompts is listed once.
            return list(dict.fromkeys(evaluator.load().corpus.values()))
    raise ConfigError(
        f"the run in {run} has no retrieval task; give --corpus FILE, one document per line"
    )

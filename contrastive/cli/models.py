"""Commands of trained models: evaluate, encode and search."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import pydantic
import tyro

from contrastive.errors import ConfigError

_Pooling: TypeAlias = Literal["mean", "cls", "last_token"] | None


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
    with _whole(output) as file:  # opened first: an hour of encoding needs a place to go
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


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the path's place once it is whole; after an error there is what was."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give the name of a file in it")
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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

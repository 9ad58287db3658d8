"""Shared by the papers: data sets, the base experiment and plotting."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from contrastive.config import (
    Checkpoint,
    Data,
    Experiment,
    Jsonl,
    Objective,
    Optimizer,
    WordPiece,
)
from contrastive.errors import ConfigError, DataError
from contrastive.papers import Curve, Setting
from contrastive.tasks import Evaluator

Row = dict[str, Any]
TEMPERATURE = "loss.temperature"

# The full setting of papers that train two towers; here, the towers are for two languages.
BILINGUAL = Setting(
    steps=10000,
    batch_size=4096,
    learning_rate=5e-5,
    model=Checkpoint(name="FacebookAI/xlm-roberta-base"),
    values=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
)


class ScoredPairs(NamedTuple):
    """Sentence pairs with human similarity scores from 0 to 5."""

    first: list[str]
    second: list[str]
    scores: list[float]


class CaptionSearch(NamedTuple):
    """The first caption of each image as a query, and the other captions as documents.

    Attributes:
      queries: Captions [Q].
      documents: Captions [N].
      answers: For each document, the index of the query of the same image [N].
    """

    queries: list[str]
    documents: list[str]
    answers: np.ndarray


def experiment(
    name: str, setting: Setting, train: str, scores: Evaluator, *, length: int = 32
) -> Experiment:
    """Makes the base experiment: Adam with a constant learning rate, on rows of short texts.

    Args:
      name: Name of the experiment.
      setting: Scale of the reproduction.
      train: Path of the training rows.
      scores: Evaluator of the trained encoders.
      length: Maximum number of tokens per text.

    Returns:
      The experiment.
    """
    from_scratch = not isinstance(setting.model, Checkpoint)
    return Experiment(
        name=name,
        steps=setting.steps,
        batch_size=setting.batch_size,
        data=Data(
            train=Jsonl(path=train),
            tokenizer=WordPiece(vocab_size=8192) if from_scratch else None,
            query_max_length=length,
            document_max_length=length,
        ),
        model=setting.model,
        loss=Objective(temperature=0.05),
        optimizer=Optimizer(
            learning_rate=setting.learning_rate,
            schedule="constant",
            weight_decay=0.0,
            max_grad_norm=None,
        ),
        log_steps=100,
        final_evaluators={"scores": scores},
    )


@contextlib.contextmanager
def papers_extra() -> Iterator[None]:
    """Converts a failed import inside a `with` block to an error that says what to install.

    Raises:
      ConfigError: If a package is missing.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"this paper needs {error.name}, which is not installed; run pip install "
            '"contrastive[papers]"'
        ) from None


def line(plot: Any, points: Curve, label: str, **style: Any) -> None:
    """Plots means with a band for their 95% intervals.

    Args:
      plot: Matplotlib axes.
      points: Means and intervals by the value on the x axis.
      label: Label in the legend.
      **style: Options of the line, such as its color.
    """
    xs, ys = list(points), list(points.values())
    (drawn,) = plot.plot(xs, [y.mean for y in ys], marker="o", ms=4, label=label, **style)
    low, high = [y.low for y in ys], [y.high for y in ys]
    plot.fill_between(xs, low, high, color=drawn.get_color(), alpha=0.2, lw=0)


def read_rows(path: Path) -> list[Row]:
    """Reads the rows of a JSON-lines file, or of the same file with the suffix .gz.

    Args:
      path: The file, without the suffix .gz.

    Returns:
      The rows, in order.

    Raises:
      DataError: If neither file exists.
    """
    packed = path.with_name(path.name + ".gz")
    for file, opener in ((path, open), (packed, gzip.open)):
        if file.is_file():
            with opener(file, "rt", encoding="utf-8", newline="\n") as lines:
                return [json.loads(line) for line in lines]
    raise DataError(
        f"{path}: no such file, nor {packed.name}; {Path(__file__).with_name('README.md')} lists "
        "the files of the data folder and where to get them"
    )


def write_rows(path: Path, rows: Iterable[Row]) -> str:
    """Writes training rows to a JSON-lines file; a sweep refuses to resume with different rows.

    Args:
      path: The file to write.
      rows: Rows with "query", "pos" and optional other fields.

    Returns:
      The path as a string, for a config.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    partial.write_text("".join(lines), encoding="utf-8")
    partial.replace(path)
    return str(path)


def captions(data: Path, split: str) -> list[list[str]]:
    """Reads the five English captions of each image of Multi30k.

    Args:
      data: The data folder.
      split: `train` or `test`.

    Returns:
      Five captions per image.

    Raises:
      DataError: If the file does not exist.
    """
    return [row["captions"] for row in read_rows(data / "multi30k" / f"captions.{split}.jsonl")]


def caption_search(data: Path, split: str) -> CaptionSearch:
    """Reads Multi30k as a search: the first caption of an image should find its other captions.

    Args:
      data: The data folder.
      split: `train` or `test`.

    Returns:
      Queries, documents and answers.

    Raises:
      DataError: If the file does not exist.
    """
    images = captions(data, split)
    others = [text for texts in images for text in texts[1:]]
    return CaptionSearch(
        [texts[0] for texts in images], others, np.repeat(np.arange(len(images)), 4)
    )


def parallel(data: Path, split: str) -> list[tuple[str, str]]:
    """Reads the English captions of Multi30k, each with its German translation.

    Args:
      data: The data folder.
      split: `train` or `test`.

    Returns:
      Pairs of an English and a German caption.

    Raises:
      DataError: If the file does not exist.
    """
    rows = read_rows(data / "multi30k" / f"parallel.{split}.jsonl")
    return [(row["en"], row["de"]) for row in rows]


def similar_pairs(data: Path, split: str) -> ScoredPairs:
    """Reads the scored sentence pairs of STS-B.

    Args:
      data: The data folder.
      split: Name of the file, such as `dev`.

    Returns:
      The pairs and their scores.

    Raises:
      DataError: If the file does not exist.
    """
    rows = read_rows(data / "stsb" / f"{split}.jsonl")
    first, second = ([row[name] for row in rows] for name in ("sentence1", "sentence2"))
    return ScoredPairs(first, second, [row["score"] for row in rows])


def intents(data: Path, split: str) -> tuple[list[str], list[str]]:
    """Reads the utterances of CLINC150 and their intents.

    Args:
      data: The data folder.
      split: `train` or `test`.

    Returns:
      The utterances, and as many names of intents.

    Raises:
      DataError: If the file does not exist.
    """
    rows = read_rows(data / "clinc150" / f"{split}.jsonl")
    return [row["text"] for row in rows], [row["label"] for row in rows]

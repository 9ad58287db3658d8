"""Shared by the papers: data sets, the base experiment, metrics and plotting."""

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
    """Plots means with a band for their 95% intervals."""
    xs, ys = list(points), list(points.values())
    (drawn,) = plot.plot(xs, [y.mean for y in ys], marker="o", ms=4, label=label, **style)
    low, high = [y.low for y in ys], [y.high for y in ys]
    plot.fill_between(xs, low, high, color=drawn.get_color(), alpha=0.2, lw=0)


def read_rows(path: Path) -> list[Row]:
    """Reads the rows of a JSON-lines file, or of the same file with the suffix .gz.

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
    """Reads the five English captions of each image of Multi30k; `split` is train or test."""
    return [row["captions"] for row in read_rows(data / "multi30k" / f"captions.{split}.jsonl")]


def caption_search(data: Path, split: str) -> CaptionSearch:
    """Reads Multi30k as a search: the first caption of an image should find its other captions."""
    images = captions(data, split)
    others = [text for texts in images for text in texts[1:]]
    return CaptionSearch(
        [texts[0] for texts in images], others, np.repeat(np.arange(len(images)), 4)
    )


def parallel(data: Path, split: str) -> list[tuple[str, str]]:
    """Reads the English captions of Multi30k, each with its German translation."""
    rows = read_rows(data / "multi30k" / f"parallel.{split}.jsonl")
    return [(row["en"], row["de"]) for row in rows]


def similar_pairs(data: Path, split: str) -> ScoredPairs:
    """Reads the scored sentence pairs of STS-B."""
    rows = read_rows(data / "stsb" / f"{split}.jsonl")
    first, second = ([row[name] for row in rows] for name in ("sentence1", "sentence2"))
    return ScoredPairs(first, second, [row["score"] for row in rows])


def intents(data: Path, split: str) -> tuple[list[str], list[str]]:
    """Reads the utterances of CLINC150 and their intents; `split` is train or test."""
    rows = read_rows(data / "clinc150" / f"{split}.jsonl")
    return [row["text"] for row in rows], [row["label"] for row in rows]


def spearman(a: np.ndarray, b: np.ndarray, scores: list[float]) -> float:
    """Computes the Spearman correlation of the cosines of pairs with their scores."""
    with papers_extra():
        from scipy.stats import spearmanr

    result: Any = spearmanr(np.sum(unit(a) * unit(b), axis=1), scores)
    return float(result.statistic)


def recall_at_1(queries: np.ndarray, documents: np.ndarray, answers: np.ndarray) -> float:
    """Computes recall@1: the fraction of queries whose nearest document is relevant.

    Args:
      queries: Unit vectors [Q, D].
      documents: Unit vectors [N, D].
      answers: For each document, the index of the query that it answers, or -1 [N].

    Returns:
      A fraction between 0 and 1.
    """
    nearest = np.argmax(queries @ documents.T, axis=1)
    return float(np.mean(answers[nearest] == np.arange(len(queries))))


def nearest_class(
    known: np.ndarray, labels: list[str], asked: np.ndarray, truth: list[str], k: int = 10
) -> float:
    """Computes the accuracy of k-NN classification; nearer neighbors break ties.

    Args:
      known: Unit vectors of the labeled texts [N, D].
      labels: N labels.
      asked: Unit vectors of the texts to classify [Q, D].
      truth: Q true labels.
      k: Number of neighbors that vote.

    Returns:
      The accuracy, between 0 and 1.
    """
    places = np.argsort(-(asked @ known.T), axis=1)[:, :k]
    names, numbers = np.unique(labels, return_inverse=True)
    votes = np.zeros((len(asked), len(names)))
    for place in range(k):
        # Nearer neighbors have slightly more weight, which breaks ties.
        weight = 1.0 + 1e-3 * (k - place)
        votes[np.arange(len(asked)), numbers[places[:, place]]] += weight
    return float(np.mean(names[votes.argmax(axis=1)] == np.asarray(truth)))


def mean_average_precision(x: np.ndarray, labels: list[str]) -> float:
    """Computes MAP@R, where R is the number of other texts with the same label.

    Args:
      x: Unit vectors [N, D].
      labels: N labels, each shared by at least two texts.

    Returns:
      MAP@R, between 0 and 1.

    Source:
      Musgrave et al., 2020, arXiv:2003.08505.
    """
    numbers = np.unique(labels, return_inverse=True)[1]
    cosines = x @ x.T
    np.fill_diagonal(cosines, -np.inf)
    same = numbers[np.argsort(-cosines, axis=1)] == numbers[:, None]
    others = same[:, :-1].sum(axis=1)  # the last text in each ranking is the query itself
    ranks = np.arange(1, len(x) + 1)
    hits = same & (ranks <= others[:, None])
    return float(np.mean((np.cumsum(hits, axis=1) / ranks * hits).sum(axis=1) / others))


def uniformity(x: np.ndarray) -> float:
    """Computes the uniformity of unit vectors: log of the mean over pairs of exp(-2 distance^2)."""
    squared = np.clip(2.0 - 2.0 * (x @ x.T), 0.0, None)
    apart = ~np.eye(len(x), dtype=bool)
    return float(np.log(np.mean(np.exp(-2.0 * squared[apart]))))


def tolerance(x: np.ndarray, labels: list[str]) -> float:
    """Computes the tolerance of unit vectors: the mean cosine of two texts of the same class."""
    numbers = np.unique(labels, return_inverse=True)[1]
    same = (numbers[:, None] == numbers[None, :]) & ~np.eye(len(x), dtype=bool)
    return float((x @ x.T)[same].mean())


def unit(x: np.ndarray) -> np.ndarray:
    """Scales vectors to unit length."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

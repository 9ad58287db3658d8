"""What these papers share: data sets, an experiment, scores and lines of pictures."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from contrastive.config import (
    Checkpoint,
    Data,
    Experiment,
    Jsonl,
    Loss,
    Optimizer,
    WordPiece,
)
from contrastive.errors import DataError
from contrastive.lab.claims import Curve
from contrastive.lab.paper import Setting

Row = dict[str, Any]
TEMPERATURE = "loss.temperature"

# For papers of two towers, here of two languages.
BILINGUAL = Setting(
    steps=10000,
    batch_size=4096,
    learning_rate=5e-5,
    model=Checkpoint(name="FacebookAI/xlm-roberta-base"),
    values=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
)


def experiment(name: str, setting: Setting, train: str, *, length: int = 32) -> Experiment:
    """What all these runs are: Adam at a constant rate, on rows of short texts.

    Args:
      name: Of the experiment.
      setting: Its size.
      train: Path of the rows.
      length: Most tokens of a text.
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
        loss=Loss(temperature=0.05),
        optimizer=Optimizer(
            learning_rate=setting.learning_rate,
            schedule="constant",
            weight_decay=0.0,
            max_grad_norm=None,
        ),
        log_steps=100,
    )


def line(plot: Any, found: Curve, label: str, **style: Any) -> None:
    """Means with a band of their 95 % intervals."""
    xs, ys = list(found), list(found.values())
    (drawn,) = plot.plot(xs, [y.mean for y in ys], marker="o", ms=4, label=label, **style)
    low, high = [y.low for y in ys], [y.high for y in ys]
    plot.fill_between(xs, low, high, color=drawn.get_color(), alpha=0.2, lw=0)


def read_rows(path: Path) -> list[Row]:
    """Rows of a JSON-lines file, or of the same with .gz added.

    Raises:
      DataError: If neither is there.
    """
    packed = path.with_name(path.name + ".gz")
    for file, opener in ((path, open), (packed, gzip.open)):
        if file.is_file():
            with opener(file, "rt", encoding="utf-8", newline="\n") as lines:
                return [json.loads(line) for line in lines]
    raise DataError(
        f"{path}: no such file, nor {packed.name}; experiments/papers/README.md says what the data "
        "folder holds and where to get it"
    )


def write_rows(path: Path, rows: Iterable[Row]) -> str:
    """Writes rows to train on; a sweep refuses to go on with others than it began with.

    Args:
      path: Where to.
      rows: With "query", "pos" and perhaps more.

    Returns:
      The path, as a config takes it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    partial.write_text("".join(lines), encoding="utf-8")
    partial.replace(path)
    return str(path)


def captions(data: Path, split: str) -> list[list[str]]:
    """Multi30k: five English captions of each image; `split` is train, val or test."""
    return [row["captions"] for row in read_rows(data / "multi30k" / f"captions.{split}.jsonl")]


def parallel(data: Path, split: str) -> list[tuple[str, str]]:
    """Multi30k: an English caption of each image, and its German translation."""
    rows = read_rows(data / "multi30k" / f"parallel.{split}.jsonl")
    return [(row["en"], row["de"]) for row in rows]


def similar_pairs(data: Path, split: str) -> tuple[list[str], list[str], list[float]]:
    """STS-B: sentences, others, and how similar people find them, 0 to 5."""
    rows = read_rows(data / "stsb" / f"{split}.jsonl")
    first, second = ([row[name] for row in rows] for name in ("sentence1", "sentence2"))
    return first, second, [row["score"] for row in rows]


def intents(data: Path, split: str) -> tuple[list[str], list[str]]:
    """CLINC150: utterances and their intents, 150 of them; `split` is train, val or test."""
    rows = read_rows(data / "clinc150" / f"{split}.jsonl")
    return [row["text"] for row in rows], [row["label"] for row in rows]


def spearman(a: np.ndarray, b: np.ndarray, scores: list[float]) -> float:
    """Rank correlation of the cosines of pairs with scores."""
    found: Any = spearmanr(np.sum(unit(a) * unit(b), axis=1), scores)
    return float(found.statistic)


def recall_at_1(queries: np.ndarray, documents: np.ndarray, answers: np.ndarray) -> float:
    """Share of queries whose nearest document is of the same number.

    Args:
      queries: Unit vectors [Q, D].
      documents: Unit vectors [N, D].
      answers: For each document the query it answers [N].
    """
    nearest = np.argmax(queries @ documents.T, axis=1)
    return float(np.mean(answers[nearest] == np.arange(len(queries))))


def nearest_class(
    known: np.ndarray, labels: list[str], asked: np.ndarray, truth: list[str], k: int = 10
) -> float:
    """Accuracy of the vote of the k nearest known texts, ties for the nearer."""
    places = np.argsort(-(asked @ known.T), axis=1)[:, :k]
    names, numbers = np.unique(labels, return_inverse=True)
    votes = np.zeros((len(asked), len(names)))
    for place in range(k):
        # Nearer texts weigh a little more: a tie goes to them.
        weight = 1.0 + 1e-3 * (k - place)
        votes[np.arange(len(asked)), numbers[places[:, place]]] += weight
    return float(np.mean(names[votes.argmax(axis=1)] == np.asarray(truth)))


def mean_average_precision(x: np.ndarray, labels: list[str]) -> float:
    """MAP@R: of the R nearest texts, where R others have the text's label.

    Args:
      x: Unit vectors [N, D].
      labels: N, each of two texts at least.

    Source:
      Musgrave et al., 2020, arXiv:2003.08505.
    """
    numbers = np.unique(labels, return_inverse=True)[1]
    cosines = x @ x.T
    np.fill_diagonal(cosines, -np.inf)
    same = numbers[np.argsort(-cosines, axis=1)] == numbers[:, None]
    others = same[:, :-1].sum(axis=1)  # the last is the text itself
    ranks = np.arange(1, len(x) + 1)
    hits = same & (ranks <= others[:, None])
    return float(np.mean((np.cumsum(hits, axis=1) / ranks * hits).sum(axis=1) / others))


def uniformity(x: np.ndarray) -> float:
    """log mean over pairs of exp(-2 distance^2), of unit vectors."""
    squared = np.clip(2.0 - 2.0 * (x @ x.T), 0.0, None)
    apart = ~np.eye(len(x), dtype=bool)
    return float(np.log(np.mean(np.exp(-2.0 * squared[apart]))))


def tolerance(x: np.ndarray, labels: list[str]) -> float:
    """Mean cosine of two texts of one class, of unit vectors."""
    numbers = np.unique(labels, return_inverse=True)[1]
    same = (numbers[:, None] == numbers[None, :]) & ~np.eye(len(x), dtype=bool)
    return float((x @ x.T)[same].mean())


def unit(x: np.ndarray) -> np.ndarray:
    """Vectors of length 1."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

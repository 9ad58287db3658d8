"""Shared by the papers: scores of embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np

from contrastive.experiments.papers.paper_data import papers_extra


def spearman(a: np.ndarray, b: np.ndarray, scores: list[float]) -> float:
    """Computes the Spearman correlation of the cosines of pairs with their scores.

    Args:
      a: Embeddings of the first texts [N, D], of any length.
      b: Embeddings of the second texts [N, D].
      scores: N scores.

    Returns:
      The correlation, between -1 and 1.

    Raises:
      ConfigError: If SciPy is missing.
    """
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
    """Computes the uniformity of unit vectors: log of the mean over pairs of exp(-2 distance^2).

    Args:
      x: Unit vectors [N, D].

    Returns:
      The uniformity, at most 0; lower is more uniform.

    Source:
      Wang & Isola, 2020, arXiv:2005.10242.
    """
    squared = np.clip(2.0 - 2.0 * (x @ x.T), 0.0, None)
    apart = ~np.eye(len(x), dtype=bool)
    return float(np.log(np.mean(np.exp(-2.0 * squared[apart]))))


def tolerance(x: np.ndarray, labels: list[str]) -> float:
    """Computes the tolerance of unit vectors: the mean cosine of two texts of the same class.

    Args:
      x: Unit vectors [N, D].
      labels: N labels, of which at least two are equal.

    Returns:
      The tolerance, between -1 and 1.

    Source:
      Wang & Liu, 2021, arXiv:2012.09740.
    """
    numbers = np.unique(labels, return_inverse=True)[1]
    same = (numbers[:, None] == numbers[None, :]) & ~np.eye(len(x), dtype=bool)
    return float((x @ x.T)[same].mean())


def unit(x: np.ndarray) -> np.ndarray:
    """Scales vectors to unit length.

    Args:
      x: Vectors [N, D].

    Returns:
      Unit vectors [N, D]; a vector of zeros stays one.
    """
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

"""BM25, the lexical baseline."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import numpy as np


def rank(queries: Sequence[str], corpus: Sequence[str], *, k: int) -> np.ndarray:
    """Ranks a corpus by BM25: k1 = 1.2, b = 0.75, lowercased words, no stemming, no stop words.

    Args:
      queries: Q texts.
      corpus: N texts.
      k: Number of documents per query.

    Returns:
      Corpus indices [Q, k], best first, with ties in corpus order; -1 if the corpus has fewer than
      k documents.

    Source:
      Robertson & Zaragoza, 2009, doi:10.1561/1500000019.
    """
    # Importing bm25s runs a JAX computation, after which jax.distributed cannot be initialized.
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)
    documents = [_words(text) for text in corpus]
    retriever = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    if any(documents):  # bm25s fails on a corpus without words
        retriever.index(documents, show_progress=False)
    ranking = np.full((len(queries), k), -1)
    for row, query in zip(ranking, queries, strict=True):
        words = _words(query)
        can_match = any(documents) and words
        scores = retriever.get_scores(words) if can_match else np.zeros(len(corpus))
        best = np.argsort(-scores, kind="stable")[:k]
        row[: len(best)] = best
    return ranking


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())

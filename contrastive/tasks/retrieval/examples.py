"""What a few queries retrieved, for reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from contrastive.tasks.retrieval.collections import Collection

_QUERIES, _DOCUMENTS, _CHARACTERS = 12, 3, 240


class MetricsWithExamples(dict[str, float]):
    """Metrics by name, with examples of what was retrieved.

    Attributes:
      examples: What `examples_of` returned.
    """

    def __init__(self, metrics: Mapping[str, float], examples: list[dict[str, Any]]):
        super().__init__(metrics)
        self.examples = examples


def examples_of(collection: Collection, ranking: np.ndarray) -> list[dict[str, Any]]:
    """Describes the rankings of a few judged queries, which are the same for every encoder.

    Args:
      collection: Queries, corpus and judgments.
      ranking: Corpus indices of each query's documents [Q, k], best first; -1 for no document.

    Returns:
      For each of up to 12 queries, spread evenly over the collection: `query`, its text; `rank` of
      the first relevant document from 1, None if it is not among the k; and `documents`, the first
      three, each with its `text` and whether it is `relevant`. Long texts are cut.
    """
    ids, texts = list(collection.corpus), list(collection.corpus.values())
    queries = list(collection.queries.items())
    judged = [place for place, (id, _) in enumerate(queries) if collection.relevant.get(id)]
    count = min(_QUERIES, len(judged))
    examples = []
    for place in [judged[n * len(judged) // count] for n in range(count)]:
        id, query = queries[place]
        row = [int(j) for j in ranking[place] if j >= 0]
        hits = [rank for rank, j in enumerate(row, start=1) if ids[j] in collection.relevant[id]]
        documents = [
            {"text": _short(texts[j]), "relevant": ids[j] in collection.relevant[id]}
            for j in row[:_DOCUMENTS]
        ]
        examples.append(
            {"query": _short(query), "rank": min(hits, default=None), "documents": documents}
        )
    return examples


def _short(text: str) -> str:
    return text if len(text) <= _CHARACTERS else text[: _CHARACTERS - 3] + "..."

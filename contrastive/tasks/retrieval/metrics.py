"""Computes ranking metrics with ir-measures."""

from __future__ import annotations

import ir_measures
import numpy as np
from ir_measures import AP, RR, R, nDCG

from contrastive.tasks.retrieval.collections import Collection

METRICS = {
    "nDCG@10": nDCG @ 10,
    "MRR@10": RR @ 10,
    "Recall@10": R @ 10,
    "Recall@100": R @ 100,
    "MAP": AP,
}
DEPTH = 100  # documents ranked per query; MAP is truncated there


def score(collection: Collection, ranking: np.ndarray) -> dict[str, float]:
    """Computes the metrics of a ranking, averaged over all judged queries.

    Args:
      collection: Queries, corpus and judgments.
      ranking: Corpus indices of each query's documents [Q, k], best first; -1 for no document.

    Returns:
      Metrics by name, from 0 to 1.
    """
    documents = list(collection.corpus)
    # Pass ranks as scores, so that ir-measures does not break ties again.
    run = {
        query: {documents[j]: float(-place) for place, j in enumerate(row) if j >= 0}
        for query, row in zip(collection.queries, ranking.tolist(), strict=True)
    }
    measured = ir_measures.calc_aggregate(list(METRICS.values()), collection.relevant, run)
    return {name: float(measured[measure]) for name, measure in METRICS.items()}

"""Rankings to numbers, through ir-measures."""

from __future__ import annotations

from collections.abc import Sequence

import ir_measures
import numpy as np
from ir_measures import AP, RR, R, nDCG

from contrastive.evaluation.task import Retrieval

METRICS = {
    "nDCG@10": nDCG @ 10,
    "MRR@10": RR @ 10,
    "Recall@10": R @ 10,
    "Recall@100": R @ 100,
    "MAP": AP,
}
DEPTH = 100  # documents ranked a query; MAP is cut there


def score(task: Retrieval, ranking: np.ndarray) -> dict[str, float]:
    """Means over all judged queries.

    Args:
      task: The task.
      ranking: Places in `task.corpus` of each query's documents [Q, k], best first; -1 for none.

    Returns:
      Metric by name, 0 to 1.
    """
    documents = list(task.corpus)
    # Ranks as scores: ties were broken when the ranking was made, not here.
    run = {
        query: {documents[j]: float(-place) for place, j in enumerate(row) if j >= 0}
        for query, row in zip(task.queries, ranking.tolist(), strict=True)
    }
    measured = ir_measures.calc_aggregate(list(METRICS.values()), task.relevant, run)
    return {name: float(measured[measure]) for name, measure in METRICS.items()}


def table(rows: Sequence[tuple[str, dict[str, float]]], names: Sequence[str]) -> str:
    """A text table, one row a system.

    >>> print(table([("BM25", {"MRR@10": 0.5})], ["MRR@10"]))
                  MRR@10
    BM25           0.500
    """
    width = max(12, *(len(name) + 2 for name, _ in rows))
    lines = [" " * width + "".join(f"{name:>{max(8, len(name) + 2)}}" for name in names)]
    for system, values in rows:
        cells = "".join(f"{values[name]:>{max(8, len(name) + 2)}.3f}" for name in names)
        lines.append(f"{system:<{width}}{cells}")
    return "\n".join(lines)

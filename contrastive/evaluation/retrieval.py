"""Scores an encoder, and BM25, on a retrieval task."""

from __future__ import annotations

from contrastive.evaluation import bm25
from contrastive.evaluation.encoder import Encoder
from contrastive.evaluation.metrics import DEPTH, score
from contrastive.evaluation.task import Retrieval
from contrastive.evaluation.topk import top_k
from contrastive.types import Params


def evaluate(encoder: Encoder, params: Params, task: Retrieval) -> dict[str, float]:
    """Ranks the whole corpus for each query by the dot product of embeddings.

    Args:
      encoder: Texts to vectors.
      params: The encoder's parameters.
      task: Queries, corpus and judgements.

    Returns:
      Metric by name, 0 to 1.
    """
    documents = encoder.documents(params, list(task.corpus.values()))
    queries = encoder.queries(params, list(task.queries.values()))
    return score(task, top_k(queries, documents, DEPTH)[1])


def evaluate_bm25(task: Retrieval) -> dict[str, float]:
    """The same task and metrics by BM25."""
    return score(task, bm25.rank(list(task.queries.values()), list(task.corpus.values()), k=DEPTH))

"""Scores an encoder, and BM25, on a retrieval task."""

from __future__ import annotations

from collections.abc import Mapping

from contrastive.evaluation import bm25
from contrastive.evaluation.encoder import Encoder
from contrastive.evaluation.metrics import DEPTH, score
from contrastive.evaluation.task import Retrieval
from contrastive.evaluation.topk import top_k
from contrastive.types import Params


def evaluate(encoder: Encoder, params: Params, task: Retrieval) -> dict[str, float]:
    """Ranks the whole corpus for each query by the dot product of embeddings.

    Args:
      encoder: Texts to vectors, after the task's prompts, or else its own.
      params: The encoder's parameters.
      task: Queries, corpus and judgements.

    Returns:
      Metric by name, 0 to 1.
    """
    texts = _prompted(task.corpus, task.document_prompts, encoder.document_prompt)
    documents = encoder.encode(params, texts, encoder.document_length, "documents")
    texts = _prompted(task.queries, task.query_prompts, encoder.query_prompt)
    queries = encoder.encode(params, texts, encoder.query_length, "queries")
    return score(task, top_k(queries, documents, DEPTH)[1])


def _prompted(texts: Mapping[str, str], prompts: Mapping[str, str], usual: str) -> list[str]:
    return [prompts.get(id, usual) + text for id, text in texts.items()]


def evaluate_bm25(task: Retrieval) -> dict[str, float]:
    """The same task and metrics by BM25, to which prompts say nothing."""
    return score(task, bm25.rank(list(task.queries.values()), list(task.corpus.values()), k=DEPTH))

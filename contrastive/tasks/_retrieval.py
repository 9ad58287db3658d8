"""Evaluates retrieval: each query ranks a whole corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from contrastive.errors import DataError
from contrastive.sources._source import Source
from contrastive.tasks._evaluator import Evaluator

if TYPE_CHECKING:
    from contrastive.encoder import Encoder
    from contrastive.tasks.retrieval.collections import Collection

__all__ = ["Retrieval"]


class Retrieval(Evaluator):
    """nDCG@10, MRR@10, Recall@10, Recall@100 and MAP of ranking a corpus for each query.

    The corpus is ranked exactly, by the dot product of embeddings. MAP is truncated at 100
    documents.
    """

    data: str | Source
    """A folder in the layout of BEIR (corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv) or
    FlagEmbedding (corpus.jsonl, SPLIT_queries.jsonl, SPLIT_qrels.jsonl). Alternatively, held-out
    rows in the format of training rows, as a .jsonl file or a source; each query ranks all of
    their documents."""
    split: str = "test"
    """Split of the relevance judgments in a folder."""
    row_prompt: str = "{}"
    """Prefix of the queries of rows with a "prompt"; {} stands for that prompt."""

    main_metric: ClassVar[str] = "nDCG@10"
    metric_names: ClassVar[tuple[str, ...]] = (
        "nDCG@10",
        "MRR@10",
        "Recall@10",
        "Recall@100",
        "MAP",
    )

    def load(self) -> Collection:
        from contrastive.data.training_sources import open_source
        from contrastive.sources._jsonl import Jsonl
        from contrastive.tasks.retrieval.collections import from_examples, load_folder

        source = self.data
        if isinstance(source, str):
            if not Path(source).is_file():
                return load_folder(Path(source), self.split)
            source = Jsonl(path=source)
        examples = open_source(source)
        if examples.has_labeled_texts:
            raise DataError(
                f'{examples!r} has rows {{"text", "label"}}, which do not say what a query should '
                "find; evaluate them with Classification or Clustering"
            )
        return from_examples(examples, "held-out rows", self.row_prompt)

    def evaluate(self, encoder: Encoder, data: Collection) -> dict[str, float]:
        from contrastive.tasks.retrieval.examples import MetricsWithExamples, examples_of
        from contrastive.tasks.retrieval.metrics import DEPTH, score
        from contrastive.tasks.retrieval.topk import top_k

        documents = encoder.encode(
            _document_texts(data, encoder), max_length=encoder.document_length, label="documents"
        )
        queries = encoder.encode(
            [
                data.query_prompts.get(id, encoder.query_prompt) + text
                for id, text in data.queries.items()
            ],
            max_length=encoder.query_length,
            label="queries",
        )
        ranking = top_k(queries, documents, DEPTH)[1]
        return MetricsWithExamples(score(data, ranking), examples_of(data, ranking))

    def describe(self, data: Collection) -> dict[str, Any]:
        return {
            "task": data.name,
            "queries": len(data.queries),
            "documents": len(data.corpus),
            "fingerprint": data.fingerprint,
        }

    def baselines(self, data: Collection) -> dict[str, dict[str, float]]:
        from contrastive.tasks.retrieval.bm25 import rank
        from contrastive.tasks.retrieval.metrics import DEPTH, score

        texts = list(data.queries.values()), list(data.corpus.values())
        return {"BM25": score(data, rank(*texts, k=DEPTH))}


def _document_texts(data: Collection, encoder: Encoder) -> list[str]:
    def prompt_of(id: str) -> str:
        if id not in data.document_prompts:
            return encoder.document_prompt
        prompt = data.document_prompts[id]
        return encoder.query_prompt if prompt is None else prompt

    return [prompt_of(id) + text for id, text in data.corpus.items()]

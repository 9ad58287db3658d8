"""Evaluates reranking: each query has its own candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from contrastive.lazy import np
from contrastive.sources._source import Source
from contrastive.tasks._evaluator import Evaluator

if TYPE_CHECKING:
    from contrastive.encoder import Encoder
    from contrastive.sources._examples import Examples

__all__ = ["Reranking"]


class Reranking(Evaluator):
    """MAP, MRR@10 and nDCG@10 of ranking each query's "pos" and "neg" documents.

    Ties are broken against the encoder: a negative that is as similar as a positive ranks first.
    """

    data: str | Source
    """Rows of {"query": str, "pos": [str], "neg": [str]}, as a .jsonl file or a source. Each
    row needs at least one document in "neg"."""
    row_prompt: str = "{}"
    """Prefix of the queries of rows with a "prompt"; {} stands for that prompt."""

    main_metric: ClassVar[str] = "MAP"
    metric_names: ClassVar[tuple[str, ...]] = ("MAP", "MRR@10", "nDCG@10")

    def load(self) -> Examples:
        from contrastive.data.training_sources import open_source
        from contrastive.sources._jsonl import Jsonl

        source = Jsonl(path=self.data) if isinstance(self.data, str) else self.data
        examples = open_source(source)
        examples.check_own_negatives()
        return examples

    def evaluate(self, encoder: Encoder, data: Examples) -> dict[str, float]:
        import ir_measures
        from ir_measures import AP, RR, nDCG

        rows = [data[number] for number in range(len(data))]
        queries = [
            _query_prompt(row, self.row_prompt, encoder.query_prompt) + row.query for row in rows
        ]
        candidates = [
            (
                _query_prompt(row, self.row_prompt, encoder.query_prompt)
                if row.is_symmetric
                else None,
                text,
            )
            for row in rows
            for text in (*row.positives, *row.negatives)
        ]
        # Encode a text that several queries share only once.
        distinct = {key: number for number, key in enumerate(dict.fromkeys(candidates))}
        vectors = encoder.encode(
            [
                (encoder.document_prompt if prompt is None else prompt) + text
                for prompt, text in distinct
            ],
            max_length=encoder.document_length,
            label="candidates",
        )
        query_vectors = encoder.encode(queries, max_length=encoder.query_length, label="queries")
        keys, run, relevant = iter(candidates), {}, {}
        for number, (row, query) in enumerate(zip(rows, query_vectors, strict=True)):
            count = len(row.positives) + len(row.negatives)
            documents = vectors[[distinct[next(keys)] for _ in range(count)]]
            # Negatives win ties, so that an encoder that maps all texts to one point scores worst.
            order = np.lexsort((np.arange(count) < len(row.positives), -(documents @ query)))
            # Pass ranks as scores, so that the metrics do not break ties again.
            run[str(number)] = {str(place): -float(rank) for rank, place in enumerate(order)}
            relevant[str(number)] = {str(place): 1 for place in range(len(row.positives))}
        metrics = {"MAP": AP, "MRR@10": RR @ 10, "nDCG@10": nDCG @ 10}
        measured = ir_measures.calc_aggregate(list(metrics.values()), relevant, run)
        return {name: float(measured[metric]) for name, metric in metrics.items()}

    def describe(self, data: Examples) -> dict[str, Any]:
        return {"queries": len(data), "fingerprint": data.fingerprint}


def _query_prompt(row: Any, row_prompt: str, default: str) -> str:
    return default if row.prompt is None else row_prompt.replace("{}", row.prompt)

"""Evaluates semantic textual similarity (STS)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from contrastive.errors import DataError
from contrastive.lazy import np
from contrastive.tasks._evaluator import Evaluator
from contrastive.tasks._rows import fingerprint, number, read_columns, text

if TYPE_CHECKING:
    from contrastive.encoder import Encoder

__all__ = ["STS"]


class ScoredPairs(NamedTuple):
    """Sentence pairs with human similarity scores."""

    first: list[str]
    second: list[str]
    scores: list[float]


class STS(Evaluator):
    """Spearman and Pearson correlation of cosines with human similarity scores.

    Source:
      Cer et al., 2017, arXiv:1708.00055 (STS-B); Reimers & Gurevych, 2019, arXiv:1908.10084.
    """

    data: str
    """JSON lines of {"sentence1": str, "sentence2": str, "score": number}, plain or .gz."""

    kind: ClassVar[str] = "sts"
    main_metric: ClassVar[str] = "spearman"
    metric_names: ClassVar[tuple[str, ...]] = ("spearman", "pearson")

    def load(self) -> ScoredPairs:
        columns = {"sentence1": text, "sentence2": text, "score": number}
        data = ScoredPairs(*read_columns(self.data, **columns))
        if len(set(data.scores)) < 2:
            raise DataError(
                f"{self.data}: all scores are {data.scores[0]:g}, so that no correlation is "
                "defined; there must be at least two different scores"
            )
        return data

    def evaluate(self, encoder: Encoder, data: ScoredPairs) -> dict[str, float]:
        from scipy.stats import pearsonr, spearmanr

        cosines = pair_cosines(encoder, data.first, data.second)
        spearman: Any = spearmanr(cosines, data.scores)
        pearson: Any = pearsonr(cosines, data.scores)
        return {"spearman": float(spearman.statistic), "pearson": float(pearson.statistic)}

    def describe(self, data: ScoredPairs) -> dict[str, Any]:
        return {"pairs": len(data.scores), "fingerprint": fingerprint(*data)}


def pair_cosines(encoder: Encoder, first: list[str], second: list[str]) -> Any:
    """Computes the cosine of each pair of texts, which are encoded as documents."""
    a, b = (unit(encoder.encode_documents(texts)) for texts in (first, second))
    return np.sum(a * b, axis=1)


def unit(vectors: Any) -> Any:
    """Scales vectors to unit length."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

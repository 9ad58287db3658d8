"""Evaluates the clustering of texts by their embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from pydantic import Field, PositiveInt

from contrastive.errors import DataError
from contrastive.lazy import optional
from contrastive.tasks._evaluator import Evaluator
from contrastive.tasks._rows import fingerprint, label, read_columns, text
from contrastive.tasks._sts import unit

if TYPE_CHECKING:
    from contrastive.encoder import Encoder

__all__ = ["Clustering"]


class Classes(NamedTuple):
    """Texts and their true classes."""

    texts: list[str]
    labels: list[str]


class Clustering(Evaluator):
    """V-measure of k-means clusters with respect to classes, with as many clusters as classes.

    Source:
      Rosenberg & Hirschberg, 2007 (V-measure).
    """

    data: str
    """JSON lines of {"text": str, "label": str or integer}, plain or .gz."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Random seed of the initial centers."""
    starts: PositiveInt = 1
    """Number of k-means runs, of which the best is used."""

    main_metric: ClassVar[str] = "v_measure"
    metric_names: ClassVar[tuple[str, ...]] = ("v_measure", "homogeneity", "completeness")

    def load(self) -> Classes:
        data = Classes(*read_columns(self.data, text=text, label=label))
        if len(set(data.labels)) < 2:
            raise DataError(
                f"{self.data}: all texts have the class {data.labels[0]!r}; there must be at least "
                "two classes"
            )
        return data

    def evaluate(self, encoder: Encoder, data: Classes) -> dict[str, float]:
        cluster = optional("sklearn.cluster", "evaluation")
        metrics = optional("sklearn.metrics", "evaluation")
        k_means = cluster.KMeans(len(set(data.labels)), n_init=self.starts, random_state=self.seed)
        clusters = k_means.fit_predict(unit(encoder.encode_documents(data.texts)))
        return {
            "v_measure": float(metrics.v_measure_score(data.labels, clusters)),
            "homogeneity": float(metrics.homogeneity_score(data.labels, clusters)),
            "completeness": float(metrics.completeness_score(data.labels, clusters)),
        }

    def describe(self, data: Classes) -> dict[str, Any]:
        classes = len(set(data.labels))
        return {"texts": len(data.texts), "classes": classes, "fingerprint": fingerprint(*data)}

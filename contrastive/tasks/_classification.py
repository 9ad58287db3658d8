"""Evaluates the classification of texts by their embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import PositiveFloat, PositiveInt

from contrastive.errors import DataError
from contrastive.lazy import optional
from contrastive.tasks._evaluator import Evaluator
from contrastive.tasks._rows import fingerprint, label, read_columns, text
from contrastive.tasks._sts import unit

if TYPE_CHECKING:
    from contrastive.encoder import Encoder

__all__ = ["Classification"]


class LabeledTexts(NamedTuple):
    """Training and test texts with their classes."""

    train: list[str]
    train_labels: list[str]
    test: list[str]
    test_labels: list[str]


class Classification(Evaluator):
    """Accuracy and F1 of predicting classes from embeddings, by k-NN or a linear probe."""

    test: str
    """Texts to classify: JSON lines of {"text": str, "label": str or integer}, plain or .gz."""
    train: str
    """Texts from which the classes are learned, in the same format."""
    method: Literal["both", "knn", "probe"] = "both"
    """knn: majority vote of the nearest neighbors by cosine; probe: logistic regression."""
    neighbors: PositiveInt = 5
    """Number of neighbors that vote."""
    inverse_regularization: PositiveFloat = 1.0
    """C of the logistic regression; a larger value means a weaker L2 penalty."""

    @property
    def main_metric(self) -> str:
        return "probe_accuracy" if self.method == "probe" else "knn_accuracy"

    @property
    def metric_names(self) -> tuple[str, ...]:
        methods = ("knn", "probe") if self.method == "both" else (self.method,)
        return tuple(f"{method}_{metric}" for method in methods for metric in ("accuracy", "f1"))

    def load(self) -> LabeledTexts:
        columns = [
            column
            for path in (self.train, self.test)
            for column in read_columns(path, text=text, label=label)
        ]
        data = LabeledTexts(*columns)
        if unseen := set(data.test_labels) - set(data.train_labels):
            raise DataError(
                f"{self.test}: class {min(unseen)!r} does not occur in {self.train} "
                f"({len(unseen)} such classes); every class needs training texts"
            )
        if len(set(data.train_labels)) < 2:
            raise DataError(
                f"{self.train}: all texts have the class {data.train_labels[0]!r}; there must be "
                "at least two classes"
            )
        return data

    def evaluate(self, encoder: Encoder, data: LabeledTexts) -> dict[str, float]:
        train, test = (unit(encoder.encode_documents(x)) for x in (data.train, data.test))
        scores = {}
        if self.method != "probe":
            scores |= self._scores("knn", self._nearest(train, data.train_labels, test), data)
        if self.method != "knn":
            scores |= self._scores("probe", self._probe(train, data.train_labels, test), data)
        return scores

    def _nearest(self, train: Any, labels: list[str], test: Any) -> Any:
        neighbors = optional("sklearn.neighbors", "evaluation")
        count = min(self.neighbors, len(labels))
        classifier = neighbors.KNeighborsClassifier(
            n_neighbors=count, metric="cosine", algorithm="brute"
        )
        return classifier.fit(train, labels).predict(test)

    def _probe(self, train: Any, labels: list[str], test: Any) -> Any:
        linear = optional("sklearn.linear_model", "evaluation")
        probe = linear.LogisticRegression(C=self.inverse_regularization, max_iter=1000)
        return probe.fit(train, labels).predict(test)

    def _scores(self, name: str, predicted: Any, data: LabeledTexts) -> dict[str, float]:
        metrics, truth = optional("sklearn.metrics", "evaluation"), data.test_labels
        return {
            f"{name}_accuracy": float(metrics.accuracy_score(truth, predicted)),
            f"{name}_f1": float(metrics.f1_score(truth, predicted, average="macro")),
        }

    def describe(self, data: LabeledTexts) -> dict[str, Any]:
        return {
            "train_texts": len(data.train),
            "test_texts": len(data.test),
            "classes": len(set(data.train_labels)),
            "fingerprint": fingerprint(*data),
        }

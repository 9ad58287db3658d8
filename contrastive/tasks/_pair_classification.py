"""Evaluates the detection of sentence pairs with the same meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from contrastive.errors import DataError
from contrastive.lazy import np, optional
from contrastive.tasks._evaluator import Evaluator
from contrastive.tasks._rows import fingerprint, number, read_columns, text
from contrastive.tasks._sts import pair_cosines

if TYPE_CHECKING:
    from contrastive.encoder import Encoder

__all__ = ["PairClassification"]


class LabeledPairs(NamedTuple):
    """Sentence pairs with labels: 1 for the same meaning, else 0."""

    first: list[str]
    second: list[str]
    labels: list[int]


class PairClassification(Evaluator):
    """Average precision, accuracy and F1 of detecting pairs with the same meaning by cosine."""

    data: str
    """JSON lines of {"sentence1": str, "sentence2": str, "label": 0 or 1}, plain or .gz."""

    main_metric: ClassVar[str] = "average_precision"
    metric_names: ClassVar[tuple[str, ...]] = (
        "average_precision",
        "accuracy",
        "accuracy_threshold",
        "f1",
        "f1_threshold",
    )

    def load(self) -> LabeledPairs:
        columns = {"sentence1": text, "sentence2": text, "label": number}
        first, second, labels = read_columns(self.data, **columns)
        if set(labels) != {0.0, 1.0}:
            raise DataError(
                f"{self.data}: labels must be 0 and 1, and both must occur; got "
                f"{sorted(set(labels))[:5]}"
            )
        return LabeledPairs(first, second, [int(label) for label in labels])

    def evaluate(self, encoder: Encoder, data: LabeledPairs) -> dict[str, float]:
        metrics = optional("sklearn.metrics", "evaluation")
        labels, cosines = np.array(data.labels), pair_cosines(encoder, data.first, data.second)
        precision, recall, thresholds = metrics.precision_recall_curve(labels, cosines)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = int(np.argmax(f1[:-1]))
        false, true, cuts = metrics.roc_curve(labels, cosines, drop_intermediate=False)
        positives = labels.mean()
        accuracy = true * positives + (1 - false) * (1 - positives)
        chosen = int(np.argmax(accuracy))
        return {
            "average_precision": float(metrics.average_precision_score(labels, cosines)),
            "accuracy": float(accuracy[chosen]),
            "accuracy_threshold": float(min(cuts[chosen], 1.0)),
            "f1": float(f1[best]),
            "f1_threshold": float(thresholds[best]),
        }

    def describe(self, data: LabeledPairs) -> dict[str, Any]:
        return {"pairs": len(data.labels), "fingerprint": fingerprint(*data)}

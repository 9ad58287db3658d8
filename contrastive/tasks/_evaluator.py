"""Base class of evaluators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from contrastive.parts import Part

if TYPE_CHECKING:
    from contrastive.encoder import Encoder

__all__ = ["Evaluator"]


class Evaluator(Part):
    """Base class of evaluators, which score an encoder.

    A subclass implements `evaluate`, and `load` if it reads data:

        class Antonyms(contrastive.tasks.Evaluator):
            '''Mean cosine of words with opposite meanings.'''

            data: str

            def load(self):
                return [line.split() for line in open(self.data)]

            def evaluate(self, encoder, data):
                first, second = (encoder.encode_documents(words) for words in zip(*data))
                return {"cosine": float((first * second).sum(axis=1).mean())}

    """

    package: ClassVar[str] = "contrastive.tasks"

    main_metric: ClassVar[str] = ""
    """The metric that selects the best checkpoint unless the experiment sets another one."""
    metric_names: ClassVar[tuple[str, ...]] = ()
    """Names of the metrics, so that a misspelled `select_best` is rejected before training; empty
    if they are known only after an evaluation."""

    def load(self) -> Any:
        """Returns the evaluation data, which is read once and passed to `evaluate`.

        Raises:
          DataError: If a file is missing or a row cannot be used.
        """
        return None

    def evaluate(self, encoder: Encoder, data: Any) -> Mapping[str, float]:
        """Computes the metrics of an encoder, by name.

        Args:
          encoder: The encoder to score.
          data: What `load` returned.
        """
        raise self._not_implemented("evaluate")

    def describe(self, data: Any) -> dict[str, Any]:
        """Returns a description of the data: numbers of texts, and a fingerprint.

        Args:
          data: What `load` returned.
        """
        del data
        return {}

    def baselines(self, data: Any) -> dict[str, Mapping[str, float]]:
        """Computes the metrics of other systems, such as BM25, by name of the system.

        Args:
          data: What `load` returned.
        """
        del data
        return {}

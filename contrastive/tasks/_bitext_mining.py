"""Evaluates bitext mining: whether the nearest sentence is the translation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from contrastive.errors import DataError
from contrastive.lazy import np
from contrastive.tasks._evaluator import Evaluator
from contrastive.tasks._rows import fingerprint, read_columns, text
from contrastive.tasks._sts import unit

if TYPE_CHECKING:
    from contrastive.encoder import Encoder

__all__ = ["BitextMining"]

_ROWS = 1024  # sentences at a time, which bounds the matrix of cosines


class BitextMining(Evaluator):
    """Accuracy of finding each sentence's translation by cosine, in both directions.

    The candidates are the sentences of the other language in the whole file. A sentence that occurs
    several times counts as found if any of its translations is nearest. Ties count as errors.

    Source:
      Artetxe & Schwenk, 2019, arXiv:1812.10464 (Tatoeba).
    """

    data: str
    """JSON lines of {"sentence1": str, "sentence2": str}, plain or .gz; the two are translations of
    each other."""

    main_metric: ClassVar[str] = "accuracy"
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy", "accuracy_1_to_2", "accuracy_2_to_1")

    def load(self) -> tuple[list[str], list[str]]:
        first, second = read_columns(self.data, sentence1=text, sentence2=text)
        for name, sentences in (("sentence1", first), ("sentence2", second)):
            if len(set(sentences)) < 2:
                raise DataError(
                    f'{self.data}: "{name}" is the same in all rows; mining needs at least two '
                    "different sentences"
                )
        return first, second

    def evaluate(self, encoder: Encoder, data: tuple[list[str], list[str]]) -> dict[str, float]:
        # Texts of the two languages may be equal, as names are, and are encoded once per language.
        (places1, distinct1), (places2, distinct2) = map(_distinct, data)
        vectors1, vectors2 = (unit(encoder.encode_documents(x)) for x in (distinct1, distinct2))
        forth = _is_found(vectors1, vectors2, places1, places2)[places1].mean()
        back = _is_found(vectors2, vectors1, places2, places1)[places2].mean()
        return {
            "accuracy": float(forth + back) / 2,
            "accuracy_1_to_2": float(forth),
            "accuracy_2_to_1": float(back),
        }

    def describe(self, data: tuple[list[str], list[str]]) -> dict[str, Any]:
        return {"pairs": len(data[0]), "fingerprint": fingerprint(*data)}


def _distinct(sentences: list[str]) -> tuple[Any, list[str]]:
    numbers = {sentence: number for number, sentence in enumerate(dict.fromkeys(sentences))}
    return np.array([numbers[sentence] for sentence in sentences]), list(numbers)


def _is_found(vectors: Any, candidates: Any, places: Any, translations: Any) -> Any:
    """Returns for each vector whether one of its translations is nearer than all other candidates.

    Args:
      vectors: Vectors of one language [N, D].
      candidates: Vectors of the other language [M, D].
      places: Index of the vector of each pair.
      translations: Index of the candidate of each pair.
    """
    found = np.zeros(len(vectors), bool)
    for start in range(0, len(vectors), _ROWS):
        cosines = vectors[start : start + _ROWS] @ candidates.T
        is_translation = np.zeros(cosines.shape, bool)
        here = (places >= start) & (places < start + _ROWS)
        is_translation[places[here] - start, translations[here]] = True
        best = np.where(is_translation, cosines, -np.inf).max(axis=1)
        rival = np.where(is_translation, -np.inf, cosines).max(axis=1)
        found[start : start + _ROWS] = best > rival
    return found

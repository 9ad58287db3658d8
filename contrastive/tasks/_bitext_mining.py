"""Evaluates bitext mining: whether the nearest sentence is the translation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from contrastive.errors import DataError
from contrastive.lazy import np
from contrastive.tasks._evaluator import Evaluator
from contrastive.tasks._rows import fingerprint, read_columns, text

if TYPE_CHECKING:
    from contrastive.encoder import Encoder

__all__ = ["BitextMining"]


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
        vectors1, vectors2 = map(encoder.encode_documents, (distinct1, distinct2))
        translations = np.zeros((len(distinct1), len(distinct2)), bool)
        translations[places1, places2] = True
        forth = _found(_unit(vectors1), _unit(vectors2), translations)[places1].mean()
        back = _found(_unit(vectors2), _unit(vectors1), translations.T)[places2].mean()
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


def _unit(vectors: Any) -> Any:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _found(vectors: Any, candidates: Any, translations: Any) -> Any:
    """Returns for each vector whether a translation is nearer than all other candidates."""
    rows = 1024  # bounds the matrix of cosines
    found = []
    for start in range(0, len(vectors), rows):
        cosines = vectors[start : start + rows] @ candidates.T
        is_translation = translations[start : start + rows]
        best = np.where(is_translation, cosines, -np.inf).max(axis=1)
        rival = np.where(is_translation, -np.inf, cosines).max(axis=1)
        found.append(best > rival)
    return np.concatenate(found)

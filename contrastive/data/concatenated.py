"""Several sources as one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from contrastive.data.example import Example, Source


class Concatenated:
    """The examples of several sources, one after the other.

    Args:
      sources: At least one.
    """

    def __init__(self, sources: Sequence[Source]):
        self.sources = list(sources)
        """Those."""
        self._ends = np.cumsum([len(source) for source in sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Example:
        number = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[number - 1]) if number else 0
        return self.sources[number][index - before]

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.sources))

    @property
    def fingerprint(self) -> str:
        """A digest of all the examples."""
        together = " ".join(source.fingerprint for source in self.sources)
        return hashlib.blake2b(together.encode(), digest_size=16).hexdigest()

    @property
    def most_positives(self) -> int:
        """The most positives any example has."""
        return max(source.most_positives for source in self.sources)

    def check_negatives(self, needed: int) -> None:
        """Refuses a group size that some row cannot fill."""
        for source in self.sources:
            source.check_negatives(needed)

    def check_own_negatives(self) -> None:
        """Refuses rows without a negative."""
        for source in self.sources:
            source.check_own_negatives()

    def check_scores(self, *, negative: bool) -> None:
        """Refuses rows without a teacher's scores, or with scores that may not be negative."""
        for source in self.sources:
            source.check_scores(negative=negative)

    def check_labels(self) -> None:
        """Refuses rows without a label."""
        for source in self.sources:
            source.check_labels()

    @property
    def score_spread(self) -> float:
        """How far a row's highest teacher's score is above its lowest, on average."""
        return sum(len(source) * source.score_spread for source in self.sources) / len(self)

    @property
    def field_counts(self) -> Counter[str]:
        """How many rows have each of the fields that a user may want to hear of."""
        return sum((source.field_counts for source in self.sources), Counter())

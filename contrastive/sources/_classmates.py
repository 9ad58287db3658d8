"""Positives of rows that have only a text and a label: other texts of the class."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from contrastive.lazy import np
from contrastive.sources._example import Example

if TYPE_CHECKING:
    import numpy.typing as npt

_MOST = 4  # texts of the class that a row may be drawn with; each is read from the source


def with_classmates(
    read: Callable[[int], Example], table: npt.NDArray[Any]
) -> tuple[Callable[[int], Example], npt.NDArray[Any]]:
    """Gives examples that have no positives other texts of their class.

    A text that is alone in its class is its own positive.

    Args:
      read: Maps an index to the example.
      table: Facts about the examples, with the number of positives and a digest of the label.

    Returns:
      The function and the table of examples that all have positives.
    """
    texts = np.flatnonzero(table["positives"] == 0)
    by_label = texts[np.argsort(table["label"][texts], kind="stable")]
    labels, first, sizes = np.unique(
        table["label"][by_label], return_index=True, return_counts=True
    )
    table = table.copy()
    numbers = np.searchsorted(labels, table["label"][texts])
    table["positives"][texts] = np.clip(sizes[numbers] - 1, 1, _MOST)

    def read_with_classmates(index: int) -> Example:
        example = read(index)
        if example.positives:
            return example
        number = int(np.searchsorted(labels, table["label"][index]))
        members = by_label[first[number] : first[number] + sizes[number]]
        others = classmates(int(np.searchsorted(members, index)), len(members))
        positives = [read(int(members[other])).query for other in others]
        return example._replace(positives=tuple(positives) or (example.query,))

    return read_with_classmates, table


def classmates(place: int, size: int) -> list[int]:
    """Returns the places of the other members that a member of a class is drawn with.

    They are spread evenly over the class, and every member is chosen equally often.

    >>> classmates(0, 9)
    [1, 3, 5, 7]
    >>> classmates(2, 3)
    [0, 1]

    Args:
      place: Place of the member in its class.
      size: Number of members.
    """
    count = min(_MOST, size - 1)
    return [(place + 1 + number * (size - 1) // count) % size for number in range(count)]

"""Texts to pack, and how, as a strategy of hypothesis."""

import itertools

import numpy as np
from hypothesis import strategies as st


def numbered(lengths):
    """Texts of given lengths in which no token occurs twice."""
    ends = np.cumsum([1, *lengths])
    return [np.arange(a, b, dtype=np.int32) for a, b in itertools.pairwise(ends)]


@st.composite
def packings(draw, most=12):
    row_length, blocks = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    count = blocks * draw(st.integers(0, most))
    lengths = draw(st.lists(st.integers(0, row_length), min_size=count, max_size=count))
    distinct = numbered(lengths)
    # About half of the texts are copies of any other.
    copied = draw(st.lists(st.integers(0, 2 * count), min_size=count, max_size=count))
    texts = [distinct[c if c < count else number] for number, c in enumerate(copied)]
    settings = {"row_length": row_length, "texts_per_row": draw(st.integers(1, 5))}
    return texts, {**settings, "blocks": blocks}

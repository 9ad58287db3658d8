"""Tokenised texts into rows of a fixed length."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from contrastive.types import Batch, Tokens


def pack(
    texts: Sequence[np.ndarray],
    *,
    row_length: int,
    texts_per_row: int = 1,
    blocks: int = 1,
) -> Tokens:
    """Packs texts into rows, the longest first, each into the fullest row it still fits.

    Every block gets an equal run of the texts and the same number of rows, as few as will do. Equal
    texts of a block share one place, so they are encoded once.

    Args:
      texts: Vocabulary ids, int32, of B texts, B a multiple of `blocks`.
      row_length: Tokens a row, T.
      texts_per_row: Most texts a row, S; 1 is one text a row.
      blocks: Data-parallel devices that will hold the rows.

    Returns:
      Tokens with NumPy arrays.

    Raises:
      ValueError: If a text is longer than a row or the texts do not divide into blocks.
    """
    if len(texts) % blocks:
        raise ValueError(f"{len(texts)} texts do not divide into {blocks} blocks")
    longest = max(map(len, texts), default=0)
    if longest > row_length:
        raise ValueError(f"a text of {longest} tokens does not fit a row of {row_length}")
    size = len(texts) // blocks
    own = [_distinct(texts[b * size : (b + 1) * size]) for b in range(blocks)]
    placed = [_place([len(t) for t in block.texts], row_length, texts_per_row) for block in own]
    rows = max((row + 1 for block in placed for row, _, _ in block), default=1)
    shape = (blocks * rows, row_length)
    ids, segments, positions = (np.zeros(shape, np.int32) for _ in range(3))
    text_ids = np.zeros((blocks * rows, texts_per_row), np.int32)
    slots = np.zeros((blocks, size), np.int32)
    for block, (numbers, distinct) in enumerate(own):
        for text, (row, place, start) in zip(distinct, placed[block], strict=True):
            where = (block * rows + row, slice(start, start + len(text)))
            ids[where] = text
            segments[where] = place + 1
            positions[where] = np.arange(len(text))
            text_ids[block * rows + row, place] = _digest(text)
        of_distinct = [row * texts_per_row + place for row, place, _ in placed[block]]
        slots[block] = [of_distinct[number] for number in numbers]
    return Tokens(ids, segments, positions, text_ids, slots.reshape(-1), blocks)


class _Distinct(NamedTuple):
    """Distinct texts, and for each text the number of the one it equals."""

    numbers: list[int]
    texts: list[np.ndarray]


def _distinct(texts: Sequence[np.ndarray]) -> _Distinct:
    seen: dict[bytes, int] = {}
    numbers = [seen.setdefault(text.tobytes(), len(seen)) for text in texts]
    return _Distinct(numbers, [np.frombuffer(key, np.int32) for key in seen])


def _digest(text: np.ndarray) -> int:
    digest = hashlib.blake2b(text.tobytes(), digest_size=4).digest()
    return int.from_bytes(digest, "little", signed=True)


def _place(lengths: Sequence[int], row_length: int, texts_per_row: int):
    """Row, place in the row and first position of each text: best fit decreasing."""
    spots: list[tuple[int, int, int]] = [(0, 0, 0)] * len(lengths)
    by_space: list[list[int]] = [[] for _ in range(row_length + 1)]  # open rows by room left
    spaces = 0  # bit s is set where by_space[s] is not empty
    held: list[int] = []
    for text in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        length = lengths[text]
        fitting = spaces >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            row = by_space[space].pop()
            if not by_space[space]:
                spaces ^= 1 << space
        else:
            row, space = len(held), row_length
            held.append(0)
        spots[text] = (row, held[row], row_length - space)
        held[row] += 1
        if held[row] < texts_per_row:
            by_space[space - length].append(row)
            spaces |= 1 << (space - length)
    return spots


_GROWTH = 1.25  # of the rungs beyond the last


@dataclasses.dataclass(frozen=True)
class Ladder:
    """The few shapes of a run: queries and documents climb together, so each rung is one program.

    Attributes:
      rungs: Rows a block of queries and of documents, each rung holding those before it. A batch
        that is higher than the last finds further ones, each a quarter higher.
    """

    rungs: tuple[tuple[int, int], ...]

    def rows(self, rung: int) -> tuple[int, int]:
        """Rows a block of queries and of documents on a rung."""
        last = len(self.rungs) - 1
        queries, documents = self.rungs[min(rung, last)]
        growth = _GROWTH ** max(rung - last, 0)
        return math.ceil(queries * growth), math.ceil(documents * growth)

    def rung(self, batch: Batch) -> int:
        """The first rung that holds a batch."""
        tall = _rows(batch.queries), _rows(batch.documents)
        rungs = itertools.count()
        return next(r for r in rungs if all(map(operator.ge, self.rows(r), tall)))

    def climb(self, batch: Batch, rung: int = 0) -> Batch:
        """Adds empty rows up to a rung, or to the first that holds the batch if that is higher."""
        queries, documents = self.rows(max(rung, self.rung(batch)))
        return dataclasses.replace(
            batch, queries=grow(batch.queries, queries), documents=grow(batch.documents, documents)
        )


def _rows(tokens: Tokens) -> int:
    return tokens.ids.shape[0] // tokens.blocks


def grow(tokens: Tokens, rows: int) -> Tokens:
    """Adds empty rows to every block.

    Args:
      tokens: With NumPy arrays.
      rows: Rows a block after it, no fewer than before.

    Returns:
      The same texts in `rows * tokens.blocks` rows.
    """
    blocks, have = tokens.blocks, tokens.ids.shape[0]

    def add(x):
        x = x.reshape(blocks, have // blocks, -1)
        x = np.pad(x, [(0, 0), (0, rows - have // blocks), (0, 0)])
        return x.reshape(blocks * rows, -1)

    by_row = (tokens.ids, tokens.segments, tokens.positions, tokens.text_ids)
    ids, segments, positions, text_ids = map(add, by_row)
    return Tokens(ids, segments, positions, text_ids, tokens.slots, blocks)


def padding_share(*tokens: Tokens) -> float:
    """Share of the row positions that hold no token."""
    filled = sum(np.count_nonzero(some.segments) for some in tokens)
    return 1.0 - filled / max(sum(some.segments.size for some in tokens), 1)

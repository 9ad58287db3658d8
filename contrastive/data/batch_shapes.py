"""Chooses the few batch shapes of a run by measuring how many rows its texts fill."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from contrastive.data.groups import draw_group
from contrastive.data.tokens import Tokenizer, pack, tokenize_groups
from contrastive.data.training_sources import TrainingSource
from contrastive.types import Batch, Tokens

_SAMPLE = 1024  # examples tokenized per source; more if blocks are large
_LARGEST = 1024  # queries packed per trial; the row counts of larger blocks are extrapolated
_TRIALS = 16  # number of blocks packed
_PROGRAMS = 3  # number of buckets; about one batch in ten thousand exceeds the largest
# Number of standard deviations above the mean that a level holds, and the share of batches for
# which it is the smallest level that suffices.
_LEVELS = ((1.0, 0.84), (2.5, 0.15), (4.0, 0.01))


@dataclasses.dataclass(frozen=True)
class Shape:
    """Shape of the rows that texts are packed into.

    Attributes:
      query_length: Number of tokens per row of queries.
      document_length: Number of tokens per row of documents.
      texts_per_row: Maximum number of texts per row; 1 disables packing.
    """

    query_length: int
    document_length: int
    texts_per_row: int


def row_shape(sources: Sequence[TrainingSource], texts_per_row: int) -> Shape:
    """Returns the row shape for some sources; a row holds at least one text of maximum length."""
    return Shape(
        query_length=max(source.rules.query_length for source in sources),
        document_length=max(source.rules.document_length for source in sources),
        texts_per_row=texts_per_row,
    )


class _Rows(NamedTuple):
    queries: int
    documents: int
    share: float

    def tokens(self, shape: Shape) -> int:
        return self.queries * shape.query_length + self.documents * shape.document_length


_GROWTH = 1.25  # growth factor of the shapes beyond the last


@dataclasses.dataclass(frozen=True)
class ShapeBuckets:
    """The few batch shapes of a run; each is compiled once.

    Attributes:
      shapes: Number of query rows and document rows per block, in increasing order. A batch that
        exceeds the last shape gets a further one; each of these is 25% larger than the one before.
    """

    shapes: tuple[tuple[int, int], ...]

    def rows(self, bucket: int) -> tuple[int, int]:
        """Returns the number of query rows and document rows per block of a bucket."""
        last = len(self.shapes) - 1
        queries, documents = self.shapes[min(bucket, last)]
        growth = _GROWTH ** max(bucket - last, 0)
        return math.ceil(queries * growth), math.ceil(documents * growth)

    def bucket(self, batch: Batch) -> int:
        """Returns the index of the first bucket that holds a batch."""
        needed = _rows(batch.queries), _rows(batch.documents)
        buckets = itertools.count()
        return next(b for b in buckets if all(map(operator.ge, self.rows(b), needed)))

    def pad_to(self, batch: Batch, bucket: int) -> Batch:
        """Adds empty rows to a batch up to the shape of a bucket that holds it."""
        queries, documents = self.rows(bucket)
        return dataclasses.replace(
            batch,
            queries=add_rows(batch.queries, queries),
            documents=add_rows(batch.documents, documents),
        )


def _rows(tokens: Tokens) -> int:
    return tokens.ids.shape[0] // tokens.blocks


def add_rows(tokens: Tokens, rows: int) -> Tokens:
    """Adds empty rows to every block.

    Args:
      tokens: The tokens, as NumPy arrays.
      rows: Number of rows per block afterwards; at least the current number.

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


def choose_shapes(
    parts: Sequence[TrainingSource],
    tokenize: Tokenizer,
    shape: Shape,
    *,
    batch_size: int,
    blocks: int,
    homogeneous_batches: bool,
    seed: int,
) -> ShapeBuckets:
    """Chooses the batch shapes that minimize the padding of a run.

    A pure function of its arguments: every process, and a resumed run, chooses the same shapes.

    Args:
      parts: Training sources.
      tokenize: Tokenizer.
      shape: Row shape.
      batch_size: Number of queries per step; a multiple of `blocks`.
      blocks: Number of blocks of the global batch; the fullest of them determines the shape.
      homogeneous_batches: Whether each batch comes from a single source.
      seed: Random seed of the sample.

    Returns:
      The shapes.
    """
    group_size = max(part.rules.group_size for part in parts)
    block = batch_size // blocks
    if shape.texts_per_row == 1:
        return ShapeBuckets(((block, block * group_size),))
    rng = np.random.default_rng(seed)
    weights = np.array([part.batch_weight(batch_size) for part in parts])
    weights = weights / weights.sum()
    size = max(_SAMPLE, 4 * min(block, _LARGEST))
    samples = [_sample(part, tokenize, rng, size) for part in parts]
    # Either each batch comes from one sample, or every batch mixes all samples.
    kinds = [
        ([sample], np.ones(1), share, part.queries(batch_size) // blocks)
        for part, sample, share in zip(parts, samples, weights, strict=True)
    ]
    if not homogeneous_batches:
        kinds = [(samples, weights, 1.0, block)]
    levels = [
        level._replace(share=level.share * float(share))
        for mixed, own_weights, share, queries in kinds
        for level in _levels(mixed, own_weights, shape, rng, block=queries, blocks=blocks)
    ]
    return ShapeBuckets(_cover(levels, shape))


class _Lengths(NamedTuple):
    """Token arrays of one group. Only their lengths, and which of them are equal, matter."""

    query: np.ndarray
    documents: list[np.ndarray]


def _sample(
    part: TrainingSource, tokenize: Tokenizer, rng: np.random.Generator, size: int
) -> list[_Lengths]:
    chosen = rng.choice(len(part.examples), min(size, len(part.examples)), replace=False)
    groups = [draw_group(part.examples[int(i)], rng, rules=part.rules) for i in chosen]
    queries, documents = tokenize_groups(groups, tokenize)
    return [_Lengths(q, d) for q, d in zip(queries, documents, strict=True)]


def _levels(samples, weights, shape: Shape, rng, *, block: int, blocks: int) -> list[_Rows]:
    """Estimates how many rows a batch of these groups needs, at increasing confidence levels."""

    def rows(texts, row_length):
        packed = pack(texts, row_length=row_length, texts_per_row=shape.texts_per_row)
        return packed.ids.shape[0]

    packed, filled = min(block, _LARGEST), []
    for _ in range(_TRIALS):
        chosen = _draw(samples, weights, packed, rng)
        documents = [text for group in chosen for text in group.documents]
        queries = [group.query for group in chosen]
        filled.append((rows(queries, shape.query_length), rows(documents, shape.document_length)))
    times = block / packed
    mean, spread = np.mean(filled, axis=0) * times, np.std(filled, axis=0) * np.sqrt(times)
    # The fullest of n blocks is expected at about sqrt(2 log n) deviations above the mean.
    above = np.sqrt(2.0 * np.log(blocks))
    widest = max(len(group.documents) for sample in samples for group in sample)
    most = block * np.array([1, widest])  # one text per row
    levels = []
    for deviations, share in _LEVELS:
        tall = np.ceil(mean + (deviations + above) * spread)
        queries, documents = np.minimum(tall, most).astype(int)
        levels.append(_Rows(int(queries), int(documents), share))
    return levels


def _draw(samples, weights, count: int, rng) -> list[_Lengths]:
    """Draws groups as a batch does: by weight, without repetition as long as there are enough."""
    exact = weights * count
    counts = np.floor(exact).astype(int)
    if left := count - counts.sum():
        rest = exact - counts
        counts += rng.multinomial(left, rest / rest.sum())
    return [
        sample[int(i)]
        for sample, n in zip(samples, counts, strict=True)
        for i in rng.choice(len(sample), n, replace=n > len(sample))
    ]


def _cover(levels: list[_Rows], shape: Shape) -> tuple[tuple[int, int], ...]:
    """Covers all levels by at most _PROGRAMS buckets with the least padding on average."""
    levels = sorted(set(levels), key=lambda level: level.tokens(shape))

    def rung(start, stop):  # a bucket also holds the levels below it
        held = levels[:stop]
        return _Rows(
            max(level.queries for level in held),
            max(level.documents for level in held),
            sum(level.share for level in levels[start:stop]),
        )

    @functools.cache
    def best(start, programs):
        """Returns the mean tokens per batch and the buckets for the levels from `start` on."""
        if start == len(levels):
            return 0.0, ()
        if not programs:
            return np.inf, ()
        options = []
        for stop in range(start + 1, len(levels) + 1):
            first = rung(start, stop)
            cost, rest = best(stop, programs - 1)
            options.append((cost + first.share * first.tokens(shape), (first, *rest)))
        return min(options, key=lambda option: option[0])

    return tuple((r.queries, r.documents) for r in best(0, _PROGRAMS)[1])

"""Measuring how many rows texts fill, and so the few shapes of a run's batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from contrastive.data.example import Source
from contrastive.data.groups import Group, Rules, draw_group
from contrastive.data.packing import Ladder, pack
from contrastive.data.tokenization import Tokenizer

_SAMPLE = 1024  # examples of a source that are tokenised, and more if blocks are large
_LARGEST = 1024  # queries that are packed; larger blocks have as many rows more
_TRIALS = 16  # blocks that are packed
_PROGRAMS = 3  # rungs; batches above the last are one in ten thousand
# Deviations above the mean up to which a rung holds, and the share of batches it is the first for.
_LEVELS = ((1.0, 0.84), (2.5, 0.15), (4.0, 0.01))


@dataclasses.dataclass(frozen=True)
class Shape:
    """How texts become tokens.

    Attributes:
      query_length: Tokens a row of queries.
      document_length: Tokens a row of documents.
      texts_per_row: Most texts a row; 1 is one text a row.
    """

    query_length: int
    document_length: int
    texts_per_row: int


@dataclasses.dataclass(frozen=True)
class Part:
    """One source as it is trained on.

    Attributes:
      source: Its examples.
      rules: How groups are drawn.
      weight: Its share of the training, beside those of the others.
    """

    source: Source
    rules: Rules
    weight: float


class _Rows(NamedTuple):
    queries: int
    documents: int
    share: float

    def tokens(self, shape: Shape) -> int:
        return self.queries * shape.query_length + self.documents * shape.document_length


def calibrate(
    parts: Sequence[Part],
    tokenize: Tokenizer,
    shape: Shape,
    *,
    block: int,
    blocks: int,
    one_source_batches: bool,
    seed: int,
) -> Ladder:
    """Finds the shapes that pad a run's batches least.

    A pure function of its arguments: every process, and a resumed run, finds the same ladder.

    Args:
      parts: What is trained on.
      tokenize: Tokenizer.
      shape: Lengths and rows.
      block: Queries a block.
      blocks: Blocks of the global batch; the fullest of them counts.
      one_source_batches: Whether a batch is of one part or of all.
      seed: Decides the sample.

    Returns:
      The ladder.
    """
    group_size = max(part.rules.group_size for part in parts)
    if shape.texts_per_row == 1:
        return Ladder(((block, block * group_size),))
    rng = np.random.default_rng(seed)
    weights = np.array([part.weight for part in parts]) / sum(part.weight for part in parts)
    size = max(_SAMPLE, 4 * min(block, _LARGEST))
    samples = [_sample(part, tokenize, rng, size) for part in parts]
    # Either each batch is of one sample, or all are of every sample.
    kinds = zip(([sample] for sample in samples), np.ones((len(parts), 1)), weights, strict=True)
    if not one_source_batches:
        kinds = [(samples, weights, 1.0)]
    levels = [
        level._replace(share=level.share * float(share))
        for mixed, own_weights, share in kinds
        for level in _levels(mixed, own_weights, shape, rng, block=block, blocks=blocks)
    ]
    return Ladder(_cover(levels, shape))


class _Lengths(NamedTuple):
    """Token arrays of one group: only their lengths and equality matter."""

    query: np.ndarray
    documents: list[np.ndarray]


def _sample(part: Part, tokenize: Tokenizer, rng: np.random.Generator, size: int) -> list[_Lengths]:
    chosen = rng.choice(len(part.source), min(size, len(part.source)), replace=False)
    groups = [draw_group(part.source[int(i)], rng, rules=part.rules) for i in chosen]
    queries, documents = tokenize_groups(groups, tokenize)
    return [_Lengths(q, d) for q, d in zip(queries, documents, strict=True)]


def tokenize_groups(
    groups: Sequence[Group], tokenize: Tokenizer
) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """Vocabulary ids of queries and documents, each cut to the length of its source.

    Args:
      groups: Of any sources.
      tokenize: Tokenizer.

    Returns:
      One array a query; one list of arrays a group.
    """
    queries: list[np.ndarray] = [np.empty(0, np.int32)] * len(groups)
    documents: list[list[np.ndarray]] = [[] for _ in groups]
    for rules in {id(group.rules): group.rules for group in groups}.values():
        own = [number for number, group in enumerate(groups) if group.rules is rules]
        of_queries = tokenize([groups[n].query for n in own], rules.query_length)
        texts = [text for n in own for text in groups[n].documents]
        of_documents = iter(tokenize(texts, rules.document_length))
        for number, query in zip(own, of_queries, strict=True):
            queries[number] = query
            documents[number] = [next(of_documents) for _ in groups[number].documents]
    return queries, documents


def _levels(samples, weights, shape: Shape, rng, *, block: int, blocks: int) -> list[_Rows]:
    """Rows that a batch of these groups fits in, more and more surely."""

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
    # The fullest of n blocks is expected about sqrt(2 log n) deviations above the mean.
    above = np.sqrt(2.0 * np.log(blocks))
    widest = max(len(group.documents) for sample in samples for group in sample)
    most = block * np.array([1, widest])  # a text a row
    found = []
    for deviations, share in _LEVELS:
        tall = np.ceil(mean + (deviations + above) * spread)
        queries, documents = np.minimum(tall, most).astype(int)
        found.append(_Rows(int(queries), int(documents), share))
    return found


def _draw(samples, weights, count: int, rng) -> list[_Lengths]:
    """As a batch takes them: by weight, and none twice as long as there are enough."""
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
    """At most _PROGRAMS rungs, the highest of which holds every level, with the least padding."""
    levels = sorted(set(levels), key=lambda level: level.tokens(shape))

    def rung(start, stop):  # a rung holds the levels below it too
        held = levels[:stop]
        return _Rows(
            max(level.queries for level in held),
            max(level.documents for level in held),
            sum(level.share for level in levels[start:stop]),
        )

    def best(start, programs):
        """Rungs for the levels from `start` on, and the tokens a batch has on average."""
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

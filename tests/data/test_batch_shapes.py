"""The shapes of a run: few, and such that little is padded."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packings import packings
from readback import places_of, texts_of

from contrastive.data.batch_shapes import Shape, ShapeBuckets, add_rows, choose_shapes
from contrastive.data.batches import batches
from contrastive.data.groups import GroupRules
from contrastive.data.tokenizers import train_wordpiece
from contrastive.data.tokens import Tokenizer, pack
from contrastive.data.training_sources import TrainingSource
from contrastive.sources._example import Example
from contrastive.sources._examples import Examples
from contrastive.types import Batch

NO_IDS = np.zeros(0, np.int32)

SHAPE = Shape(query_length=16, document_length=64, texts_per_row=8)
WORDS = [a + b for a in "kbdfgmnr" for b in "aeiou"]


class Lengths:
    """Examples whose documents are of given lengths, in words."""

    def __init__(self, lengths, seed=0):
        rng = np.random.default_rng(seed)
        self.texts = [" ".join(rng.choice(WORDS, n)) for n in lengths]

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(index)
        return Example(" ".join(self.texts[index].split()[:8]), (self.texts[index],))


@pytest.fixture(scope="module")
def tokenize():
    return Tokenizer(train_wordpiece([" ".join(WORDS)] * 3, vocab_size=200), special_tokens=False)


def source_of(rows, weight=1.0, **rules):
    lengths = {"query_length": 16, "document_length": 64}
    examples = Examples.of(rows, "Lengths()")
    return TrainingSource(examples, GroupRules(**lengths, **rules), weight)


def part(lengths, seed=0, weight=1.0):
    return source_of(Lengths(lengths, seed), weight)


def padded(batch, buckets):
    """As it is fed to a step."""
    return buckets.pad_to(batch, buckets.bucket(batch))


RNG = np.random.default_rng(1)
MIXES = {
    "one source": [part(RNG.integers(4, 60, 300))],
    "five sources": [part(RNG.integers(low, low + 12, 80), low) for low in (3, 12, 25, 38, 50)],
}


@pytest.mark.parametrize("one_source", [True, False])
@pytest.mark.parametrize("mix", MIXES)
def test_at_most_three_shapes_hold_nearly_all_batches(tokenize, mix, one_source):
    options = {"homogeneous_batches": one_source, "seed": 0, "blocks": 2}
    data, buckets = batches(MIXES[mix], tokenize, SHAPE, batch_size=16, **options)
    assert 1 <= len(buckets.shapes) <= 3
    assert np.all(np.diff(np.array(buckets.shapes), axis=0) >= 0)  # each holds those before it
    iterator, above, shapes = iter(data), 0, set()
    for _ in range(100):
        batch = padded(next(iterator), buckets)
        shape = tuple(t.ids.shape[0] // 2 for t in (batch.queries, batch.documents))
        shapes.add(shape)
        above += shape not in buckets.shapes
    assert above <= 5
    assert shapes <= {buckets.rows(rung) for rung in range(len(buckets.shapes) + 3)}


def test_sources_of_different_lengths_have_shapes_of_their_own(tokenize):
    short, long = part([4] * 200), part([60] * 200, 1)
    options = {"batch_size": 16, "blocks": 1, "seed": 0}
    buckets = choose_shapes([short, long], tokenize, SHAPE, homogeneous_batches=True, **options)
    # 16 texts of 4 tokens, 8 to a row, and 16 texts of 60.
    assert {documents for _, documents in buckets.shapes} == {2, 16}
    (mixed, *_) = choose_shapes(
        [short, long], tokenize, SHAPE, homogeneous_batches=False, **options
    ).shapes
    assert 5 <= mixed[1] < 16


@pytest.mark.parametrize("one_source", [True, False])
def test_small_sources_are_measured_as_batches_take_them(tokenize, one_source):
    # A batch holds much of every source, and hardly a text twice.
    made = [part(RNG.integers(low, low + 12, 12), low) for low in (3, 12, 25, 38, 50)]
    size = 10 if one_source else 30
    options = {"batch_size": size, "seed": 0, "homogeneous_batches": one_source}
    data, buckets = batches(made, tokenize, SHAPE, **options)
    used, height = 0, 0
    for _, drawn in zip(range(30), data, strict=False):
        batch = padded(drawn, buckets)
        assert len(batch.documents.ids) <= buckets.shapes[-1][1]
        used += np.sum(np.any(batch.documents.segments, axis=1))
        height += len(batch.documents.ids)
    assert used >= 0.85 * height


def test_a_block_larger_than_what_is_measured_fits(tokenize):
    source = part(RNG.integers(4, 60, 3000))
    options = {"blocks": 1, "homogeneous_batches": True, "seed": 0}
    buckets = choose_shapes([source], tokenize, SHAPE, batch_size=2500, **options)
    texts = tokenize([source.examples[i].positives[0] for i in range(2500)], 64)
    rows = len(pack(texts, row_length=64, texts_per_row=8).ids)
    assert 0.95 * rows <= buckets.shapes[0][1] <= 1.05 * rows
    assert rows <= buckets.shapes[-1][1] <= 1.1 * rows


def test_the_shapes_are_a_function_of_the_data_and_the_seed(tokenize):
    options = {"batch_size": 32, "blocks": 4, "homogeneous_batches": True}
    first = choose_shapes(MIXES["five sources"], tokenize, SHAPE, seed=3, **options)
    assert choose_shapes(MIXES["five sources"], tokenize, SHAPE, seed=3, **options) == first


def test_one_text_a_row_has_one_shape(tokenize):
    one = Shape(query_length=16, document_length=64, texts_per_row=1)
    made = [source_of(Lengths([9] * 20), group_size=3)]
    options = {"batch_size": 16, "blocks": 2, "homogeneous_batches": True, "seed": 0}
    assert choose_shapes(made, tokenize, one, **options).shapes == ((8, 24),)


def test_equal_texts_are_encoded_once(tokenize):
    class Same(Lengths):
        """One document answers every query, and every second query is the same."""

        def __getitem__(self, index):
            example = super().__getitem__(index)
            return Example(example.query if index % 2 else "ka", ("the same document",))

    made = [source_of(Same(RNG.integers(9, 30, 64)))]
    data, buckets = batches(made, tokenize, SHAPE, batch_size=64, seed=0, blocks=2)
    batch = padded(next(iter(data)), buckets)
    assert np.count_nonzero(batch.documents.text_ids) == 2  # one a block
    assert np.count_nonzero(batch.queries.text_ids) <= 32 + 2
    assert buckets.shapes[-1][1] == 1
    texts = tokenize(["the same document"], 64)
    np.testing.assert_array_equal(batch.documents.ids[0], pack(texts, row_length=64).ids[0])


@settings(max_examples=4 * settings.default.max_examples)
@given(packings(), st.integers(0, 3))
def test_growing_adds_empty_rows_and_changes_no_text(case, more):
    texts, options = case
    tokens = pack(texts, **options)
    rows = tokens.ids.shape[0] // tokens.blocks + more
    grown = add_rows(tokens, rows)
    assert grown.ids.shape == (rows * tokens.blocks, tokens.ids.shape[1])
    assert texts_of(grown) == [text.tolist() for text in texts]
    assert [p.tolist() for _, p in places_of(grown)] == [p.tolist() for _, p in places_of(tokens)]
    for name in ("ids", "segments", "positions", "text_ids"):
        assert getattr(grown, name).sum() == getattr(tokens, name).sum()


@settings(max_examples=6 * settings.default.max_examples)
@given(
    packings(most=8),
    packings(most=8),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4),
    st.integers(0, 9),
)
def test_padding_reaches_the_first_bucket_that_holds_the_batch(queries, documents, steps, asked):
    (queries, options), (documents, document_options) = queries, documents
    batch = Batch(pack(queries, **options), pack(documents, **document_options), *[NO_IDS] * 9)
    shapes = tuple(itertools.accumulate(steps, lambda a, b: (a[0] + b[0], a[1] + b[1])))
    shapes = tuple((queries + 1, documents + 1) for queries, documents in shapes)
    buckets = ShapeBuckets(shapes)
    need = [t.ids.shape[0] // t.blocks for t in (batch.queries, batch.documents)]

    def fits(bucket):
        return all(have >= rows for have, rows in zip(buckets.rows(bucket), need, strict=True))

    bucket = buckets.bucket(batch)
    assert fits(bucket)
    assert not any(fits(lower) for lower in range(bucket))
    assert tuple(map(buckets.rows, range(len(shapes)))) == shapes
    for n in range(1, 4):  # beyond the last, each a quarter higher, rounded up
        higher = tuple(-(-rows * 5**n // 4**n) for rows in shapes[-1])
        assert buckets.rows(len(shapes) - 1 + n) == higher
    for reached in (bucket, max(asked, bucket)):
        padded = buckets.pad_to(batch, reached)
        heights = [t.ids.shape[0] // t.blocks for t in (padded.queries, padded.documents)]
        assert tuple(heights) == buckets.rows(reached)
        assert texts_of(padded.queries) == [text.tolist() for text in queries]
        assert texts_of(padded.documents) == [text.tolist() for text in documents]

"""The shapes of a run: few, and such that little is padded."""

import numpy as np
import pytest

from contrastive.data.calibration import Part, Shape, calibrate
from contrastive.data.example import Example
from contrastive.data.groups import Rules
from contrastive.data.packing import pack
from contrastive.data.pipeline import batches
from contrastive.data.tokenization import Tokenizer, train_wordpiece

SHAPE = Shape(query_length=16, document_length=64, texts_per_row=8)
WORDS = [a + b for a in "kbdfgmnr" for b in "aeiou"]


class Lengths:
    """Examples whose documents are of given lengths, in words."""

    most_positives = 1

    def __init__(self, lengths, seed=0):
        rng = np.random.default_rng(seed)
        self.texts = [" ".join(rng.choice(WORDS, n)) for n in lengths]

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(index)
        return Example(" ".join(self.texts[index].split()[:8]), (self.texts[index],))

    def __repr__(self):
        return "Lengths()"

    def check_negatives(self, needed):
        assert not needed


@pytest.fixture(scope="module")
def tokenize():
    return Tokenizer(train_wordpiece([" ".join(WORDS)] * 3, vocab_size=200), special_tokens=False)


def part(lengths, seed=0, weight=1.0):
    return Part(Lengths(lengths, seed), Rules(query_length=16, document_length=64), weight)


RNG = np.random.default_rng(1)
MIXES = {
    "one source": [part(RNG.integers(4, 60, 300))],
    "five sources": [part(RNG.integers(low, low + 12, 80), low) for low in (3, 12, 25, 38, 50)],
}


@pytest.mark.parametrize("one_source", [True, False])
@pytest.mark.parametrize("mix", MIXES)
def test_at_most_three_rungs_hold_nearly_all_batches(tokenize, mix, one_source):
    options = {"one_source_batches": one_source, "seed": 0, "blocks": 2}
    data, ladder = batches(MIXES[mix], tokenize, SHAPE, batch_size=16, **options)
    assert 1 <= len(ladder.rungs) <= 3
    assert np.all(np.diff(np.array(ladder.rungs), axis=0) >= 0)  # each holds those before it
    iterator, above, shapes = iter(data), 0, set()
    for _ in range(100):
        batch = next(iterator)
        shape = tuple(t.ids.shape[0] // 2 for t in (batch.queries, batch.documents))
        shapes.add(shape)
        above += shape not in ladder.rungs
    assert above <= 5
    assert shapes <= {ladder.rows(rung) for rung in range(len(ladder.rungs) + 3)}


def test_sources_of_different_lengths_have_rungs_of_their_own(tokenize):
    short, long = part([4] * 200), part([60] * 200, 1)
    options = {"block": 16, "blocks": 1, "seed": 0}
    ladder = calibrate([short, long], tokenize, SHAPE, one_source_batches=True, **options)
    # 16 texts of 4 tokens, 8 to a row, and 16 texts of 60.
    assert {documents for _, documents in ladder.rungs} == {2, 16}
    (mixed, *_) = calibrate(
        [short, long], tokenize, SHAPE, one_source_batches=False, **options
    ).rungs
    assert 5 <= mixed[1] < 16


@pytest.mark.parametrize("one_source", [True, False])
def test_small_sources_are_measured_as_batches_take_them(tokenize, one_source):
    # A batch holds much of every source, and hardly a text twice.
    made = [part(RNG.integers(low, low + 12, 12), low) for low in (3, 12, 25, 38, 50)]
    size = 10 if one_source else 30
    options = {"batch_size": size, "seed": 0, "one_source_batches": one_source}
    data, ladder = batches(made, tokenize, SHAPE, **options)
    used, padded = 0, 0
    for _, batch in zip(range(30), data, strict=False):
        assert len(batch.documents.ids) <= ladder.rungs[-1][1]
        used += np.sum(np.any(batch.documents.segments, axis=1))
        padded += len(batch.documents.ids)
    assert used >= 0.85 * padded


def test_a_block_larger_than_what_is_measured_fits(tokenize):
    source = part(RNG.integers(4, 60, 3000))
    options = {"blocks": 1, "one_source_batches": True, "seed": 0}
    ladder = calibrate([source], tokenize, SHAPE, block=2500, **options)
    texts = tokenize([source.source[i].positives[0] for i in range(2500)], 64)
    rows = len(pack(texts, row_length=64, texts_per_row=8).ids)
    assert 0.95 * rows <= ladder.rungs[0][1] <= 1.05 * rows
    assert rows <= ladder.rungs[-1][1] <= 1.1 * rows


def test_a_ladder_is_a_function_of_the_data_and_the_seed(tokenize):
    options = {"block": 8, "blocks": 4, "one_source_batches": True}
    first = calibrate(MIXES["five sources"], tokenize, SHAPE, seed=3, **options)
    assert calibrate(MIXES["five sources"], tokenize, SHAPE, seed=3, **options) == first


def test_one_text_a_row_has_one_shape(tokenize):
    one = Shape(query_length=16, document_length=64, texts_per_row=1)
    made = [Part(Lengths([9] * 20), Rules(group_size=3, query_length=16, document_length=64), 1.0)]
    options = {"block": 8, "blocks": 2, "one_source_batches": True, "seed": 0}
    assert calibrate(made, tokenize, one, **options).rungs == ((8, 24),)


def test_equal_texts_are_encoded_once(tokenize):
    class Same(Lengths):
        """One document answers every query, and every second query is the same."""

        def __getitem__(self, index):
            example = super().__getitem__(index)
            return Example(example.query if index % 2 else "ka", ("the same document",))

    source = Same(RNG.integers(9, 30, 64))
    made = [Part(source, Rules(query_length=16, document_length=64), 1.0)]
    data, ladder = batches(made, tokenize, SHAPE, batch_size=64, seed=0, blocks=2)
    batch = next(iter(data))
    assert np.count_nonzero(batch.documents.text_ids) == 2  # one a block
    assert np.count_nonzero(batch.queries.text_ids) <= 32 + 2
    assert ladder.rungs[-1][1] == 1
    texts = tokenize(["the same document"], 64)
    np.testing.assert_array_equal(batch.documents.ids[0], pack(texts, row_length=64).ids[0])

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from readback import places_of, texts_of

from contrastive.data.packing import Ladder, grow, pack, padding_share
from contrastive.types import Batch

NO_IDS = np.zeros(0, np.int32)


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


@settings(max_examples=200, deadline=None)
@given(packings())
def test_every_text_is_found_whole_at_its_slot_in_its_block(case):
    texts, options = case
    tokens = pack(texts, **options)
    assert texts_of(tokens) == [text.tolist() for text in texts]

    seen, encoded = np.zeros(tokens.ids.shape, bool), set()
    size = len(texts) // options["blocks"]
    for number, (row, columns) in enumerate(places_of(tokens)):
        assert tokens.positions[row, columns].tolist() == list(range(len(columns)))
        assert np.all(np.diff(columns) == 1)
        text = (number // size, texts[number].tobytes())
        if text not in encoded:  # equal texts of a block lie in one place
            assert not seen[row, columns].any()
        seen[row, columns] = True
        encoded.add(text)
    for array in (tokens.ids, tokens.segments, tokens.positions):
        assert array.shape == seen.shape
        assert not array[~seen].any()
    assert seen.shape[1] == options["row_length"]
    assert seen.sum() == sum(len(text) // 4 for _, text in encoded)  # int32
    assert padding_share(tokens) == pytest.approx(np.mean(~seen))


@settings(max_examples=100, deadline=None)
@given(packings(), st.integers(1, 5), st.randoms(use_true_random=False))
def test_a_text_keeps_its_digest_wherever_it_lies(case, other_texts_per_row, random):
    def digests(texts, options):
        tokens = pack(texts, **options)
        assert tokens.text_ids.dtype == np.int32
        assert tokens.texts_per_row == options["texts_per_row"]
        rows, size = len(tokens.ids) // tokens.blocks, max(len(texts) // tokens.blocks, 1)
        found, filled = {}, set()
        for number, slot in enumerate(tokens.slots.tolist()):
            row, place = divmod(slot, tokens.texts_per_row)
            row += number // size * rows
            digest = tokens.text_ids[row, place]
            assert found.setdefault(texts[number].tobytes(), digest) == digest
            filled.add((row, place))
        assert len(set(found.values())) == len(found)
        assert not any(x for where, x in np.ndenumerate(tokens.text_ids) if where not in filled)
        return found

    texts, options = case
    other = {**options, "texts_per_row": other_texts_per_row, "blocks": 1}
    assert digests(texts, options) == digests(random.sample(texts, len(texts)), other)


@settings(max_examples=200, deadline=None)
@given(packings())
def test_no_row_holds_too_many_texts_and_no_two_rows_could_be_one(case):
    texts, options = case
    tokens = pack(texts, **options)
    blocks, most, length = options["blocks"], options["texts_per_row"], options["row_length"]
    size, tallest = len(texts) // blocks, 0
    for block in range(blocks):
        # Count and sum of lengths by row, from the slots alone.
        rows, slots = {}, {}
        for number in range(block * size, (block + 1) * size):
            text, slot = texts[number].tobytes(), int(tokens.slots[number])
            if text in slots:
                assert slots[text] == slot
                continue
            slots[text] = slot
            held = rows.setdefault(slot // most, [0, 0])
            held[0] += 1
            held[1] += len(texts[number])
        assert len(set(slots.values())) == len(slots)
        assert sorted(rows) == list(range(len(rows)))
        for a, (count, tokens_held) in rows.items():
            assert count <= most
            assert tokens_held <= length
            for b, (others, more) in rows.items():
                assert a == b or count + others > most or tokens_held + more > length
        tallest = max(tallest, len(rows))
    assert tokens.ids.shape[0] == blocks * max(tallest, 1)


def test_texts_fill_rows_without_a_gap_where_they_can():
    tokens = pack(numbered([3, 1, 4, 3, 5, 2]), row_length=6, texts_per_row=2)
    assert tokens.ids.shape == (3, 6)
    assert np.all(tokens.segments > 0)


def test_texts_that_cannot_be_packed_are_refused_with_the_numbers():
    with pytest.raises(ValueError, match=r"9 tokens .* row of 8"):
        pack(numbered([3, 9]), row_length=8)
    with pytest.raises(ValueError, match=r"3 texts .* 2 blocks"):
        pack(numbered([3, 1, 2]), row_length=8, blocks=2)


@settings(max_examples=100, deadline=None)
@given(packings(), st.integers(0, 3))
def test_growing_adds_empty_rows_and_changes_no_text(case, more):
    texts, options = case
    tokens = pack(texts, **options)
    rows = tokens.ids.shape[0] // tokens.blocks + more
    grown = grow(tokens, rows)
    assert grown.ids.shape == (rows * tokens.blocks, tokens.ids.shape[1])
    assert texts_of(grown) == [text.tolist() for text in texts]
    assert [p.tolist() for _, p in places_of(grown)] == [p.tolist() for _, p in places_of(tokens)]
    for name in ("ids", "segments", "positions", "text_ids"):
        assert getattr(grown, name).sum() == getattr(tokens, name).sum()


@settings(max_examples=150, deadline=None)
@given(
    packings(most=8),
    packings(most=8),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4),
    st.integers(0, 9),
)
def test_climbing_reaches_the_lowest_rung_that_holds_the_batch(queries, documents, steps, asked):
    (queries, options), (documents, document_options) = queries, documents
    batch = Batch(pack(queries, **options), pack(documents, **document_options), *[NO_IDS] * 9)
    rungs = tuple(itertools.accumulate(steps, lambda a, b: (a[0] + b[0], a[1] + b[1])))
    rungs = tuple((queries + 1, documents + 1) for queries, documents in rungs)
    ladder = Ladder(rungs)
    need = [t.ids.shape[0] // t.blocks for t in (batch.queries, batch.documents)]

    def fits(rung):
        return all(have >= rows for have, rows in zip(ladder.rows(rung), need, strict=True))

    rung = ladder.rung(batch)
    assert fits(rung)
    assert not any(fits(lower) for lower in range(rung))
    assert tuple(map(ladder.rows, range(len(rungs)))) == rungs
    for n in range(1, 4):  # beyond the last, each a quarter higher, rounded up
        higher = tuple(-(-rows * 5**n // 4**n) for rows in rungs[-1])
        assert ladder.rows(len(rungs) - 1 + n) == higher
    for climbed, reached in (
        (ladder.climb(batch), rung),
        (ladder.climb(batch, asked), max(asked, rung)),
    ):
        heights = [t.ids.shape[0] // t.blocks for t in (climbed.queries, climbed.documents)]
        assert tuple(heights) == ladder.rows(reached)
        assert texts_of(climbed.queries) == [text.tolist() for text in queries]
        assert texts_of(climbed.documents) == [text.tolist() for text in documents]

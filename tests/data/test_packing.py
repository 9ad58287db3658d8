import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packings import numbered, packings
from readback import places_of, texts_of

from contrastive.data.tokens import pack, padding_share


@settings(max_examples=8 * settings.default.max_examples)
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


@settings(max_examples=4 * settings.default.max_examples)
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


@settings(max_examples=8 * settings.default.max_examples)
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

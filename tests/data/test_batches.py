import json
from collections import Counter

import numpy as np
import pytest
from readback import texts_of

from contrastive.data.batch_shapes import Shape
from contrastive.data.batches import batches
from contrastive.data.groups import GroupRules, draw_group
from contrastive.data.tokenizers import train_wordpiece
from contrastive.data.tokens import Tokenizer
from contrastive.data.training_sources import TrainingSource
from contrastive.errors import DataError
from contrastive.sources._example import Example, text_id
from contrastive.sources._examples import Examples
from contrastive.sources._jsonl import open_file

SHAPE = Shape(query_length=8, document_length=20, texts_per_row=4)
SIZE, BATCH, GROUP = 43, 8, 3
STEPS = SIZE // BATCH  # an epoch


class Numbered:
    """Examples that say who they are, with texts of different lengths."""

    def __init__(self, size=SIZE, positives=3, negatives=5):
        self.size, self.most_positives, self.negatives = size, positives, negatives

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if not 0 <= index < self.size:
            raise IndexError(index)
        padding = " x" * (index % 4)
        positives = 1 + index % self.most_positives
        return Example(
            f"query {index}{padding}",
            tuple(f"yes {index} {j}{padding}" for j in range(positives)),
            tuple(f"no {index} {j}{padding}" for j in range(self.negatives)),
        )


def part(source=None, group_size=GROUP, **rules):
    lengths = {"query_length": SHAPE.query_length, "document_length": SHAPE.document_length}
    examples = Examples.of(source or Numbered(), "Numbered()")
    return TrainingSource(examples, GroupRules(group_size=group_size, **lengths, **rules), 1.0)


@pytest.fixture(scope="module")
def tokenize():
    examples = list(Numbered())
    texts = [text for e in examples for text in (e.query, *e.positives, *e.negatives)]
    return Tokenizer(train_wordpiece(texts * 2, vocab_size=200), special_tokens=False)


def read(batch, tokenize):
    """Queries and groups of a batch, as words, from its tokens alone."""
    queries, documents = (
        [tokenize.backend.decode(ids).split() for ids in texts_of(tokens)]
        for tokens in (batch.queries, batch.documents)
    )
    group = len(documents) // len(queries)
    groups = [documents[i * group : (i + 1) * group] for i in range(len(queries))]
    return list(zip(queries, groups, strict=True))


def take(count, tokenize, source=None, *, batch_size=BATCH, group_size=GROUP, seed=5, **options):
    made = [part(source, group_size)]
    parts, _ = batches(made, tokenize, SHAPE, batch_size=batch_size, seed=seed, **options)
    iterator = iter(parts)
    return [next(iterator) for _ in range(count)]


@pytest.mark.parametrize(("processes", "blocks"), [(2, 1), (4, 2), (1, 4)])
def test_the_global_batches_do_not_depend_on_the_number_of_processes(tokenize, processes, blocks):
    steps = 3 * STEPS
    alone = take(steps, tokenize)
    options = {"processes": processes, "blocks": blocks, "workers": 3}
    parts = [take(steps, tokenize, process=p, **options) for p in range(processes)]
    for step in range(steps):
        together = [part[step] for part in parts]
        assert [x for b in together for x in read(b, tokenize)] == read(alone[step], tokenize)
        for name in ("query_ids", "document_ids", "known_positive_ids"):
            joined = np.concatenate([getattr(b, name) for b in together])
            np.testing.assert_array_equal(joined, getattr(alone[step], name))
        assert all(b.queries.blocks == b.documents.blocks == blocks for b in together)


def test_an_epoch_visits_each_example_at_most_once_in_a_new_order(tokenize):
    epochs = 6
    taken = take(epochs * STEPS, tokenize)
    numbers = [int(query[1]) for batch in taken for query, _ in read(batch, tokenize)]
    orders = [tuple(numbers[i : i + STEPS * BATCH]) for i in range(0, len(numbers), STEPS * BATCH)]
    assert len(set(orders)) == epochs
    for order in orders:
        assert len(set(order)) == STEPS * BATCH
        assert order != tuple(sorted(order))
    assert set(numbers) == set(range(SIZE))  # no example is left out for ever
    other = [int(q[1]) for b in take(STEPS, tokenize, seed=6) for q, _ in read(b, tokenize)]
    assert tuple(other) not in orders


def test_a_group_is_one_positive_and_different_negatives_drawn_anew_each_epoch(tokenize):
    drawn = {}
    for batch in take(6 * STEPS, tokenize):
        for query, group in read(batch, tokenize):
            assert [document[0] for document in group] == ["yes", "no", "no"]
            assert {document[1] for document in group} == {query[1]}
            assert group[1] != group[2]
            drawn.setdefault(query[1], set()).add(tuple(document[2] for document in group))
    assert all(len(groups) > 1 for groups in drawn.values())
    positives = {number: {group[0] for group in groups} for number, groups in drawn.items()}
    assert all(len(positives[number]) == 1 for number in positives if int(number) % 3 == 0)
    assert sum(len(found) > 1 for found in positives.values()) > SIZE // 2


def test_every_group_of_negatives_is_drawn_equally_often():
    rng = np.random.default_rng(0)
    example = Example("q", ("a", "b"), tuple("vwxyz"))
    draws = 6000
    rules = GroupRules(group_size=3)
    groups = [draw_group(example, rng, rules=rules).documents for _ in range(draws)]
    count = Counter((first, frozenset(rest)) for first, *rest in groups)
    assert len(count) == 2 * 10  # positives, pairs of five negatives
    share = draws / 20
    assert all(abs(n - share) < 5 * np.sqrt(share) for n in count.values())
    everything = draw_group(example, rng, rules=GroupRules(group_size=6)).documents
    assert sorted(everything[1:]) == list("vwxyz")
    assert draw_group(Example("q", ("a",)), rng, rules=GroupRules()).documents == ["a"]


@pytest.mark.parametrize("after", [0, 3, STEPS, 2 * STEPS + 1])
def test_a_new_iterator_goes_on_exactly_where_the_state_was_saved(tokenize, after):
    def iterator():
        options = {"batch_size": BATCH, "seed": 5, "process": 1, "processes": 2}
        return iter(batches([part()], tokenize, SHAPE, **options)[0])

    first = iterator()
    for _ in range(after):
        next(first)
    state = json.loads(json.dumps(first.get_state()))  # it is kept in a file
    truth = [next(first) for _ in range(STEPS + 2)]
    second = iterator()
    second.set_state(state)
    for expected in truth:
        found = next(second)
        assert read(found, tokenize) == read(expected, tokenize)
        for name in ("ids", "segments", "positions", "slots"):
            for field in ("queries", "documents"):
                np.testing.assert_array_equal(
                    getattr(getattr(found, field), name), getattr(getattr(expected, field), name)
                )
        for name in ("query_ids", "document_ids", "known_positive_ids"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_batches_are_padded_to_few_shapes_on_which_all_processes_agree(tokenize):
    options = {"batch_size": BATCH, "seed": 5, "processes": 2}
    found = [batches([part()], tokenize, SHAPE, process=p, **options) for p in (0, 1)]
    assert found[0][1] == found[1][1]
    buckets = found[0][1]
    padded = [
        buckets.pad_to(batch, buckets.bucket(batch))
        for parts, _ in found
        for batch, _ in zip(parts, range(3 * STEPS), strict=False)
    ]
    shapes = {(batch.queries.ids.shape[0], batch.documents.ids.shape[0]) for batch in padded}
    assert shapes <= {buckets.rows(bucket) for bucket in range(3)}


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"batch_size": 44}, ["batch_size is 44", "43 examples"]),
        ({"batch_size": 6, "processes": 2, "blocks": 2}, ["batch_size is 6", "multiple of 4"]),
        ({"batch_size": 9, "processes": 2}, ["batch_size is 9", "multiple of 2"]),
    ],
)
def test_a_batch_that_cannot_be_is_refused_with_the_numbers(tokenize, options, numbers):
    with pytest.raises(DataError) as error:
        take(1, tokenize, **options)
    assert all(number in str(error.value) for number in numbers)


def test_too_few_negatives_are_refused_before_the_first_batch(tokenize, tmp_path):
    path = tmp_path / "rows.jsonl"
    negatives = [["n"] * 3] * 9 + [["n"] * 2] + [["n"] * 3] * 9
    rows = [{"query": "q", "pos": ["p"], "neg": negative} for negative in negatives]
    path.write_text("\n".join(map(json.dumps, rows)))
    take(1, tokenize, open_file(path), group_size=3)
    with pytest.raises(DataError) as error:
        take(0, tokenize, open_file(path), group_size=4)
    assert str(error.value).startswith(f"{path}:10: a group needs 3 negatives but this row has 2")


def test_equal_texts_have_equal_ids_and_others_do_not(tokenize):
    class Few(Numbered):
        """Every query is asked twice, and one positive answers them all."""

        def __getitem__(self, index):
            example = super().__getitem__(index)
            return Example(f"query {index // 2}", ("yes to all",), example.negatives)

    batch = take(1, tokenize, Few(), batch_size=40)[0]
    for ids, texts in (
        (batch.query_ids, [query for query, _ in read(batch, tokenize)]),
        (batch.document_ids, [text for _, group in read(batch, tokenize) for text in group]),
    ):
        assert ids.dtype == np.int32
        assert np.all(ids != 0)
        texts = [" ".join(text) for text in texts]
        same_text = [[a == b for b in texts] for a in texts]
        assert np.array_equal(ids[:, None] == ids[None, :], same_text)
        assert len(set(texts)) < len(texts)
    assert batch.known_positive_ids.shape[0] == 40


def test_known_positives_are_the_ids_of_all_positives_padded_with_zero(tokenize):
    source = Numbered()
    identify = {text_id(text): text for e in source for text in (e.query, *e.positives)}
    for batch in take(STEPS, tokenize):
        assert batch.known_positive_ids.shape == (BATCH, 3)
        for row, query, document in zip(
            batch.known_positive_ids.tolist(),
            batch.query_ids.tolist(),
            batch.document_ids[::GROUP].tolist(),
            strict=True,
        ):
            positives = source[int(identify[query].split()[1])].positives
            assert [identify[id] for id in row[: len(positives)]] == list(positives)
            assert row[len(positives) :] == [0] * (3 - len(positives))
            assert document in row
    assert take(1, tokenize, Numbered(positives=1))[0].known_positive_ids.shape == (BATCH, 0)

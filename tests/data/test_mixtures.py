"""Several sources in one run."""

import dataclasses
import itertools
import json
from collections import Counter

import numpy as np
import pytest
from readback import texts_of

from contrastive.data.batch_shapes import Shape
from contrastive.data.batches import batches
from contrastive.data.config import Mixture, MixturePart
from contrastive.data.groups import GroupRules
from contrastive.data.tokenizers import train_wordpiece
from contrastive.data.tokens import Tokenizer
from contrastive.data.training_sources import TrainingSource, steps_per_epoch
from contrastive.errors import ConfigError, DataError
from contrastive.sources._example import Example, text_id
from contrastive.sources._examples import Examples
from contrastive.sources._pydoc import Pydoc

SHAPE = Shape(query_length=8, document_length=20, texts_per_row=4)
BATCH = 8
NAMES = ("apple", "berry", "cherry")
SIZES = (40, 19, 11)


class Named:
    """Examples that say whose they are."""

    def __init__(self, name, size, negatives=4):
        self.name, self.size, self.negatives = name, size, negatives

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if not 0 <= index < self.size:
            raise IndexError(index)
        words = f"{self.name} {index}" + " x" * (index % 4)
        return Example(
            f"query {words}",
            tuple(f"yes {words} {j}" for j in range(2)),
            tuple(f"no {words} {j}" for j in range(self.negatives)),
        )


def parts(weights=(1.0, 1.0, 1.0), rules=({}, {}, {}), sizes=SIZES):
    lengths = {"query_length": SHAPE.query_length, "document_length": SHAPE.document_length}
    return [
        TrainingSource(
            Examples.of(Named(name, size), f"Named({name!r})"),
            GroupRules(**{"group_size": 2, **lengths, **own}),
            weight,
        )
        for name, size, own, weight in zip(NAMES, sizes, rules, weights, strict=True)
    ]


@pytest.fixture(scope="module")
def tokenize():
    examples = [example for part in parts() for example in part.examples]
    texts = [text for e in examples for text in (e.query, *e.positives)] + ["no Find: Text:"]
    return Tokenizer(train_wordpiece(texts * 2, vocab_size=300), special_tokens=False)


def stream(tokenize, made, **options):
    settings = {"batch_size": BATCH, "seed": 3, **options}
    return iter(batches(made, tokenize, SHAPE, **settings)[0])


def take(count, tokenize, made, **options):
    iterator = stream(tokenize, made, **options)
    return [next(iterator) for _ in range(count)]


def queries_of(batch, tokenize):
    return [tokenize.backend.decode(ids).split() for ids in texts_of(batch.queries)]


def sources_of(batch, tokenize):
    return [words[1] for words in queries_of(batch, tokenize)]


@pytest.mark.parametrize("one_source", [True, False])
@pytest.mark.parametrize("weights", [(1, 1, 1), (5, 3, 1), (0.25, 0.25, 1.5)])
def test_weights_are_shares_of_the_training(tokenize, weights, one_source):
    steps = 36
    taken = take(steps, tokenize, parts(weights), homogeneous_batches=one_source)
    found = Counter(name for batch in taken for name in sources_of(batch, tokenize))
    for name, weight in zip(NAMES, weights, strict=True):
        share = weight / sum(weights)
        # Within one turn of each source, whatever the seed: a batch, or a query.
        assert abs(found[name] - share * steps * BATCH) <= (BATCH if one_source else 2), name


def test_batches_are_of_one_source_or_of_all(tokenize):
    for batch in take(20, tokenize, parts(), homogeneous_batches=True):
        assert len(set(sources_of(batch, tokenize))) == 1
    for batch in take(20, tokenize, parts(), homogeneous_batches=False):
        assert set(sources_of(batch, tokenize)) == set(NAMES)


@pytest.mark.parametrize("one_source", [True, False])
def test_every_source_is_seen_whole_before_it_is_seen_again(tokenize, one_source):
    taken = take(60, tokenize, parts((1, 1, 1)), homogeneous_batches=one_source)
    numbers = {name: [] for name in NAMES}
    for batch in taken:
        for words in queries_of(batch, tokenize):
            numbers[words[1]].append(int(words[2]))
        own = [sum(SIZES[: NAMES.index(w[1])]) + int(w[2]) for w in queries_of(batch, tokenize)]
        assert batch.numbers.tolist() == own  # among all the examples
    for name, size in zip(NAMES, SIZES, strict=True):
        epoch = size // BATCH * BATCH if one_source else size
        epochs = [numbers[name][i : i + epoch] for i in range(0, len(numbers[name]), epoch)]
        assert len(epochs) > 3
        assert all(len(set(epoch)) == len(epoch) for epoch in epochs), name
        assert epochs[0] != epochs[1]
        assert set(numbers[name]) == set(range(size))


@pytest.mark.parametrize("one_source", [True, False])
@pytest.mark.parametrize(("processes", "blocks"), [(2, 1), (4, 2)])
def test_the_global_batches_do_not_depend_on_the_number_of_processes(
    tokenize, processes, blocks, one_source
):
    made = parts((3, 2, 1), ({}, {"in_batch": False}, {"group_size": 3}))
    options = {"homogeneous_batches": one_source, "negative_groups": 2}
    alone = take(15, tokenize, made, **options)
    options |= {"processes": processes, "blocks": blocks, "workers": 3}
    each = [take(15, tokenize, made, process=p, **options) for p in range(processes)]
    for step, whole in enumerate(alone):
        together = [own[step] for own in each]
        documents = [text for batch in together for text in texts_of(batch.documents)]
        assert documents == texts_of(whole.documents)
        for name in (
            *("query_ids", "document_ids", "known_positive_ids"),
            *("query_pools", "document_pools"),
        ):
            joined = np.concatenate([getattr(batch, name) for batch in together])
            np.testing.assert_array_equal(joined, getattr(whole, name), err_msg=name)


@pytest.mark.parametrize("one_source", [True, False])
@pytest.mark.parametrize("after", [0, 7])
def test_a_new_iterator_goes_on_exactly_where_the_state_was_saved(tokenize, after, one_source):
    options = {"homogeneous_batches": one_source}
    made = parts((3, 2, 1), ({}, {"in_batch": False}, {"group_size": 3}))
    first = stream(tokenize, made, **options)
    for _ in range(after):
        next(first)
    state = json.loads(json.dumps(first.get_state()))
    second = stream(tokenize, made, **options)
    second.set_state(state)
    for _ in range(12):
        expected, found = next(first), next(second)
        for name in ("query_ids", "document_ids", "query_pools", "document_pools"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        np.testing.assert_array_equal(found.documents.ids, expected.documents.ids)


@pytest.mark.parametrize("shards", [1, 4])
def test_pools_keep_shards_and_sources_that_are_alone_apart(tokenize, shards):
    made = parts(rules=({}, {"in_batch": False}, {"group_size": 3}))
    for batch in take(10, tokenize, made, homogeneous_batches=False, negative_groups=shards):
        sources, pools = sources_of(batch, tokenize), batch.query_pools.tolist()
        for i in range(BATCH):
            for j in range(BATCH):
                same_shard = i * shards // BATCH == j * shards // BATCH
                alone = "berry" in (sources[i], sources[j])
                assert (pools[i] == pools[j]) == (i == j or (same_shard and not alone))
        # Groups of two leave the third place empty.
        groups = batch.document_pools.reshape(BATCH, 3)
        for source, pool, places in zip(sources, pools, groups.tolist(), strict=True):
            assert places == [pool, pool, pool if source == "cherry" else -1]
        absent = batch.document_pools == -1
        assert not batch.document_ids[absent].any()
        assert all(
            not text for text, no in zip(texts_of(batch.documents), absent, strict=True) if no
        )


def test_every_source_has_prompts_and_lengths_of_its_own(tokenize):
    made = parts(
        rules=(
            {"query_prompt": "Find: "},
            {"document_prompt": "Text: ", "document_length": 3},
            {"query_length": 2},
        )
    )
    seen = set()
    for batch in take(6, tokenize, made, homogeneous_batches=False):
        by_id = {text_id(e.query): part for part in made for e in part.examples}
        documents = iter(texts_of(batch.documents))
        for id, query in zip(batch.query_ids.tolist(), texts_of(batch.queries), strict=True):
            part = by_id[id]
            example = next(e for e in part.examples if text_id(e.query) == id)
            prompt = part.rules.query_prompt
            (expected,) = tokenize([prompt + example.query], part.rules.query_length)
            assert query == expected.tolist()
            candidates = [part.rules.document_prompt + text for text in example.positives]
            of_positives = tokenize(candidates, part.rules.document_length)
            assert next(documents) in [ids.tolist() for ids in of_positives]
            next(documents)
            seen.add(repr(part.examples).split("'")[1])
    assert seen == set(NAMES)


def test_steps_of_an_epoch():
    assert steps_per_epoch(parts(), 8) == 5 + 2 + 1
    assert steps_per_epoch(parts(), 8, homogeneous_batches=False) == 70 // 8


def test_a_source_smaller_than_a_batch_is_refused_by_name(tokenize):
    with pytest.raises(DataError) as error:
        stream(tokenize, parts(), batch_size=16)
    for words in ("batch_size is 16 but Named('cherry') has 11", "leave it out", "_batches=False"):
        assert words in str(error.value)
    stream(tokenize, parts(), batch_size=16, homogeneous_batches=False)
    stream(tokenize, parts()[:1] * 2, batch_size=60, homogeneous_batches=False)  # one source twice
    with pytest.raises(DataError, match=r"batch_size is 71 but Named\('apple'\) and .* has 70"):
        stream(tokenize, parts(), batch_size=71, homogeneous_batches=False)


def halved(made, place, queries):
    """The same parts; batches of one have another number of queries."""
    made[place] = dataclasses.replace(made[place], batch_size=queries)
    return made


def test_a_source_may_have_a_batch_size_of_its_own(tokenize):
    sizes = dict(zip(NAMES, SIZES, strict=True))
    made = halved(parts(weights=SIZES), 1, BATCH // 2)
    steps = steps_per_epoch(made, BATCH)
    assert steps == sum(
        size // (BATCH // 2 if name == NAMES[1] else BATCH) for name, size in sizes.items()
    )
    counts, rows = Counter(), Counter()
    for batch in itertools.islice(stream(tokenize, made), 10 * steps):
        ids = {text_id(e.query): repr(p.examples) for p in made for e in p.examples}
        (name,) = {ids[id] for id in batch.query_ids.tolist()}
        assert len(batch.query_ids) == (BATCH // 2 if NAMES[1] in name else BATCH)
        # In-batch negatives are those of this batch, whatever its size.
        assert set(batch.query_pools.tolist()) == {0}
        counts[name] += 1
        rows[name] += len(batch.query_ids)
    for name, size in sizes.items():  # as often as the others' rows, so twice as many batches
        share = rows[f"Named({name!r})"] / sum(rows.values())
        assert share == pytest.approx(size / sum(SIZES), abs=0.03)


def test_half_batches_are_divided_as_whole_ones_are(tokenize):
    made = halved(parts(), 1, BATCH // 2)
    whole = list(itertools.islice(stream(tokenize, made, negative_groups=2), 12))
    shared = [
        itertools.islice(
            stream(tokenize, made, negative_groups=2, process=process, processes=2), 12
        )
        for process in range(2)
    ]
    for batch, *own in zip(whole, *shared, strict=True):
        for name in ("query_ids", "document_ids", "query_pools", "document_pools"):
            together = np.concatenate([getattr(part, name) for part in own])
            np.testing.assert_array_equal(together, getattr(batch, name))
        pools = np.repeat([0, 1], len(batch.query_ids) // 2)
        np.testing.assert_array_equal(batch.query_pools, pools)


def test_a_batch_of_its_own_size_must_be_filled_and_divided(tokenize):
    with pytest.raises(DataError, match=r"batch_size is 80 but .* lower the batch to"):
        stream(tokenize, halved(parts(), 1, 80))
    with pytest.raises(DataError, match="batch_size is 3, which cannot be divided evenly"):
        stream(tokenize, halved(parts(), 1, 3), blocks=2)
    with pytest.raises(ConfigError, match=r"parts\[0\].batch_size is 4, but batches mix all"):
        Mixture(parts=(MixturePart(source=Pydoc(), batch_size=4),), homogeneous_batches=False)

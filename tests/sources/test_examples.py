"""Rows of any kind become examples, checked once and counted."""

import json
from pathlib import Path

import numpy as np
import pytest

import contrastive
from contrastive.data.training_sources import open_source
from contrastive.errors import DataError
from contrastive.sources._example import Example
from contrastive.sources._examples import Examples

ROWS = [
    {"query": "a", "pos": ["p", "r"], "neg": ["n"], "pos_scores": [2, 1], "neg_scores": [-0.5]},
    {"query": "b", "pos": ("p",), "neg": None, "prompt": "Find: ", "label": 3, "batch_size": 4},
    {"query": "c", "pos": ["p"], "neg": ["n", "m", "o"], "type": "symmetric_class", "other": {}},
]
EXAMPLES = [
    Example("a", ("p", "r"), ("n",), (2.0, 1.0, -0.5)),
    Example("b", ("p",), (), (), "Find: ", None, "3"),
    Example("c", ("p",), ("n", "m", "o"), (), None, "symmetric_class"),
]


@pytest.mark.parametrize("rows", [ROWS, EXAMPLES], ids=["mappings", "examples"])
def test_rows_become_examples(rows):
    source = Examples.of(rows, "mine")
    assert list(source) == EXAMPLES
    assert len(source) == 3
    assert source.most_positives == 2
    assert source.mean_score_range == pytest.approx(2.5)  # of the only row with scores
    assert (source.count("prompt"), source.count("type")) == (1, 1)
    assert source.count("batch_size") == (1 if rows is ROWS else 0)
    assert repr(source) == "mine"
    assert source.where(1) == "mine row 1"
    assert Examples.of(source, "again") is source


def test_the_fingerprint_is_of_what_is_trained_on():
    first = Examples.of(ROWS, "mine").fingerprint
    assert Examples.of(EXAMPLES, "another name").fingerprint == first
    assert Examples.of(EXAMPLES[::-1], "mine").fingerprint != first
    assert Examples.of([EXAMPLES[0]._replace(label="x"), *EXAMPLES[1:]], "m").fingerprint != first


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"query": "q"}, '"pos" is missing; the row has'),
        ({"query": "q", "pos": []}, '"pos" is empty'),
        ("q", "expected an object"),
        (Example("q", ("p", 5)), '"pos" must be a list of strings, but contains 5'),
        (Example("q", ("p",), scores=(float("nan"),)), "but contains nan"),
        (Example("q", ("p",), ("n",), scores=(1.0,)), '"neg_scores" must be a list of 1 numbers'),
        ({"query": "\ud83d", "pos": ["p"]}, '"query" contains half of a surrogate pair'),
    ],
)
def test_a_bad_row_is_refused_with_its_number(row, complaint):
    with pytest.raises(DataError) as error:
        Examples.of([ROWS[0], row], "mine")
    assert str(error.value).startswith("mine row 1: ")
    assert complaint in str(error.value)


def test_no_rows_are_refused():
    with pytest.raises(DataError, match="mine has no examples"):
        Examples.of([], "mine")


def test_sources_one_after_the_other():
    parts = [Examples.of(ROWS[:1], "one"), Examples.of(ROWS[1:], "two"), Examples.of(ROWS, "all")]
    whole = Examples.concatenate(parts)
    assert list(whole) == [*EXAMPLES, *EXAMPLES]
    assert len(whole) == 6
    assert repr(whole) == "one + two + all"
    assert [whole.where(i) for i in range(6)] == [
        "one row 0",
        *("two row 0", "two row 1"),
        *("all row 0", "all row 1", "all row 2"),
    ]
    with pytest.raises(DataError, match=r"two row 0: a group needs 1 .* \(2 of 6 rows"):
        whole.check_negatives(1)
    with pytest.raises(DataError, match=r"one row 0: .*a \"label\" .*\(4 of 6 rows\)"):
        whole.check_labels()
    assert Examples.concatenate(parts[:1]) is parts[0]
    prints = {Examples.concatenate(p).fingerprint for p in (parts, parts[::-1], parts[:2])}
    assert len(prints) == 3


def test_a_subset_keeps_the_places_of_its_rows():
    some = Examples.of(ROWS, "mine").subset(np.array([0, 2]), "print")
    assert list(some) == [EXAMPLES[0], EXAMPLES[2]]
    assert [some.where(i) for i in range(2)] == ["mine row 0", "mine row 2"]
    assert some.fingerprint == "print"
    assert some.count("prompt") == 0


def test_a_source_of_ones_own_returns_rows(tmp_path):
    class Sums(contrastive.sources.Source):
        """Sums and their results."""

        count: int = 3

        def read(self):
            return [{"query": f"{n} + {n}", "pos": [str(2 * n)]} for n in range(self.count)]

    source = open_source(Sums(count=2))
    assert list(source) == [Example("0 + 0", ("0",)), Example("1 + 1", ("2",))]
    assert repr(source) == "sums(count=2)"

    class Lines(contrastive.sources.Source):
        """Rows of a file, read by hand."""

        path: str

        def read(self):
            return [json.loads(line) for line in Path(self.path).read_text().splitlines()]

    path = tmp_path / "rows"
    path.write_text('{"query": "q", "pos": ["p"]}\n{"query": "q"}\n')
    with pytest.raises(DataError, match=r"lines\(path='.*rows'\) row 1: \"pos\" is missing"):
        open_source(Lines(path=str(path)))

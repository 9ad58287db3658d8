"""Rows of a text and a label: their positives are other texts of the class."""

import collections
import json

import pytest

import contrastive
from contrastive.config import (
    Classification,
    Data,
    Experiment,
    InfoNCE,
    Jsonl,
    Retrieval,
    Static,
    SupCon,
)
from contrastive.errors import DataError
from contrastive.sources import Source
from contrastive.sources._classmates import classmates
from contrastive.sources._examples import Examples
from contrastive.training.build import build

CLASSES = {"cat": 6, "dog": 3, "hen": 2, "cow": 1}


def rows():
    return [
        {"text": f"{label} {n}", "label": label} for label, n in CLASSES.items() for n in range(n)
    ]


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def class_of(text):
    return text.split()[0]


@pytest.fixture(params=["file", "two files", "limit", "list"])
def examples(request, tmp_path):
    """The same rows, from each place that they can come from."""
    if request.param == "list":
        return Examples.of(rows(), "list")
    if request.param == "limit":
        more = [*rows(), *({"text": f"cat {n}", "label": "cat"} for n in range(6, 9))]
        return Jsonl(write(tmp_path / "rows.jsonl", more), limit=12).read()
    if request.param == "file":
        return Jsonl(write(tmp_path / "rows.jsonl", rows())).read()
    parts = rows()[::2], rows()[1::2]
    return Jsonl([write(tmp_path / f"{n}.jsonl", part) for n, part in enumerate(parts)]).read()


def test_positives_are_other_texts_of_the_class(examples):
    read = [examples[index] for index in range(len(examples))]
    texts = {example.query for example in read}
    for example in read:
        own = class_of(example.query)
        assert example.label == own
        others = {text for text in texts if class_of(text) == own} - {example.query}
        assert len(set(example.positives)) == max(1, min(4, len(others)))
        assert set(example.positives) <= (others or {example.query})
    assert examples.most_positives == 4
    assert examples.has_labeled_texts
    examples.check_labels()


@pytest.mark.parametrize("size", range(1, 30))
def test_members_of_a_class_are_chosen_equally_often(size):
    chosen = [other for place in range(size) for other in classmates(place, size)]
    assert set(collections.Counter(chosen).values()) <= {min(4, size - 1)}
    assert all(place not in classmates(place, size) for place in range(size))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "a"}, "\"label\" is missing; the row has ['text']"),
        ({"text": "a", "label": None}, '"label" is null; every text needs one'),
        ({"text": 3, "label": "x"}, '"text" must be a string, got 3'),
        ({"text": "a", "label": 1.5}, '"label" must be a string, got 1.5'),
    ],
)
def test_a_row_that_is_no_text_with_a_label(row, said, tmp_path):
    with pytest.raises(DataError) as error:
        Jsonl(write(tmp_path / "rows.jsonl", [row])).read()
    assert str(error.value) == f"{tmp_path / 'rows.jsonl'}:1: {said}"


def test_labels_may_be_integers():
    examples = Examples.of([{"text": "a", "label": 3}, {"text": "b", "label": "3"}], "list")
    assert [examples[n].positives for n in range(2)] == [("b",), ("a",)]


def test_they_train_and_are_evaluated(tmp_path):
    """Nothing in a text says its class, so it can be told only after training."""
    labels = {f"w{n}": str(n % 2) for n in range(16)}
    texts = [{"text": word, "label": label} for word, label in labels.items()]
    path = write(tmp_path / "rows.jsonl", texts)
    experiment = Experiment(
        name="classes",
        steps=60,
        batch_size=16,
        data=Data(train=Jsonl(path)),
        model=Static(width=8),
        loss=SupCon(),
        optimizer={"learning_rate": 0.05},
        evaluators={"classes": Classification(train=path, test=path, method="probe")},
    ).replace(**{"loss.temperature": 0.2})
    before = experiment.replace(steps=1, **{"optimizer.learning_rate": 1e-9})
    untrained = contrastive.train(before, tmp_path / "before")
    trained = contrastive.train(experiment, tmp_path / "after")
    cosines = [
        run.encoder.similarity(*[run.encoder.encode_documents(list(labels))] * 2)
        for run in (untrained, trained)
    ]
    same = [[a == b for a in labels.values()] for b in labels.values()]
    for matrix, separated in zip(cosines, (False, True), strict=True):
        inside = [matrix[i][j] for i in range(16) for j in range(16) if i != j and same[i][j]]
        across = [matrix[i][j] for i in range(16) for j in range(16) if not same[i][j]]
        assert (min(inside) > max(across)) == separated
    assert trained.scores["classes"]["probe_accuracy"] == 1.0


def test_retrieval_does_not_take_them(tmp_path):
    class Animals(Source):
        """Rows of this test."""

        def read(self):
            return rows()

    for source in (write(tmp_path / "rows.jsonl", rows()), Animals()):
        with pytest.raises(DataError, match="evaluate them with Classification or Clustering"):
            Retrieval(source).load()


@pytest.mark.parametrize(("loss", "count"), [(SupCon(), 0), (InfoNCE(), 1)])
def test_losses_without_labels_say_what_classes_mean_to_them(tmp_path, loss, count):
    path = write(tmp_path / "rows.jsonl", [{"text": f"w{n}", "label": n % 2} for n in range(16)])
    data, model = Data(train=Jsonl(path)), Static(width=4)
    experiment = Experiment(name="x", batch_size=8, data=data, model=model, loss=loss)
    notices = [x for x in build(experiment).notices if "same class are negatives" in x]
    assert len(notices) == count

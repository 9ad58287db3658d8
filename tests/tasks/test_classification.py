"""Classes told from embeddings, by neighbors and by a linear probe."""

from collections import Counter

import numpy as np
import pytest
from fake import Fake, by_angle, written
from sklearn.linear_model import LogisticRegression

from contrastive.tasks import Classification


def row(text, label):
    return {"text": text, "label": label}


def task_of(tmp_path, train, test, **settings):
    files = (written(tmp_path / f"{n}.jsonl", r) for n, r in (("train", train), ("test", test)))
    train, test = files
    return Classification(train=train, test=test, **settings)


TRAIN = {"a": (0, "x"), "b": (10, "x"), "c": (20, "y"), "d": (80, "y"), "e": (90, "y")}
TEST = {"p": (4, "x"), "q": (16, "y"), "r": (70, "y"), "s": (30, "y")}


def test_the_nearest_neighbors_vote(tmp_path):
    train, test = ([row(t, label) for t, (_, label) in x.items()] for x in (TRAIN, TEST))
    task = task_of(tmp_path, train, test, method="knn", neighbors=3)
    vectors = by_angle({text: angle for text, (angle, _) in {**TRAIN, **TEST}.items()})
    found = task.evaluate(Fake(vectors), task.load())
    # Nearest three: p a b c -> x; q c b a -> x, wrong; r d e c -> y; s c b a -> x, wrong.
    # x: one of three right, the only one found: f1 2/(2+2+0); y: one of three found, 2/(2+0+2).
    assert found == pytest.approx({"knn_accuracy": 2 / 4, "knn_f1": 1 / 2})
    alone = task.replace(neighbors=1)
    assert alone.evaluate(Fake(vectors), task.load())["knn_accuracy"] == 1.0


@pytest.fixture
def blobs(tmp_path):
    """Three classes that overlap."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(3, 6))
    vectors, rows = {}, {"train": [], "test": []}
    for number in range(150):
        label = number % 3
        vectors[f"t{number}"] = (centers[label] + rng.normal(size=6)) * rng.uniform(0.5, 2)
        rows["train" if number < 90 else "test"].append(row(f"t{number}", label))
    return task_of(tmp_path, rows["train"], rows["test"], neighbors=7), vectors


def units(vectors, rows):
    chosen = np.array([vectors[text] for text in rows])
    return (chosen / np.linalg.norm(chosen, axis=1, keepdims=True)).astype(np.float32)


def macro_f1(truth, predicted):
    each = []
    for label in set(truth) | set(predicted):
        right = sum(a == b == label for a, b in zip(truth, predicted, strict=True))
        each.append(2 * right / (truth.count(label) + predicted.count(label)))
    return sum(each) / len(each)


def test_neighbors_are_those_of_a_vote_by_hand(blobs):
    task, vectors = blobs
    data = task.load()
    train, test = units(vectors, data.train), units(vectors, data.test)
    predicted = []
    for vector in test:
        nearest = np.argsort(-(train @ vector), kind="stable")[:7]
        votes = Counter(data.train_labels[n] for n in nearest)
        predicted.append(min(votes, key=lambda label: (-votes[label], label)))
    found = task.replace(method="knn").evaluate(Fake(vectors), data)
    accuracy = np.mean([a == b for a, b in zip(data.test_labels, predicted, strict=True)])
    assert 0.5 < accuracy < 1
    assert found["knn_accuracy"] == pytest.approx(accuracy)
    assert found["knn_f1"] == pytest.approx(macro_f1(data.test_labels, predicted))


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_the_probe_is_a_logistic_regression(blobs, c):
    task, vectors = blobs
    data = task.load()
    probe = LogisticRegression(C=c, max_iter=1000)
    probe.fit(units(vectors, data.train), data.train_labels)
    predicted = probe.predict(units(vectors, data.test)).tolist()
    task = task.replace(method="probe", inverse_regularization=c)
    found = task.evaluate(Fake(vectors), data)
    accuracy = np.mean([a == b for a, b in zip(data.test_labels, predicted, strict=True)])
    assert found == pytest.approx(
        {"probe_accuracy": accuracy, "probe_f1": macro_f1(data.test_labels, predicted)}
    )


def test_both_are_reported_unless_one_is_chosen(blobs):
    task, vectors = blobs
    data = task.load()
    both = task.evaluate(Fake(vectors), data)
    knn, probe = (
        task.replace(method=method).evaluate(Fake(vectors), data) for method in ("knn", "probe")
    )
    assert both == {**knn, **probe}
    assert list(both) == ["knn_accuracy", "knn_f1", "probe_accuracy", "probe_f1"]
    described = task.describe(data)
    assert [described[name] for name in ("train_texts", "test_texts", "classes")] == [90, 60, 3]
    few = task.replace(neighbors=1000, method="knn")  # more than there are
    assert few.evaluate(Fake(vectors), data)["knn_accuracy"] == pytest.approx(1 / 3)


def test_numbers_and_words_are_one_class_and_unseen_classes_are_refused(tmp_path):
    train = [row("a", 3), row("b", "4")]
    data = task_of(tmp_path, train, [row("c", "3"), row("d", 4)]).load()
    assert (data.train_labels, data.test_labels) == (["3", "4"], ["3", "4"])
    with pytest.raises(ValueError, match=r"test\.jsonl: class '5' does not occur in .*train"):
        task_of(tmp_path, train, [row("c", 5)]).load()
    with pytest.raises(ValueError, match=r"train\.jsonl: all texts have the class '3'"):
        task_of(tmp_path, train[:1], [row("c", 3)]).load()

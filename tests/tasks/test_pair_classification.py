"""Pairs told apart by a threshold on their cosine."""

import math

import numpy as np
import pytest
from fake import Fake, by_angle, written

from contrastive.tasks import PairClassification

NAMES = ("average_precision", "accuracy", "accuracy_threshold", "f1", "f1_threshold")


def scores(tmp_path, cosines, labels):
    """Scores of pairs that have these cosines."""
    angles = {str(x): math.degrees(math.acos(x)) for x in cosines}
    rows = [
        {"sentence1": "zero", "sentence2": str(x), "label": label}
        for x, label in zip(cosines, labels, strict=True)
    ]
    task = PairClassification(written(tmp_path / "pairs.jsonl", rows))
    return task.evaluate(Fake(by_angle({"zero": 0, **angles})), task.load())


def confusion(cosines, labels, threshold):
    """True and false positives, false and true negatives of "at least the threshold"."""
    said = [x >= threshold for x in cosines]
    counts = [
        sum(s == guess and bool(y) == truth for s, y in zip(said, labels, strict=True))
        for guess, truth in ((True, True), (True, False), (False, True), (False, False))
    ]
    assert sum(counts) == len(labels)
    return counts


def f1(true, false, missed, _):
    return 2 * true / (2 * true + false + missed)


def accuracy(true, false, missed, right):
    return (true + right) / (true + false + missed + right)


def average_precision(cosines, labels):
    """Sum over thresholds, from the highest, of precision times the recall that is gained."""
    total, before, positives = 0.0, 0, sum(labels)
    for threshold in sorted(set(cosines), reverse=True):
        true, false, *_ = confusion(cosines, labels, threshold)
        total += true / (true + false) * (true - before) / positives
        before = true
    return total


def test_five_pairs_are_as_by_hand(tmp_path):
    found = scores(tmp_path, [0.9, 0.7, 0.5, 0.3, 0.1], [1, 0, 1, 1, 0])
    assert tuple(found) == NAMES
    # Precision 1 at the first positive, 2/3 at the second, 3/4 at the third.
    assert found["average_precision"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert found["accuracy"] == pytest.approx(4 / 5)  # all but the pair at 0.7
    assert found["accuracy_threshold"] == pytest.approx(0.3, abs=1e-6)
    assert found["f1"] == pytest.approx(2 * 3 / (2 * 3 + 1))
    assert found["f1_threshold"] == pytest.approx(0.3, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_the_best_threshold_is_that_of_a_search_through_all(tmp_path, seed):
    rng = np.random.default_rng(seed)
    labels = [0, 1, *rng.integers(0, 2, 38).tolist()]
    # Few values: many pairs are equal, and a threshold takes all of them or none.
    cosines = (rng.integers(-9, 10, 40) / 10 * 0.7 + np.array(labels) * 0.2).round(4).tolist()
    if seed == 0:
        cosines = [-x for x in cosines]  # worse than chance
    found = scores(tmp_path, cosines, labels)
    thresholds = [*cosines, 2.0]
    best = {
        "accuracy": max(accuracy(*confusion(cosines, labels, t)) for t in thresholds),
        "f1": max(f1(*confusion(cosines, labels, t)) for t in thresholds),
        "average_precision": average_precision(cosines, labels),
    }
    assert {name: found[name] for name in best} == pytest.approx(best)
    # And the threshold is one that reaches it.
    for name, metric in (("accuracy", accuracy), ("f1", f1)):
        reached = [
            metric(*confusion(cosines, labels, found[f"{name}_threshold"] + shift))
            for shift in (-1e-4, 1e-4)
        ]
        assert best[name] == pytest.approx(reached[0])
        assert found[f"{name}_threshold"] <= 1.0


def test_negatives_alone_may_be_told_best(tmp_path):
    """Nine in ten are negatives and look like positives: to say no to all is best."""
    found = scores(tmp_path, [0.9] * 9 + [-0.5], [0] * 9 + [1])
    assert found["accuracy"] == pytest.approx(0.9)
    assert 0.9 < found["accuracy_threshold"] <= 1.0


def test_perfect_cosines(tmp_path):
    found = scores(tmp_path, [0.8, 0.7, 0.2], [1, 1, 0])
    assert [found[name] for name in ("average_precision", "accuracy", "f1")] == [1.0, 1.0, 1.0]
    assert found["f1_threshold"] == pytest.approx(0.7, abs=1e-6)

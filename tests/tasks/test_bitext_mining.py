"""Accuracy of mining translations, by hand and against a plain loop."""

import numpy as np
import pytest
from fake import Fake, by_angle, written

from contrastive.errors import DataError
from contrastive.tasks import BitextMining


def scores(tmp_path, pairs, vectors):
    rows = [{"sentence1": first, "sentence2": second} for first, second in pairs]
    task = BitextMining(written(tmp_path / "pairs.jsonl.gz", rows))
    data = task.load()
    assert task.describe(data)["pairs"] == len(pairs)
    return task.evaluate(Fake(vectors), data)


def test_accuracy_by_hand(tmp_path):
    angles = {"one": 0, "two": 40, "three": 90, "eins": 5, "zwei": 10, "drei": 95}
    found = scores(
        tmp_path, [("one", "eins"), ("two", "zwei"), ("three", "drei")], by_angle(angles)
    )
    # From the first language all are nearest; "zwei" at 10 degrees is nearer to "one" than "two".
    assert found["accuracy_1_to_2"] == pytest.approx(1.0)
    assert found["accuracy_2_to_1"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(5 / 6)


def test_a_sentence_may_have_several_translations(tmp_path):
    angles = {"hi": 0, "bye": 90, "hallo": 20, "servus": 5, "ade": 80}
    pairs = [("hi", "hallo"), ("hi", "servus"), ("bye", "ade")]
    found = scores(tmp_path, pairs, by_angle(angles))
    assert found["accuracy_1_to_2"] == pytest.approx(1.0)


def test_an_encoder_that_cannot_tell_texts_apart_finds_nothing(tmp_path):
    vectors = dict.fromkeys(["a", "b", "c", "d"], np.ones(3))
    assert scores(tmp_path, [("a", "c"), ("b", "d")], vectors)["accuracy"] == 0


def test_any_vectors_as_a_plain_loop_has_them(tmp_path):
    rng = np.random.default_rng(0)
    pairs = [(f"a{n}", f"b{n}") for n in range(40)]
    base = {n: rng.normal(size=5) for n in range(40)}
    vectors = {f"{side}{n}": base[n] + 0.5 * rng.normal(size=5) for side in "ab" for n in base}
    found = scores(tmp_path, pairs, vectors)

    def accuracy(of, among):
        hits = 0
        for n in range(40):
            x = vectors[f"{of}{n}"]
            cosines = [
                x @ y / np.linalg.norm(x) / np.linalg.norm(y)
                for y in (vectors[f"{among}{m}"] for m in range(40))
            ]
            hits += int(np.argmax(cosines)) == n
        return hits / 40

    assert 0.2 < accuracy("a", "b") < 0.95
    assert found["accuracy_1_to_2"] == pytest.approx(accuracy("a", "b"))
    assert found["accuracy_2_to_1"] == pytest.approx(accuracy("b", "a"))


def test_a_single_sentence_is_refused(tmp_path):
    with pytest.raises(DataError, match=r'pairs\.jsonl\.gz: "sentence1" is the same in all rows'):
        scores(tmp_path, [("a", "b"), ("a", "c")], {})

"""Correlation of cosines with scores."""

import numpy as np
import pytest
from fake import Fake, by_angle, written
from scipy.stats import pearsonr, spearmanr

from contrastive.errors import DataError
from contrastive.tasks import STS

ANGLES = {"a": 0, "b": 10, "c": 30, "d": 60, "e": 90, "f": 180}
ROWS = [
    {"sentence1": "a", "sentence2": "b", "score": 5},
    {"sentence1": "a", "sentence2": "c", "score": 3.5},
    {"sentence1": "a", "sentence2": "d", "score": 4},
    {"sentence1": "a", "sentence2": "e", "score": 0.5},
    {"sentence1": "f", "sentence2": "a", "score": 1},
]


def scores(tmp_path, rows, vectors):
    task = STS(written(tmp_path / "pairs.jsonl", rows))
    return task.evaluate(Fake(vectors), task.load())


def test_correlations_are_as_by_hand(tmp_path):
    found = scores(tmp_path, ROWS, by_angle(ANGLES))
    # Ranks of cosines 1, 2, 3, 4, 5 and of scores 1, 3, 2, 5, 4: differences 0, 1, 1, 1, 1.
    assert found["spearman"] == pytest.approx(1 - 6 * 4 / (5 * 24))
    cosines = np.array([np.cos(np.deg2rad(x)) for x in (10, 30, 60, 90, 180)])
    people = np.array([5, 3.5, 4, 0.5, 1])
    x, y = cosines - cosines.mean(), people - people.mean()
    assert found["pearson"] == pytest.approx(sum(x * y) / np.sqrt(sum(x * x) * sum(y * y)))


def test_ties_have_the_mean_of_their_ranks(tmp_path):
    rows = [*ROWS[:2], {**ROWS[2], "score": 3.5}]
    found = scores(tmp_path, rows, by_angle(ANGLES))
    # Ranks of cosines 3, 2, 1; of scores 3, 1.5, 1.5.
    assert found["spearman"] == pytest.approx(np.corrcoef([3, 2, 1], [3, 1.5, 1.5])[0, 1])


def test_any_vectors_are_as_scipy_has_them(tmp_path):
    rng = np.random.default_rng(0)
    vectors = {f"t{n}": rng.normal(size=7) for n in range(60)}
    rows = [
        {"sentence1": f"t{n}", "sentence2": f"t{(n * 7 + 1) % 60}", "score": float(x)}
        for n, x in enumerate(rng.integers(0, 6, 50))
    ]
    found = scores(tmp_path, rows, vectors)
    pairs = [(vectors[row["sentence1"]], vectors[row["sentence2"]]) for row in rows]
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs]
    people = [row["score"] for row in rows]
    assert found["spearman"] == pytest.approx(spearmanr(cosines, people).statistic, abs=1e-5)
    assert found["pearson"] == pytest.approx(pearsonr(cosines, people).statistic, abs=1e-5)


def test_both_sentences_are_encoded_as_documents(tmp_path):
    task = STS(written(tmp_path / "pairs.jsonl.gz", ROWS))
    data = task.load()
    vectors = {f"D: {text}": vector for text, vector in by_angle(ANGLES).items()}
    encoder = Fake(vectors, query_prompt="Q: ", document_prompt="D: ")
    assert task.evaluate(encoder, data) == scores(tmp_path, ROWS, by_angle(ANGLES))
    assert {text for _, text, _ in encoder.seen} == set(vectors)
    assert task.describe(data)["pairs"] == 5


def test_scores_that_are_all_equal_are_refused(tmp_path):
    for rows in (ROWS[:1], [{**row, "score": 5.0} for row in ROWS]):
        with pytest.raises(
            DataError, match=r"pairs\.jsonl: all scores are 5, .* two different scores"
        ):
            STS(written(tmp_path / "pairs.jsonl", rows)).load()

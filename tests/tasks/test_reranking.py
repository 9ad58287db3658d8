"""Each query orders candidates of its own."""

import math

import numpy as np
import pytest
from fake import Fake, written

from contrastive.errors import DataError
from contrastive.sources import Jsonl, Source
from contrastive.tasks import Reranking

ANGLES = {"q": 0, "r": 90, "a": 5, "b": 10, "c": 20, "d": 45, "e": 70, "f": 88}


def scores(tmp_path, rows, vectors, **settings):
    task = Reranking(written(tmp_path / "rows.jsonl", rows), **settings)
    return task.evaluate(Fake(vectors), task.load())


def unit(angles):
    """Exact dot products: every vector has length 1."""
    radians = {text: math.radians(angle) for text, angle in angles.items()}
    return {text: np.array([math.cos(x), math.sin(x)]) for text, x in radians.items()}


def test_two_queries_are_as_by_hand(tmp_path):
    rows = [
        # Ranked a, b, c, d: positives at 2 and 4.
        {"query": "q", "pos": ["b", "d"], "neg": ["c", "a"]},
        # Ranked f, e, d: the positive at 1.
        {"query": "r", "pos": ["f"], "neg": ["d", "e"]},
    ]
    found = scores(tmp_path, rows, unit(ANGLES))
    gain = 1 / math.log2(3) + 1 / math.log2(5)
    ideal = 1 / math.log2(2) + 1 / math.log2(3)
    assert found == pytest.approx(
        {
            "MAP": ((1 / 2 + 2 / 4) / 2 + 1) / 2,
            "MRR@10": (1 / 2 + 1) / 2,
            "nDCG@10": (gain / ideal + 1) / 2,
        }
    )


def test_candidates_are_ordered_by_dot_product_as_the_model_is_trained(tmp_path):
    """Long vectors count for more where embeddings are not normalized."""
    vectors = {"q": [1.0, 0.0], "a": [1.0, 0.0], "b": [3.0, 3.0]}
    rows = [{"query": "q", "pos": ["a"], "neg": ["b"]}]
    assert scores(tmp_path, rows, vectors)["MAP"] == pytest.approx(1 / 2)


def test_a_negative_as_similar_as_a_positive_is_ranked_before_it(tmp_path):
    vectors = unit({**ANGLES, "b2": 10, "b3": 10})
    rows = [{"query": "q", "pos": ["b", "d"], "neg": ["b2", "e", "b3"]}]
    # Ranked b2, b3, b, d, e.
    found = scores(tmp_path, rows, vectors)
    assert found["MAP"] == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert found["MRR@10"] == pytest.approx(1 / 3)


def test_an_encoder_that_tells_nothing_apart_scores_worst(tmp_path):
    texts = [f"t{n}" for n in range(12)]
    vectors = dict.fromkeys(["q", *texts], np.ones(3))
    found = scores(tmp_path, [{"query": "q", "pos": texts[:1], "neg": texts[1:]}], vectors)
    assert found == pytest.approx({"MAP": 1 / 12, "MRR@10": 0.0, "nDCG@10": 0.0})


def test_many_queries_are_as_by_a_loop(tmp_path):
    rng = np.random.default_rng(0)
    vectors = {f"t{n}": rng.normal(size=5) for n in range(80)}
    rows, precisions, reciprocals = [], [], []
    for _ in range(20):
        chosen = [f"t{n}" for n in rng.choice(80, 20, replace=False)]
        positives, negatives = chosen[1:4], chosen[4:]
        rows.append({"query": chosen[0], "pos": positives, "neg": negatives})
        ranked = sorted(chosen[1:], key=lambda t: -(vectors[t] @ vectors[chosen[0]]))
        ranks = sorted(ranked.index(text) + 1 for text in positives)
        precisions.append(np.mean([(n + 1) / rank for n, rank in enumerate(ranks)]))
        reciprocals.append(1 / ranks[0] if ranks[0] <= 10 else 0.0)
    found = scores(tmp_path, rows, vectors)
    assert found["MAP"] == pytest.approx(np.mean(precisions))
    assert found["MRR@10"] == pytest.approx(np.mean(reciprocals))


def test_texts_are_encoded_once_with_the_prompts_of_training(tmp_path):
    rows = [
        {"query": "q", "pos": ["a"], "neg": ["b"]},
        {"query": "r", "pos": ["b"], "neg": ["a", "c"], "prompt": "say"},
        {"query": "r", "pos": ["d"], "neg": ["a"], "prompt": "pair", "type": "symmetric_sts"},
        {"query": "q", "pos": ["d"], "neg": ["a"], "type": "symmetric_clustering"},
    ]

    class Any(dict):
        def __missing__(self, text):
            return np.random.default_rng(list(text.encode())).normal(size=4)

    encoder = Fake(Any(), query_prompt="Q: ", document_prompt="D: ")
    task = Reranking(written(tmp_path / "rows.jsonl", rows), row_prompt="<{}> ")
    task.evaluate(encoder, task.load())
    asked = [(text, length) for label, text, length in encoder.seen if label == "queries"]
    assert asked == [("Q: q", 8), ("<say> r", 8), ("<pair> r", 8), ("Q: q", 8)]
    ranked = [text for label, text, length in encoder.seen if label == "candidates"]
    assert {length for label, _, length in encoder.seen if label == "candidates"} == {16}
    assert sorted(ranked) == sorted(
        ["D: a", "D: b", "D: c", "<pair> d", "<pair> a", "Q: d", "Q: a"]
    )


def test_any_source_has_candidates(tmp_path):
    rows = [{"query": "q", "pos": ["a"], "neg": ["b"]}]

    class Rows(Source):
        """Rows by hand."""

        def read(self):
            return rows

    path = written(tmp_path / "rows.jsonl.gz", rows)
    for data in (path, Jsonl(path=path), Rows()):
        task = Reranking(data)
        loaded = task.load()
        assert task.evaluate(Fake(unit(ANGLES)), loaded)["MAP"] == 1.0
        assert task.describe(loaded)["queries"] == 1


def test_a_row_without_other_candidates_is_refused(tmp_path):
    rows = [{"query": "q", "pos": ["a"], "neg": ["b"]}, {"query": "q", "pos": ["a"]}]
    path = written(tmp_path / "rows.jsonl", rows)
    with pytest.raises(DataError) as error:
        Reranking(path).load()
    assert str(error.value).startswith(f"{path}:2: this row has no negatives")

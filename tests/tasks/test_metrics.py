import math

import numpy as np
import pytest

from contrastive.sources._example import Example
from contrastive.sources._examples import Examples
from contrastive.tasks.retrieval.collections import Collection, from_examples
from contrastive.tasks.retrieval.metrics import score

CORPUS = {f"d{i}": f"text {i}" for i in range(150)}


def test_metrics_of_three_queries_are_as_by_hand():
    relevant = {
        "a": {"d3": 1, "d5": 1},  # found at ranks 1 and 3
        "b": {"d7": 1, "d8": 1, "d9": 1, "d10": 1},  # one at rank 12, one at rank 100
        "c": {"d20": 1},  # not found
    }
    ranking = np.full((3, 100), -1)
    ranking[0, :4] = [3, 4, 5, 6]
    ranking[1] = [7 if rank == 12 else 8 if rank == 100 else 30 + rank for rank in range(1, 101)]
    ranking[2, :20] = range(20)
    found = score(Collection("t", {q: q for q in relevant}, CORPUS, relevant), ranking)

    gain = 1 / math.log2(2) + 1 / math.log2(4)
    ideal = 1 / math.log2(2) + 1 / math.log2(3)
    assert found == pytest.approx(
        {
            "nDCG@10": (gain / ideal + 0 + 0) / 3,
            "MRR@10": (1 + 0 + 0) / 3,
            "Recall@10": (2 / 2 + 0 + 0) / 3,
            "Recall@100": (2 / 2 + 2 / 4 + 0) / 3,
            "MAP": ((1 / 1 + 2 / 3) / 2 + (1 / 12 + 2 / 100) / 4 + 0) / 3,
        }
    )


def test_graded_gains_count_in_ndcg_and_a_query_without_a_ranking_as_zero():
    relevant = {"a": {"d1": 1, "d2": 3}, "b": {"d149": 1}}  # the corpus's last
    ranking = np.array([[9, 1, 2], [-1, -1, -1]])
    found = score(Collection("t", {q: q for q in relevant}, CORPUS, relevant), ranking)
    gain = 1 / math.log2(3) + 3 / math.log2(4)
    ideal = 3 / math.log2(2) + 1 / math.log2(3)
    assert found["nDCG@10"] == pytest.approx(gain / ideal / 2)
    assert found["MRR@10"] == pytest.approx(1 / 2 / 2)


def test_equal_texts_of_examples_become_one_query_or_document():
    examples = [
        Example("x", ("one", "two"), ("three",)),
        Example("y", ("three",), ("one", "four")),
        Example("x", ("five",)),
    ]
    task = from_examples(Examples.of(examples, "rows"), "held out")
    assert list(task.corpus.values()) == ["one", "two", "three", "four", "five"]
    assert list(task.queries.values()) == ["x", "y"]
    by_text = [{task.corpus[d]: g for d, g in task.relevant[q].items()} for q in task.queries]
    assert by_text == [{"one": 1, "two": 1, "five": 1}, {"three": 1}]

import itertools
import math
import re

import numpy as np
import pytest

from contrastive.tasks import Retrieval
from contrastive.tasks.retrieval import bm25


def okapi(query, corpus):
    """Scores by the formula, a term at a time, in float64."""
    texts = [re.findall(r"[a-z0-9]+", text.lower()) for text in corpus]
    mean = sum(map(len, texts)) / len(texts)
    scores = []
    for words in texts:
        score = 0.0
        for term in re.findall(r"[a-z0-9]+", query.lower()):
            holding = sum(term in other for other in texts)
            idf = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
            count = words.count(term)
            score += idf * count / (count + 1.2 * (1 - 0.75 + 0.75 * len(words) / mean))
        scores.append(score)
    return np.array(scores)


def test_a_tiny_corpus_is_ranked_as_by_hand():
    corpus = [
        "Cat!",  # 0: one of its one words
        "cat cat dog dog dog dog",  # 1: twice in six words
        "dog",  # 2
        "a bird",  # 3
        "DOG_cat dog dog",  # 4: four words, for "_" separates
    ]
    # Mean length 14 / 5 = 2.8. "cat" is in 3 of 5: idf ln(1 + 2.5 / 3.5) = 0.539, and tf / (tf +
    # 1.2 (0.25 + 0.75 len / 2.8)) is 0: 1 / 1.621, 1: 2 / 4.229, 4: 1 / 2.586.
    # "dog" is as rare. 1: 4 / 6.229, 2: 1 / 1.621, 4: 3 / 4.586.
    # "bird" is in 1 of 5: idf ln(1 + 4.5 / 1.5) = 1.386; 3: 1 / 1.943.
    queries = {
        "cat": [0, 1, 4, 2, 3],  # 0.617, 0.473, 0.387, then 0 in the corpus's order
        "dog": [4, 1, 2, 0, 3],  # 0.654, 0.642, 0.617
        "cat Dog": [1, 4, 0, 2, 3],  # 1.115, 1.041, 0.617, 0.617 in the corpus's order
        "cat cat bird": [3, 0, 1, 4, 2],  # 0.713, then cat's by 2 * 0.539: 0.665, 0.510, 0.417
        "cat cat cat bird": [0, 1, 3, 4, 2],  # 0.998, 0.765, 0.713, 0.626
        "unknown words": [0, 1, 2, 3, 4],
        "?!": [0, 1, 2, 3, 4],
        "": [0, 1, 2, 3, 4],
    }
    found = bm25.rank(list(queries), corpus, k=7)
    assert found.tolist() == [[*order, -1, -1] for order in queries.values()]
    assert bm25.rank(["dog"], corpus, k=2).tolist() == [[4, 1]]


def test_rankings_follow_the_formula():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(40)]
    common = 1 / np.arange(1, 41)

    def texts(count, most):
        lengths = rng.integers(1, most, count)
        return [" ".join(rng.choice(words, n, p=common / common.sum())) for n in lengths]

    corpus = texts(80, 40)
    corpus[::9] = corpus[0:1] * len(corpus[::9])  # equal texts score the same
    queries = texts(25, 8)
    for query, ranking in zip(queries, bm25.rank(queries, corpus, k=80), strict=True):
        scores = okapi(query, corpus)
        assert sorted(ranking.tolist()) == list(range(80))
        for better, worse in itertools.pairwise(ranking):
            assert scores[better] > scores[worse] - 1e-5
            if scores[better] == scores[worse]:
                assert better < worse


def test_a_corpus_without_a_word_is_ranked_in_its_order():
    assert bm25.rank(["cat"], ["", "?!"], k=3).tolist() == [[0, 1, -1]]


REFERENCE = re.compile(r"^\| (\w+) (\w+) \(\d+ queries\) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$")


def test_real_collections_score_as_in_the_reference_table(shared_data):
    lines = (shared_data / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [match.groups() for line in lines if (match := REFERENCE.match(line))]
    assert len(rows) == 3
    for name, split, *numbers in rows:
        task = Retrieval(str(shared_data / name), split=split)
        found = task.baselines(task.load())["BM25"]
        truth = dict(zip(("nDCG@10", "Recall@100", "MRR@10"), map(float, numbers), strict=True))
        assert {metric: found[metric] for metric in truth} == pytest.approx(truth, abs=1e-4)

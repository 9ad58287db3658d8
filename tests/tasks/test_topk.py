import numpy as np
import pytest

from contrastive.tasks.retrieval.topk import top_k


def ranked(queries, corpus, k):
    """Scores and places by a stable sort of every dot product, in float64."""
    all_scores = np.asarray(queries, np.float64) @ np.asarray(corpus, np.float64).T
    scores, places = np.full((len(queries), k), -np.inf), np.full((len(queries), k), -1)
    for row, query_scores in enumerate(all_scores):
        order = np.argsort(-query_scores, kind="stable")[:k]
        places[row, : len(order)] = order
        scores[row, : len(order)] = query_scores[order]
    return scores, places


@pytest.mark.parametrize(
    ("number", "size", "k", "tile"),
    [
        (3, 40, 7, 10),  # whole tiles
        (3, 41, 7, 10),  # the last tile is padded
        (2, 23, 23, 4),  # all of the corpus, k larger than a tile
        (2, 9, 14, 4),  # more than the corpus holds
        (1, 1, 3, 8),
        (1, 50, 1, 1),
        (2100, 30, 5, 8192),  # more queries than are ranked at once
    ],
)
def test_the_best_come_first_and_equal_scores_in_the_corpus_order(number, size, k, tile):
    rng = np.random.default_rng(size)
    # Small whole numbers: scores are exact, and many are equal; most are below the padding's 0.
    queries = rng.integers(1, 4, (number, 3)).astype(np.float32)
    corpus = rng.integers(-3, 1, (size, 3)).astype(np.float32)
    scores, places = top_k(queries, corpus, k, tile=tile)
    true_scores, true_places = ranked(queries, corpus, k)
    np.testing.assert_array_equal(places, true_places)
    np.testing.assert_array_equal(scores, true_scores)
    assert scores.shape == places.shape == (number, k)


def test_zero_is_equal_to_minus_zero():
    corpus = np.array([[-1.0], [1.0], [-1.0], [1.0]], np.float32)
    assert top_k(np.zeros((1, 1), np.float32), corpus, 4)[1].tolist() == [[0, 1, 2, 3]]


def test_unit_vectors_are_ranked_as_in_float64():
    rng = np.random.default_rng(0)
    queries, corpus = (
        (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
        for x in (rng.normal(size=(20, 32)), rng.normal(size=(3000, 32)))
    )
    scores, places = top_k(queries, corpus, 50, tile=999)
    true_scores, _ = ranked(queries, corpus, 50)
    np.testing.assert_allclose(scores, true_scores, atol=1e-6)
    exact = np.asarray(queries, np.float64) @ np.asarray(corpus, np.float64).T
    np.testing.assert_allclose(np.take_along_axis(exact, places, axis=1), scores, atol=1e-6)
    assert all(len(set(row)) == 50 for row in places.tolist())

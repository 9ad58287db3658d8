"""The deep averaging encoder against its equation in float64, and in training."""

import jax
import numpy as np
import pytest

from contrastive.config import DeepAveraging
from contrastive.data.tokens import pack
from contrastive.models.linen.embedder import Embedder

VOCABULARY, WIDTH = 30, 6


def made(layers):
    embedder = Embedder(DeepAveraging(width=WIDTH, layers=layers).build(VOCABULARY), "mean", False)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: x + rng.normal(size=x.shape).astype(np.float32) * 0.4,
        embedder.init(jax.random.key(0)),
    )
    return embedder, params


@pytest.mark.parametrize("layers", [0, 2])
def test_embeddings_follow_the_equation(layers):
    embedder, params = made(layers)
    rng = np.random.default_rng(1)
    texts = [rng.integers(1, VOCABULARY, length).astype(np.int32) for length in (1, 5, 3, 8)]
    found = np.asarray(embedder.embed(params, pack(texts, row_length=8), None))
    weights = jax.tree.map(np.float64, params)
    for text, vector in zip(texts, found, strict=True):
        x = weights["embedding"][text]
        for layer in range(layers):
            dense = weights[f"layer_{layer}"]
            x = x + np.tanh(x @ dense["kernel"] + dense["bias"])
        np.testing.assert_allclose(vector, x.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_words_in_another_order_are_the_same_text():
    embedder, params = made(2)
    words = np.array([3, 9, 4, 17], np.int32)
    first, second = np.asarray(
        embedder.embed(params, pack([words, words[::-1]], row_length=4), None)
    )
    np.testing.assert_allclose(first, second, rtol=1e-5)


@pytest.mark.parametrize("fields", [{"width": 0}, {"layers": -1}])
def test_impossible_settings_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        DeepAveraging(**fields)

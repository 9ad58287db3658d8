"""How a loss pushes documents, against the softmax written out in float64."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from contrastive.losses import decoupled, info_nce
from contrastive.similarity import normalize
from contrastive.temperature import similarity_gradients

SIMILARITIES = np.array([0.6, 0.9, 0.2, -0.3, 0.55, 1.0, -1.0])


@pytest.mark.parametrize("t", [0.02, 0.1, 2.0])
def test_slopes_are_those_of_the_softmax(t):
    weights = np.exp((SIMILARITIES - SIMILARITIES.max()) / t)
    own = np.eye(len(SIMILARITIES))[0]
    for loss, share in ((info_nce, weights), (decoupled, weights * (1 - own))):
        called = functools.partial(loss, temperature=t, group_size=len(SIMILARITIES))
        found = similarity_gradients(called, jnp.asarray(SIMILARITIES, jnp.float32))
        expected = (share / share.sum() - own) / t
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 / t)


def test_a_loss_that_normalises_has_flatter_slopes():
    def normalising(queries, documents):
        count = len(documents)
        return info_nce(queries, normalize(documents), temperature=0.5, group_size=count)

    weights = np.exp(SIMILARITIES / 0.5)
    own = np.eye(len(SIMILARITIES))[0]
    # The derivative of x / sqrt(x^2 + 1 - s^2), the cosine, in x at s.
    expected = (1 - SIMILARITIES**2) * (weights / weights.sum() - own) / 0.5
    found = similarity_gradients(normalising, jnp.asarray(SIMILARITIES, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

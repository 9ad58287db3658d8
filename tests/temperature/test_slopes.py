"""How a loss pushes documents, against the softmax written out in float64."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from contrastive.losses import decoupled, info_nce
from contrastive.temperature import slopes

SIMILARITIES = np.array([0.6, 0.9, 0.2, -0.3, 0.55, 1.0, -1.0])


@pytest.mark.parametrize("t", [0.02, 0.1, 2.0])
def test_slopes_are_those_of_the_softmax(t):
    weights = np.exp((SIMILARITIES - SIMILARITIES.max()) / t)
    own = np.eye(len(SIMILARITIES))[0]
    for loss, share in ((info_nce, weights), (decoupled, weights * (1 - own))):
        called = functools.partial(loss, temperature=t, group_size=len(SIMILARITIES))
        found = slopes(called, jnp.asarray(SIMILARITIES, jnp.float32))
        expected = (share / share.sum() - own) / t
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 / t)

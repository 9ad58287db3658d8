import jax
import jax.numpy as jnp
import numpy as np

from contrastive.similarity import cosine, dot, normalize


def test_normalize_has_unit_length_and_keeps_direction():
    x = np.array([[3.0, 4.0], [1e-6, 0.0], [1e15, 1e15]], np.float32)
    np.testing.assert_allclose(
        normalize(jnp.asarray(x)), [[0.6, 0.8], [1, 0], [2**-0.5] * 2], rtol=1e-6
    )


def test_a_zero_vector_stays_zero_and_has_no_gradient():
    zero = jnp.zeros((1, 3))
    assert np.all(normalize(zero) == 0)
    assert np.all(jax.grad(lambda x: normalize(x).sum())(zero) == 0)


def test_gradient_of_normalize_is_the_tangential_part():
    x, g = np.array([3.0, 4.0]), np.array([1.0, 0.0])
    unit = x / 5
    expected = (g - (g @ unit) * unit) / 5
    found = jax.grad(lambda x: normalize(x) @ jnp.asarray(g))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_bfloat16_is_accumulated_in_float32():
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.normal(size=(4, 512)), jnp.bfloat16) for _ in range(2))
    truth = np.asarray(a, np.float64) @ np.asarray(b, np.float64).T
    assert dot(a, b).dtype == jnp.float32
    np.testing.assert_allclose(dot(a, b), truth, rtol=1e-5, atol=1e-4)
    lengths = np.outer(*(np.linalg.norm(np.asarray(x, np.float64), axis=1) for x in (a, b)))
    np.testing.assert_allclose(cosine(a, b), truth / lengths, atol=1e-6)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive.losses import log_partition


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    return rng.normal(size=(7, 5)).astype(np.float32), rng.normal(size=(11, 5)).astype(np.float32)


@pytest.mark.parametrize("tile", [None, 1, 3, 4, 100])
def test_masks_see_the_right_rows_and_columns_in_every_tile(vectors, tile):
    queries, keys = vectors
    a, b = np.arange(7), np.arange(11)

    def keep(similarities, rows, columns):
        return (rows["a"][:, None] + columns["b"][None, :]) % 3 != 0

    found = log_partition(
        queries, keys, temperature=0.7, keep=keep, rows={"a": a}, columns={"b": b}, tile=tile
    )
    for i in range(7):
        kept = [j for j in range(11) if (i + j) % 3]
        logits = [float(np.float64(queries[i]) @ np.float64(keys[j])) / 0.7 for j in kept]
        assert found[i] == pytest.approx(np.log(np.sum(np.exp(logits))), rel=1e-6)


def test_a_masked_pair_far_above_the_partition_does_not_overflow(vectors):
    queries, keys = vectors
    keys = np.concatenate([keys, 1e4 * queries[:1]])  # a logit near 1e6, masked

    def keep(similarities, rows, columns):
        return jnp.broadcast_to(columns[None, :] < 11, (rows.shape[0], columns.shape[0]))

    def total(q, k):
        kept = {"keep": keep, "rows": np.arange(7), "columns": np.arange(12)}
        return log_partition(q, k, temperature=0.05, **kept).sum()

    gradients = jax.grad(total, (0, 1))(queries, keys)
    assert all(np.all(np.isfinite(g)) for g in gradients)
    assert np.all(gradients[1][11] == 0)


def test_nothing_kept_is_minus_infinity_with_no_gradient(vectors):
    queries, keys = vectors

    def nothing(similarities, rows, columns):
        return jnp.zeros((rows.shape[0], columns.shape[0]), bool)

    def partition(q):
        where = {"rows": np.arange(7), "columns": np.arange(11)}
        return log_partition(q, keys, temperature=0.5, keep=nothing, tile=4, **where)

    assert np.all(np.isneginf(partition(queries)))
    _, pull = jax.vjp(partition, queries)
    assert np.all(pull(jnp.ones(7))[0] == 0)


def test_vmap_over_temperatures_equals_one_at_a_time(vectors):
    queries, keys = vectors
    temperatures = jnp.array([0.01, 0.1, 1.0])

    def gradient(t):
        return jax.grad(lambda q: log_partition(q, keys, temperature=t, tile=4).sum())(queries)

    together = jax.vmap(gradient)(temperatures)
    for one, t in zip(together, temperatures, strict=True):
        np.testing.assert_allclose(one, gradient(t), rtol=1e-5, atol=1e-6)

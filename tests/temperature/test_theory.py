"""Closed forms against float64, against autodiff of the loss, and at both ends of temperature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive.losses import info_nce
from contrastive.temperature import entropy, entropy_slope, gradient, partition_bias, penalty

EXAMPLES = settings(max_examples=4 * settings.default.max_examples)
# From .005 to 2, as many low ones as high ones.
TEMPERATURES = st.floats(np.log(0.005), np.log(2.0)).map(lambda x: float(np.float32(np.exp(x))))
SEEDS = st.integers(0, 2**16)
D = 8
NOTHING = 1e-25  # far under it, products of float32 numbers lose digits, then vanish


def tolerance(t):
    """float32 rounds a similarity by 1e-7, a logit by that over t, and a share relatively so."""
    return max(1e-5, 3e-7 / t)


def cosines(seed, count):
    s = np.random.default_rng(seed).uniform(-1, 1, count)
    return s.astype(np.float32).astype(np.float64)


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def true_entropy(s, t):
    r = softmax(s / t)
    return -np.sum(r * np.log(np.maximum(r, 1e-300)))


def embeddings(seed, batch, group_size):
    """Positives lie nearer to their queries, so that neither P nor 1 - P is always small."""
    rng = np.random.default_rng(seed)
    q, d = rng.normal(size=(batch, D)), rng.normal(size=(batch, group_size, D))
    d[:, 0] += rng.uniform(0, 2) * q
    return [
        (x / np.linalg.norm(x, axis=-1, keepdims=True)).reshape(-1, D).astype(np.float32)
        for x in (q, d)
    ]


@functools.partial(jax.jit, static_argnames=("group_size", "in_batch"))
def by_autodiff(q, d, t, group_size, in_batch=True):
    def total(q, d):
        options = {"group_size": group_size, "in_batch": in_batch}
        return info_nce(q, d, temperature=t, **options).sum()

    return jax.value_and_grad(total, (0, 1))(q, d)


def close(found, truth, t):
    scale = max(np.max(np.abs(truth)), NOTHING)
    np.testing.assert_allclose(found, truth, rtol=0, atol=tolerance(t) * scale)


@EXAMPLES
@given(SEEDS, st.sampled_from([(2, 1), (5, 1), (4, 3)]), TEMPERATURES)
def test_the_loss_has_the_gradient_that_theory_gives(seed, shape, t):
    batch, group_size = shape
    q, d = embeddings(seed, *shape)
    s = np.float64(q) @ np.float64(d).T
    row, own = np.arange(batch), np.arange(batch) * group_size
    by_similarity = softmax(s / t) / t
    by_similarity[row, own] = 0
    by_similarity[row, own] = -by_similarity.sum(axis=1)  # P_+ - 1, with all its digits
    _, (dq, dd) = by_autodiff(q, d, t, group_size)
    close(dq, by_similarity @ d, t)
    close(dd, by_similarity.T @ q, t)

    others = np.array([np.delete(x, j) for x, j in zip(s, own, strict=True)])
    to_positive, to_negatives = gradient(s[row, own], others, t)
    close(to_positive, by_similarity[row, own], t)
    negatives = [np.delete(x, j) for x, j in zip(by_similarity, own, strict=True)]
    close(to_negatives, np.array(negatives), t)
    # The same float32 numbers, added up in another order.
    np.testing.assert_allclose(to_negatives.sum(axis=-1), -to_positive, rtol=1e-6, atol=NOTHING)


@EXAMPLES
@given(SEEDS, st.sampled_from([2, 7, 100]), TEMPERATURES)
def test_entropy_grows_as_the_variance_of_similarities(seed, count, t):
    s = cosines(seed, count)
    r = softmax(s / t)
    close(penalty(s, t), r, t)
    assert entropy(s, t) == pytest.approx(true_entropy(s, t), abs=tolerance(t))
    variance = r @ (s - r @ s) ** 2
    # Central differences are wrong by the square of the relative step, and by 1e-16 over it.
    step = 1e-4 * t
    slope = (true_entropy(s, t + step) - true_entropy(s, t - step)) / (2 * step)
    assert variance / t**2 == pytest.approx(t * slope, abs=1e-7)
    # t dH/dt is of the order of 1, as entropy is.
    for found in (entropy_slope(s, t), jax.grad(entropy, 1)(jnp.float32(s), t)):
        assert t * found == pytest.approx(variance / t**2, abs=tolerance(t))


@EXAMPLES
@given(SEEDS, st.sampled_from([2, 7, 100]))
def test_entropy_never_falls_as_temperature_rises(seed, count):
    temperatures = np.geomspace(0.005, 1e4, 100)
    found = np.asarray(entropy(cosines(seed, count), temperatures))
    assert np.all(np.diff(found) > -tolerance(temperatures[0]))
    assert found[-1] == pytest.approx(np.log(count), abs=tolerance(temperatures[-1]))


HAND = np.array([0.6, 0.8, 0.5, -0.2])  # the positive, and a hardest negative that beats it


def on_the_circle(similarities):
    """A query and documents with these cosines."""
    d = np.stack([similarities, np.sqrt(1 - similarities**2)], axis=1)
    return np.float32([[1, 0]]), d.astype(np.float32)


@pytest.mark.parametrize("positive", [0.6, 0.95])
def test_a_low_temperature_sees_the_hardest_negative_alone(positive):
    t = 1e-3
    q, d = on_the_circle(np.array([positive, *HAND[1:]]))
    loss, (dq, dd) = by_autodiff(q, d, t, group_size=4, in_batch=False)
    # t L is between the larger of 0 and the gap, and that plus t log(N + 1).
    gap = max(0.0, 0.8 - positive)
    assert gap - 1e-6 <= t * loss <= gap + t * np.log(4) + 1e-6
    # The next negative, and a positive that has won, are exp(-150) or less of the gradient.
    wins = 0.0 if gap == 0 else 1.0
    within = {"rtol": 0, "atol": tolerance(t)}
    np.testing.assert_allclose(t * dq, wins * (d[1:2] - d[:1]), **within)
    np.testing.assert_allclose(t * dd, wins * np.outer([-1, 1, 0, 0], q), **within)
    np.testing.assert_allclose(penalty(HAND[1:], t), [1, 0, 0], **within)


def test_a_high_temperature_sees_all_negatives_alike():
    t = 1e4  # logits differ by 1e-4, and shares by that
    q, d = on_the_circle(HAND)
    _, (_, dd) = by_autodiff(q, d, t, group_size=4, in_batch=False)
    np.testing.assert_allclose(t * dd, np.outer([-3 / 4, 1 / 4, 1 / 4, 1 / 4], q), atol=1e-4)
    np.testing.assert_allclose(penalty(HAND[1:], t), [1 / 3] * 3, atol=1e-4)
    to_positive, to_negatives = gradient(HAND[0], HAND[1:], t)
    np.testing.assert_allclose(t * to_negatives, [1 / 4] * 3, atol=1e-4)
    assert t * to_positive == pytest.approx(-3 / 4, abs=1e-4)


@pytest.mark.parametrize("t", [0.2, 0.5, 2.0])
def test_partition_bias_is_what_sampling_shows(t):
    rng = np.random.default_rng(0)
    s, count = np.clip(rng.normal(0.1, 0.15, 1000), -1, 1), 256
    weights = np.exp(s / t)
    ratio = rng.choice(weights / weights.mean(), (50_000, count)).mean(axis=1)
    # ratio - 1 is 0 on average: without it, the noise is 1% of the bias and not 30% of it.
    sampled = np.log(ratio) - (ratio - 1)
    noise = sampled.std() / np.sqrt(len(sampled))
    # The next term of the series is about 1 / K of the bias.
    found = float(partition_bias(s, t, count))
    assert sampled.mean() == pytest.approx(found, abs=4 * noise + abs(found) * 2 / count)
    assert noise < 0.01 * abs(found)


@pytest.mark.parametrize("t", [0.2, 0.5])
def test_a_similarity_of_minus_infinity_is_left_out(t):
    s = cosines(3, 6)
    masked = np.insert(s, 2, -np.inf)
    found = jax.value_and_grad(entropy, 1)(jnp.float32(masked), jnp.float32(t))
    r = softmax(s / t)
    slope = r @ (s - r @ s) ** 2 / t**3
    np.testing.assert_allclose(found, (true_entropy(s, t), slope), rtol=1e-3)
    assert entropy_slope(masked, t) == pytest.approx(slope, rel=1e-3)
    np.testing.assert_allclose(np.delete(penalty(masked, t), 2), r, rtol=1e-4)
    weights = np.exp(s / t)
    bias = -weights.var() / (2 * 50 * weights.mean() ** 2)
    assert partition_bias(masked, t, 50) == pytest.approx(bias, rel=1e-3)
    assert gradient(0.5, masked, t)[1][2] == 0


@pytest.mark.parametrize(
    ("t", "least", "most"), [(0.2, 0.95, 1.05), (0.06, 0.6, 0.95), (0.02, 0.0, 0.3)]
)
def test_partition_bias_is_less_than_the_truth_where_a_few_negatives_are_all(t, least, most):
    """The limits that it says it has, against batches of 256 that are drawn."""
    rng = np.random.default_rng(0)
    s = rng.normal(0, 0.1, 200_000)
    weights = np.exp(s / t)
    drawn = rng.choice(weights / weights.mean(), (4000, 256))
    ratio = drawn.mean(axis=1)
    truth = np.mean(np.log(ratio) - (ratio - 1))
    of_a_batch = np.mean(0.5 * (1 / 256 - np.sum(drawn**2, axis=1) / np.sum(drawn, axis=1) ** 2))
    assert least < of_a_batch / truth < most

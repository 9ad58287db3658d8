"""Layers against float64 loops: attention a row at a time, value and gradient, with dropout."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive.models.linen import attention
from contrastive.models.linen.dropout import Dropout
from contrastive.models.linen.layers import layer_norm

R, T, H, WIDTH, RATE = 4, 7, 2, 6, 0.4


@functools.cache
def inputs():
    rng = np.random.default_rng(0)
    q, k, v, direction = rng.normal(size=(4, R, T, H, WIDTH)).astype(np.float32)
    segments = np.sort(rng.integers(0, 3, (R, T)))
    near = np.abs(np.arange(T)[:, None] - np.arange(T)) <= 2
    mask = (segments[:, :, None] == segments[:, None, :]) & near
    keys = rng.integers(0, 2**32, (R, T), dtype=np.uint32)
    return (3 * q, k, v), direction, mask, Dropout(jnp.asarray(keys), np.tile(np.arange(T), (R, 1)))


def kept(dropout, rate):
    """1 / (1 - rate) where a probability is kept, else 0."""
    return np.asarray(dropout.attention(jnp.ones((R, H, T, T)), rate), np.float64)


def naive(q, k, v, direction, mask, keep):
    """Mixed values, and the gradients of their product with a direction."""
    q, k, v, direction = (np.asarray(x, np.float64) for x in (q, k, v, direction))
    y, d_q, d_k, d_v = (np.zeros_like(q) for _ in range(4))
    scale = 1 / math.sqrt(WIDTH)
    for r, h, i in itertools.product(range(R), range(H), range(T)):
        sees = np.flatnonzero(mask[r, i])
        logits = [q[r, i, h] @ k[r, j, h] * scale for j in sees]
        e = [math.exp(logit - max(logits)) for logit in logits]
        p = {j: x / sum(e) for j, x in zip(sees, e, strict=True)}
        d_p = {j: keep[r, h, i, j] * (direction[r, i, h] @ v[r, j, h]) for j in sees}
        mean = sum(p[j] * d_p[j] for j in sees)
        for j in sees:
            y[r, i, h] += keep[r, h, i, j] * p[j] * v[r, j, h]
            d_v[r, j, h] += keep[r, h, i, j] * p[j] * direction[r, i, h]
            slope = p[j] * (d_p[j] - mean) * scale
            d_q[r, i, h] += slope * k[r, j, h]
            d_k[r, j, h] += slope * q[r, i, h]
    return y, d_q, d_k, d_v


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradients(attend, qkv, direction, mask, dropout):
    def scalar(q, k, v):
        y = attend(q, k, v, mask, dropout)
        return jnp.sum(y.astype(jnp.float32) * direction), y

    (_, y), gradients = jax.value_and_grad(scalar, (0, 1, 2), has_aux=True)(*qkv)
    return (y, *gradients)


def ways(rate):
    return {
        "one block": functools.partial(attention.attend, rate=rate, blocks=1),
        "two blocks": functools.partial(attention.attend, rate=rate, blocks=2),
        "all rows at once": functools.partial(attention._whole, rate),
    }


@pytest.mark.parametrize("rate", [0.0, RATE])
@pytest.mark.parametrize("way", ways(0.0))
def test_equals_a_loop(rate, way):
    qkv, direction, mask, dropout = inputs()
    keep = kept(dropout, rate)
    assert (rate > 0) == np.any(keep == 0)
    truth = naive(*qkv, direction, mask, keep)
    found = value_and_gradients(ways(rate)[way], qkv, direction, mask, dropout)
    for a, b in zip(found, truth, strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(np.asarray(a), b, atol=2e-6 * np.max(np.abs(b)), rtol=0)


@pytest.mark.parametrize("way", ["two blocks", "all rows at once"])
def test_logits_of_thousands_overflow_nothing(way):
    (q, k, v), direction, mask, dropout = inputs()
    qkv = (1000 * q, k, v)  # each token sees one alone: queries and keys have no say any more
    y, _, _, d_v = naive(*qkv, direction, mask, kept(dropout, RATE))
    found = value_and_gradients(ways(RATE)[way], qkv, direction, mask, dropout)
    assert all(np.all(np.isfinite(x)) for x in found)
    np.testing.assert_allclose(np.asarray(found[0]), y, atol=2e-6 * np.max(np.abs(y)))
    np.testing.assert_allclose(np.asarray(found[3]), d_v, atol=2e-6 * np.max(np.abs(d_v)))


@pytest.mark.parametrize("way", ["two blocks", "all rows at once"])
def test_bfloat16_stays_close(way):
    qkv, direction, mask, dropout = inputs()
    qkv = tuple(jnp.asarray(x, jnp.bfloat16) for x in qkv)
    truth = naive(*qkv, direction, mask, kept(dropout, RATE))
    found = value_and_gradients(ways(RATE)[way], qkv, direction, mask, dropout)
    for a, b in zip(found, truth, strict=True):
        assert a.dtype == jnp.bfloat16
        error = np.max(np.abs(np.asarray(a, np.float64) - b))
        assert error < 2**-6 * np.max(np.abs(b))  # bfloat16 has 8 bits


def test_layer_normalisation_keeps_its_digits_far_from_zero():
    x = (1000 + np.random.default_rng(0).normal(size=(5, 64))).astype(np.float32)
    found = layer_norm(1e-12, jnp.float32, "norm").init_with_output(jax.random.key(0), x)[0]
    exact = x.astype(np.float64) - x.astype(np.float64).mean(axis=1, keepdims=True)
    exact /= np.sqrt((exact**2).mean(axis=1, keepdims=True))
    np.testing.assert_allclose(found, exact, atol=2e-4)  # a float32 near 1000 has steps of 6e-5

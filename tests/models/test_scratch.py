import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive import config
from contrastive.data.tokens import pack
from contrastive.models.linen.embedder import Embedder
from contrastive.models.linen.layers import rotate

VOCABULARY = 50
SMALL = config.Transformer(width=16, depth=2, heads=2, mlp_width=24)
POOLINGS = ["mean", "cls", "last_token"]
LENGTHS = [1, 5, 0, 9, 3, 7, 2, 9]


def embedder(pooling="mean", normalize=True, **changes):
    return Embedder(SMALL.replace(**changes).build(VOCABULARY), pooling, normalize)


def static_embedder(normalize=True):
    return Embedder(config.Static(width=6).build(VOCABULARY), "mean", normalize)


@pytest.fixture(scope="module")
def params():
    """Far larger than first parameters are, so that every layer and token has a say."""
    first, rng = embedder().init(jax.random.key(0)), np.random.default_rng(0)
    return jax.tree.map(lambda x: x + rng.normal(size=x.shape).astype(np.float32) * 0.4, first)


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(1)
    return [rng.integers(1, VOCABULARY, length).astype(np.int32) for length in LENGTHS]


embed = jax.jit(
    lambda e, params, tokens, seed=None: e.embed(params, tokens, seed), static_argnums=0
)
erf = np.vectorize(math.erf)


def naive_hidden(params, ids):
    """Token vectors of one text alone, in float64."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    length, heads = len(ids), SMALL.heads

    def norm(x, scale):
        x = x - x.mean(axis=-1, keepdims=True)
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5) * scale

    def turn(x):
        half = len(x) // 2
        angles = np.arange(length)[:, None] * 10_000.0 ** (-np.arange(half) / half)
        return (x[:half] + 1j * x[half:]).T * np.exp(1j * angles)  # [T, d/2]

    x = norm(p["embedding"]["embedding"][ids], p["embedding_norm"]["scale"])
    for number in range(SMALL.depth):
        layer = p[f"layer_{number}"]
        y = norm(x, layer["attention_norm"]["scale"]) if number else x
        q, k, v = np.split(y @ layer["qkv"]["kernel"], 3, axis=-1)
        outs = []
        for head in range(heads):
            part = slice(head * 16 // heads, (head + 1) * 16 // heads)
            scores = (turn(q[:, part].T) @ turn(k[:, part].T).conj().T).real
            scores = np.exp(scores / math.sqrt(16 / heads))
            outs.append(scores / scores.sum(axis=-1, keepdims=True) @ v[:, part])
        x = x + np.concatenate(outs, axis=-1) @ layer["attention_out"]["kernel"]
        y = norm(x, layer["mlp_norm"]["scale"])
        value, gate = np.split(y @ layer["mlp_in"]["kernel"], 2, axis=-1)
        x = x + (value * (1 + erf(value / math.sqrt(2))) / 2 * gate) @ layer["mlp_out"]["kernel"]
    return norm(x, p["final_norm"]["scale"])


def naive_embeddings(params, texts, pooling):
    truth = np.zeros((len(texts), 16))
    for number, ids in enumerate(texts):
        if len(ids):
            hidden = naive_hidden(params, ids)
            pooled = {"mean": hidden.mean(axis=0), "cls": hidden[0], "last_token": hidden[-1]}
            truth[number] = pooled[pooling] / np.linalg.norm(pooled[pooling])
    return truth


LAYOUTS = {
    "packed": {"row_length": 12, "texts_per_row": 4},
    "packed in two blocks": {"row_length": 12, "texts_per_row": 4, "blocks": 2},
    "padded": {"row_length": 17, "texts_per_row": 1},
}


@functools.partial(jax.jit, static_argnums=0)
def embed_each_way(dtype, params, tokens):
    """Embeddings by pooling."""
    return {p: embedder(p, dtype=dtype).embed(params, tokens) for p in POOLINGS}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_embedding_does_not_depend_on_what_shares_its_row(params, texts, layout):
    found = embed_each_way("float32", params, pack(texts, **LAYOUTS[layout]))
    for pooling in POOLINGS:
        truth = naive_embeddings(params, texts, pooling)
        error = np.max(np.abs(np.asarray(found[pooling], np.float64) - truth))
        assert error < 1e-5 * np.max(np.abs(truth)), pooling


def test_a_text_alone_is_embedded_as_in_company(params, texts):
    together = np.asarray(embed(embedder(), params, pack(texts, row_length=12, texts_per_row=4)))
    for number in (0, 2, 3):
        alone = embed(embedder(), params, pack([texts[number]], row_length=len(texts[number]) or 1))
        np.testing.assert_allclose(np.asarray(alone)[0], together[number], rtol=1e-5, atol=1e-5)


def test_an_embedding_depends_on_every_token_and_on_their_order(params):
    ids = np.array([5, 6, 7, 8], np.int32)
    others = [ids[::-1].copy(), ids[[0, 2, 1, 3]], ids[:3], np.array([5, 6, 7, 9], np.int32)]
    found = embed(embedder("cls"), params, pack([ids, *others], row_length=4))
    distances = np.linalg.norm(np.asarray(found)[1:] - np.asarray(found)[0], axis=-1)
    assert np.all(distances > 1e-2)


def test_padding_gets_no_gradient_and_empty_texts_no_nan(params, texts):
    tokens = pack(texts, row_length=12, texts_per_row=4)
    direction = np.random.default_rng(2).normal(size=(len(texts), 16)).astype(np.float32)

    @jax.jit
    def gradient(params):
        return jax.grad(lambda p: jnp.sum(embedder().embed(p, tokens) * direction))(params)

    found = jax.tree.map(np.asarray, gradient(params))
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(found))
    used = np.unique(np.concatenate(texts))
    rows = np.abs(found["embedding"]["embedding"]).max(axis=-1)
    assert np.all(rows[used] > 0)
    assert np.all(np.delete(rows, used) == 0)  # padding's id 0 among them


@pytest.mark.parametrize("theta", [10_000.0, 160_000.0])
def test_rotation_makes_dot_products_depend_on_the_distance_alone(theta):
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 8)).astype(np.float32)
    positions = np.arange(0, 120)

    def rotated(x):
        wide = np.broadcast_to(x, (1, len(positions), 1, 8))
        return np.asarray(rotate(wide, positions[None], theta), np.float64)[0, :, 0]

    dots = rotated(q) @ rotated(k).T
    angles = theta ** (-np.arange(4) / 4)
    product = (q[:4] + 1j * q[4:]) * (k[:4] - 1j * k[4:]).astype(np.complex128)
    distance = positions[:, None] - positions[None, :]
    truth = (product * np.exp(1j * distance[..., None] * angles)).real.sum(axis=-1)
    np.testing.assert_allclose(dots, truth, atol=1e-4)
    assert np.ptp(truth) > 1  # it does depend on the distance
    np.testing.assert_allclose(np.linalg.norm(rotated(q), axis=-1), np.linalg.norm(q), rtol=1e-5)


def test_bfloat16_layers_stay_close_and_give_float32(params, texts):
    tokens = pack(texts, row_length=12, texts_per_row=4)
    found = embed_each_way("bfloat16", params, tokens)
    for pooling in POOLINGS:
        assert found[pooling].dtype == jnp.float32
        truth = naive_embeddings(params, texts, pooling)
        error = np.abs(np.asarray(found[pooling], np.float64) - truth)
        assert 1e-5 < np.max(error) < 0.1  # bfloat16 has 8 bits
    # Every matrix product of the layers takes bfloat16 on both sides.
    layers = jax.jit(embedder(dtype="bfloat16").module.apply).lower({"params": params}, tokens)
    products = [line for line in layers.as_text().splitlines() if "dot_general" in line]
    assert len(products) >= 6 * SMALL.depth
    assert [p for p in products if p.rpartition("(")[2].count("bf16>") < 2] == []
    fresh = embedder(dtype="bfloat16").init(jax.random.key(0))
    assert {x.dtype for x in jax.tree.leaves(fresh)} == {np.dtype(np.float32)}


def test_dropout_repeats_with_its_seed_and_is_off_without(params, texts):
    tokens = pack(texts, row_length=12, texts_per_row=4)
    dropping = embedder(dropout=0.3)
    one, same, other = (embed(dropping, params, tokens, jnp.uint32(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    full = [n for n, length in enumerate(LENGTHS) if length]
    assert np.all(np.linalg.norm(np.asarray(one - other), axis=-1)[full] > 1e-3)
    off = embed(dropping, params, tokens)
    np.testing.assert_array_equal(off, embed(embedder(), params, tokens))
    assert np.all(np.linalg.norm(np.asarray(one - off), axis=-1)[full] > 1e-3)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_static_encoder_averages_its_table(texts, normalize):
    static = static_embedder(normalize)
    params = static.init(jax.random.key(3))
    table = np.asarray(params["embedding"], np.float64)
    truth = np.zeros((len(texts), 6))
    for row, ids in zip(truth, texts, strict=True):
        for id in ids:
            row += table[id] / len(ids)
        if normalize and len(ids):
            row /= math.sqrt(sum(row * row))
    tokens = pack(texts, row_length=12, texts_per_row=4, blocks=2)
    found = embed(static, params, tokens)
    np.testing.assert_allclose(np.asarray(found), truth, rtol=1e-5, atol=1e-6)


def test_static_parameters_read_from_a_file_embed_without_a_compiler_too(texts):
    static = static_embedder()
    params, tokens = static.init(jax.random.key(3)), pack(texts, row_length=12, texts_per_row=4)
    found = static.embed(jax.device_get(params), tokens)  # NumPy arrays, and no jit
    np.testing.assert_allclose(found, embed(static, params, tokens), atol=1e-6)

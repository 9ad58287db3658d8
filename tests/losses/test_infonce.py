import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import info_nce as naive

from contrastive.losses import info_nce

UNDERFLOW = 1e-25  # far under it, products of float32 numbers lose digits, then vanish


def embeddings(seed, batch, group_size, width, closeness):
    """Unit queries, and documents of which the positives are drawn towards them."""
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(batch, width))
    documents = rng.normal(size=(batch, group_size, width))
    documents[:, 0] += closeness * queries
    queries, documents = (
        (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
        for x in (queries, documents)
    )
    return queries, documents.reshape(batch * group_size, width)


def relative(ours, truth):
    """Largest error in units of the largest true value."""
    truth = np.asarray(truth)
    return np.max(np.abs(np.asarray(ours, np.float64) - truth)) / max(
        np.max(np.abs(truth)), UNDERFLOW
    )


@functools.partial(jax.jit, static_argnames=("group_size", "in_batch", "tile"))
def losses_and_gradients(queries, documents, temperature, weight, ids, group_size, in_batch, tile):
    def weighted(queries, documents, temperature):
        losses = info_nce(
            queries,
            documents,
            temperature=temperature,
            group_size=group_size,
            in_batch=in_batch,
            tile=tile,
            **ids,
        )
        return jnp.sum(losses * weight), losses

    gradient = jax.value_and_grad(weighted, (0, 1, 2), has_aux=True)
    (_, losses), gradients = gradient(queries, documents, temperature)
    return losses, *gradients


@st.composite
def cases(draw):
    # Few shapes, so that few programs are compiled; everything else is free.
    batch, group_size = draw(st.sampled_from([(2, 1), (5, 1), (1, 3), (5, 3)]))
    size = batch * group_size

    def ids(count, most):
        return np.array(draw(st.lists(st.integers(0, most), min_size=count, max_size=count)))

    query_pools = ids(batch, draw(st.sampled_from([0, 1])))
    # Some places but the positive's hold no document.
    absent = ids(size, draw(st.sampled_from([0, 2]))).reshape(batch, group_size) == 2
    absent[:, 0] = False
    document_pools = np.where(absent, -1, query_pools[:, None]).reshape(-1)
    return {
        "seed": draw(st.integers(0, 2**16)),
        "batch": batch,
        "group_size": group_size,
        "in_batch": group_size == 1 or draw(st.booleans()),
        "width": 16,
        "closeness": draw(st.floats(0, 3)),
        "temperature": draw(st.floats(0.01, 1.0)),
        "tile": draw(st.sampled_from([None, 2])),
        # 0 stands for no text: few ids make many coincidences, and all zeros none.
        "ids": {
            "query_ids": ids(batch, draw(st.sampled_from([0, 3]))),
            "document_ids": ids(size, draw(st.sampled_from([0, 6]))),
            "known_positive_ids": ids(batch * 2, 6).reshape(batch, 2),
            "query_pools": query_pools,
            "document_pools": document_pools,
        },
    }


@settings(max_examples=8 * settings.default.max_examples)
@given(cases())
def test_value_and_gradient_match_a_float64_double_loop(case):
    queries, documents = embeddings(
        case["seed"], case["batch"], case["group_size"], case["width"], case["closeness"]
    )
    rng = np.random.default_rng(case["seed"])
    temperature = case["temperature"] * rng.uniform(1, 1.5, case["batch"]).astype(np.float32)
    weight = rng.uniform(0.5, 2, case["batch"]).astype(np.float32)
    ids, settings = case["ids"], (case["group_size"], case["in_batch"])
    found = losses_and_gradients(
        queries, documents, temperature, weight, ids, *settings, case["tile"]
    )
    truth = naive(
        queries,
        documents,
        temperature,
        *settings,
        ids["query_ids"],
        ids["document_ids"],
        ids["known_positive_ids"],
        ids["query_pools"],
        ids["document_pools"],
        cotangent=weight,
    )
    # float32 rounds a similarity by about 1e-7 and a logit by that over the temperature, and the
    # softmax turns a logit's absolute error into a relative one. Below a temperature of 0.03 this
    # conditioning, not the algorithm, is the limit; test_small_losses_keep_their_digits compares.
    tolerance = max(1e-5, 3e-7 / case["temperature"])
    for name, ours, true in zip(("loss", "dq", "dd"), found[:3], truth[:3], strict=True):
        assert relative(ours, true) < tolerance, name
    # dL/dt = -sum_j (p_ij - [j = +]) s_ij / t^2 cancels; its scale is that of the terms.
    terms = max(np.max(np.abs(truth[1])), UNDERFLOW) / case["temperature"]
    assert np.max(np.abs(found[3] - truth[3])) < tolerance * terms


def test_small_losses_keep_their_digits():
    # At 0.01, trained embeddings: the textbook form, logsumexp - positive, has no digit left.
    queries, documents = embeddings(0, batch=32, group_size=4, width=128, closeness=1.0)
    truth = naive(queries, documents, 0.01, 4)[0]
    assert 0 < truth.max() < 1e-4
    logits = jnp.einsum("bd,nd->bn", queries, documents, precision="highest") / 0.01
    textbook = jax.nn.logsumexp(logits, axis=1) - logits[jnp.arange(32), jnp.arange(32) * 4]
    assert relative(info_nce(queries, documents, temperature=0.01, group_size=4), truth) < 3e-5
    assert relative(textbook, truth) > 0.01


def test_id_zero_masks_nothing():
    queries, documents = embeddings(0, batch=4, group_size=2, width=4, closeness=0.0)
    zeros = {"query_ids": np.zeros(4, int), "document_ids": np.zeros(8, int)}
    plain = info_nce(queries, documents, temperature=0.1, group_size=2)
    masked = info_nce(queries, documents, temperature=0.1, group_size=2, **zeros)
    np.testing.assert_array_equal(plain, masked)


def test_bfloat16_embeddings_are_scored_in_float32():
    queries, documents = embeddings(0, batch=16, group_size=1, width=32, closeness=1.0)
    queries, documents = (jnp.asarray(x, jnp.bfloat16) for x in (queries, documents))
    truth = naive(np.asarray(queries, np.float32), np.asarray(documents, np.float32), 0.02)
    losses = info_nce(queries, documents, temperature=0.02)
    assert losses.dtype == jnp.float32
    assert relative(losses, truth[0]) < 2e-5
    gradient = jax.grad(lambda q: info_nce(q, documents, temperature=0.02).sum())(queries)
    assert gradient.dtype == jnp.bfloat16
    assert relative(gradient, truth[1]) < 2**-8  # the rounding of the result alone


def test_hand_computed():
    # s+ = 1 and 0.6, one negative each at 0; temperature 0.5.
    queries = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    documents = jnp.array([[1.0, 0.0], [0.0, 0.6]])
    losses = info_nce(queries, documents, temperature=0.5)
    np.testing.assert_allclose(losses, np.log1p(np.exp([-2.0, -1.2])), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"temperature": 0.0}, ["temperature is 0.0", "positive"]),
        ({"temperature": -0.1}, ["temperature is -0.1"]),
        ({"temperature": float("nan")}, ["temperature is nan"]),
        ({"temperature": np.array([0.1, 0.1, 0.0])}, ["positive"]),
        ({"temperature": 0.1, "group_size": 0}, ["group_size is 0"]),
        ({"temperature": 0.1, "group_size": 2}, ["3 queries", "6 documents", "got 3"]),
        ({"temperature": 0.1, "tile": 0}, ["tile is 0"]),
        ({"temperature": 0.1, "document_ids": np.ones(2, int)}, ["document_ids has 2 rows for 3"]),
        ({"temperature": np.ones(2)}, ["temperature has 2 rows for 3"]),
        ({"temperature": 0.1, "known_positive_ids": np.ones((3, 1), int)}, ["document_ids; give"]),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words[0]) as error:
        info_nce(jnp.ones((3, 4)), jnp.ones((3, 4)), **arguments)
    assert all(word in str(error.value) for word in words)


def test_widths_must_agree():
    with pytest.raises(ValueError, match=r"width \(4,\) and documents \(5,\)"):
        info_nce(jnp.ones((3, 4)), jnp.ones((3, 5)), temperature=0.1)

"""Distillation against double loops in float64, on one device and on several."""

import functools

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec

from contrastive.losses import (
    DistillKL,
    DistillM3,
    InfoNCE,
    LossInputs,
    MarginMSE,
    distill_kl,
    distill_m3,
    info_nce,
)

UNDERFLOW = 1e-25  # as in test_infonce


def unit(rng, *shape):
    x = rng.normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def ours(kind, in_batch=True, tile=None, axis_name=None):
    """A loss of (queries, documents, temperature, columns), as the training step calls it."""

    def loss(queries, documents, temperature, columns):
        known = dict(columns)
        scores, teacher_temperature = known.pop("teacher_scores"), known.pop("teacher_temperature")
        shared = {"temperature": temperature, "teacher_temperature": teacher_temperature}
        if kind == "kl":
            pools = known["document_pools"]
            return distill_kl(queries, documents, scores, document_pools=pools, **shared)
        options = {"in_batch": in_batch, "tile": tile, "axis_name": axis_name}
        return distill_m3(queries, documents, scores, **shared, **known, **options)

    return loss


def truth(kind, queries, documents, temperature, columns, weight, in_batch=True):
    known = dict(columns)
    known["known"] = known.pop("known_positive_ids")
    scores = known.pop("teacher_scores")
    teacher_temperature = known.pop("teacher_temperature")
    arguments = (queries, documents, scores, temperature, teacher_temperature)
    if kind == "kl":
        return naive.distill_kl(*arguments, known["document_pools"], cotangent=weight)
    return naive.distill_m3(*arguments, in_batch, **known, cotangent=weight)


def with_gradient(loss):
    def weighted(queries, documents, temperature, columns, weight):
        losses = loss(queries, documents, temperature, columns)
        return jnp.sum(losses * weight), losses

    def both(*arguments):
        gradient = jax.value_and_grad(weighted, (0, 1, 2), has_aux=True)
        (_, losses), gradients = gradient(*arguments)
        return losses, *gradients

    return jax.jit(both)


@functools.cache
def compiled(kind, in_batch, tile):
    return with_gradient(ours(kind, in_batch, tile))


def check(found, expected, temperature):
    # What float32 can do at a temperature: see test_infonce.
    tolerance = max(1e-5, 3e-7 / temperature)
    for name, value, true in zip(("loss", "dq", "dd"), found[:3], expected[:3], strict=True):
        scale = max(np.max(np.abs(true)), UNDERFLOW)
        assert np.max(np.abs(np.asarray(value, np.float64) - true)) < tolerance * scale, name
    terms = max(np.max(np.abs(expected[1])), UNDERFLOW) / temperature
    assert np.max(np.abs(found[3] - expected[3])) < tolerance * terms


@st.composite
def cases(draw):
    # Few shapes, so that few programs are compiled; everything else is free.
    batch, size = draw(st.sampled_from([(2, 1), (4, 3)]))

    def ids(*shape, most):
        count = int(np.prod(shape))
        drawn = draw(st.lists(st.integers(0, most), min_size=count, max_size=count))
        return np.array(drawn, np.int32).reshape(shape)

    query_pools = ids(batch, most=draw(st.sampled_from([0, 1])))
    absent = ids(batch, size, most=draw(st.sampled_from([0, 2]))) == 2
    absent[:, 0] = False  # the positive is always there
    columns = {
        "query_ids": ids(batch, most=draw(st.sampled_from([0, 3]))),
        "document_ids": ids(batch * size, most=draw(st.sampled_from([0, 6]))),
        "known_positive_ids": ids(batch, 2, most=6),
        "query_pools": query_pools,
        "document_pools": np.where(absent, -1, query_pools[:, None]).reshape(-1),
    }
    spread = draw(st.sampled_from([0.0, 1.0, 8.0]))
    scores = draw(
        st.lists(st.floats(-1, 1, width=32), min_size=batch * size, max_size=batch * size)
    )
    columns["teacher_scores"] = spread * np.array(scores, np.float32).reshape(batch, size)
    columns["teacher_temperature"] = draw(st.floats(0.25, 4.0, width=32))
    return {
        "seed": draw(st.integers(0, 2**16)),
        "kind": draw(st.sampled_from(["kl", "m3"])),
        "in_batch": size == 1 or draw(st.booleans()),
        "tile": draw(st.sampled_from([None, 2])),
        "temperature": draw(st.floats(0.02, 1.0)),
        "columns": columns,
    }


@settings(max_examples=8 * settings.default.max_examples)
@given(cases())
def test_value_and_gradient_match_a_float64_double_loop(case):
    rng, columns, kind = np.random.default_rng(case["seed"]), case["columns"], case["kind"]
    batch, size = columns["teacher_scores"].shape
    queries, documents = unit(rng, batch, 16), unit(rng, batch * size, 16)
    temperature = case["temperature"] * rng.uniform(1, 1.5, batch).astype(np.float32)
    weight = rng.uniform(0.5, 2, batch).astype(np.float32)
    program = (kind, True, None) if kind == "kl" else (kind, case["in_batch"], case["tile"])
    found = compiled(*program)(queries, documents, temperature, columns, weight)
    expected = truth(kind, queries, documents, temperature, columns, weight, case["in_batch"])
    check(found, expected, case["temperature"])


B, G, D, T = 8, 3, 12, 0.05


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    query_pools = rng.integers(0, 2, B).astype(np.int32)
    document_pools = np.repeat(query_pools, G)
    document_pools[[2, 7, 8, 23]] = -1
    columns = {
        "query_ids": rng.integers(1, 6, B).astype(np.int32),
        "document_ids": rng.integers(1, 15, B * G).astype(np.int32),
        "known_positive_ids": rng.integers(0, 15, (B, 2)).astype(np.int32),
        "query_pools": query_pools,
        "document_pools": document_pools,
        "teacher_scores": rng.normal(size=(B, G)).astype(np.float32),
    }
    weight = rng.uniform(0.5, 2, B).astype(np.float32)
    return unit(rng, B, D), unit(rng, B * G, D), columns, weight


@pytest.mark.parametrize("kind", ["kl", "m3"])
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_any_number_of_devices(batch, devices, kind):
    queries, documents, columns, weight = batch
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    rows = PartitionSpec("data")

    def loss(queries, documents, temperature, columns):
        columns = {**columns, "teacher_temperature": 0.7}
        return ours(kind, tile=5, axis_name="data")(queries, documents, temperature, columns)

    mapped = jax.shard_map(
        loss, mesh=mesh, in_specs=(rows, rows, PartitionSpec(), rows), out_specs=rows
    )
    found = with_gradient(mapped)(queries, documents, T, columns, weight)
    columns = {**columns, "teacher_temperature": 0.7}
    losses, dq, dd, dt = truth(kind, queries, documents, T, columns, weight)
    check((*found[:3], np.asarray(found[3])[None]), (losses, dq, dd, dt.sum()[None]), T)


def test_a_certain_teacher_is_a_label(batch):
    queries, documents, *_ = batch
    certain = np.zeros((B, G), np.float32)
    certain[:, 0] = 200.0

    @jax.jit
    def pairs(queries, documents):
        options = {"temperature": 0.3, "group_size": G}
        m3 = distill_m3(queries, documents, certain, temperature=0.3)
        kl = distill_kl(queries, documents, certain, temperature=0.3)
        alone = info_nce(queries, documents, in_batch=False, **options)
        return (m3, info_nce(queries, documents, **options)), (kl, alone)

    whole, group = pairs(queries, documents)
    np.testing.assert_allclose(*whole, rtol=1e-6)
    np.testing.assert_allclose(*group, rtol=1e-5, atol=1e-6)


def test_the_teachers_temperature_sets_how_sure_it_is():
    # One query whose documents lie at cosines 1 and 0; a reranker's raw scores 4 and 0.
    queries, documents = jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])
    scores = jnp.array([[4.0, 0.0]])
    for temperature in (0.5, 1.0, 4.0):
        share = 1 / (1 + np.exp(-4 / temperature))
        by_hand = share * np.log1p(np.exp(-1)) + (1 - share) * np.log1p(np.exp(1))
        options = {"temperature": 1.0, "teacher_temperature": temperature}
        found = distill_kl(queries, documents, scores, **options)
        np.testing.assert_allclose(found, [by_hand], rtol=1e-6)


@pytest.mark.parametrize("kind", ["kl", "m3"])
def test_rows_without_scores_are_trained_on_without_the_teacher(batch, kind):
    queries, documents, columns = batch[:3]
    scores = np.array(columns["teacher_scores"])
    scores[::2] = np.nan
    scored = ~np.isnan(scores[:, 0])
    loss = DistillKL(skip_unscored=True) if kind == "kl" else DistillM3(skip_unscored=True)
    assert loss.accepts_unscored
    assert (InfoNCE() + 0.5 * loss).accepts_unscored
    assert not (loss + MarginMSE()).accepts_unscored

    def losses(queries, documents):
        inputs = LossInputs(queries, documents, T, {"group_size": G}, scores=jnp.asarray(scores))
        values = loss(inputs)
        return jnp.sum(values), values

    gradient = jax.jit(jax.value_and_grad(losses, (0, 1), has_aux=True))
    (_, values), gradients = gradient(queries, documents)
    true_loss = naive.distill_kl if kind == "kl" else naive.distill_m3
    given = true_loss(queries, documents, np.nan_to_num(scores), T, 1.0, cotangent=1.0 * scored)
    left = naive.info_nce(queries, documents, T, G, cotangent=1.0 * ~scored)
    without = [np.zeros_like(x) for x in left[:3]] if kind == "kl" else left[:3]
    np.testing.assert_allclose(values, np.where(scored, given[0], without[0]), rtol=1e-5)
    for found, one, other in zip(gradients, given[1:3], without[1:3], strict=True):
        np.testing.assert_allclose(found, one + other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("loss", "arguments", "words"),
    [
        (distill_kl, {"temperature": 0.0}, "temperature is 0.0"),
        (distill_m3, {"temperature": -1.0}, "temperature is -1.0"),
        (distill_kl, {"temperature": 0.1, "teacher_temperature": 0.0}, "temperature is 0.0"),
        (distill_kl, {"temperature": 0.1, "scores": np.ones((3, 3))}, "3 queries and 9 documents"),
        (distill_m3, {"temperature": 0.1, "scores": np.ones((2, 3))}, "2 queries and 6 documents"),
    ],
)
def test_bad_arguments_are_named(loss, arguments, words):
    scores = arguments.pop("scores", np.ones((3, 2)))
    with pytest.raises(ValueError, match=words):
        loss(jnp.ones((3, 4)), jnp.ones((6, 4)), scores, **arguments)

"""Keys that travel around the devices: the same numbers, and no device holds them all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from contrastive import losses

B, G, D = 64, 2, 16
IDS = {
    "query_ids": np.random.default_rng(1).integers(0, 40, B).astype(np.int32),
    "document_ids": np.random.default_rng(2).integers(0, 90, B * G).astype(np.int32),
}
LOSSES = {
    "info_nce": functools.partial(losses.info_nce, hardness=2.0),
    "all_in_one": functools.partial(losses.gte),
    "decoupled_weighted": losses.decoupled_weighted,
    "hard_negative": losses.hard_negative,
    "hardest": functools.partial(losses.hardest, top=5),
    "model_aware": losses.model_aware,
    "siglip": losses.siglip,
    "align_uniform": lambda *a, temperature, **o: losses.align_uniform(*a, **o),
    "spread_out": lambda *a, temperature, **o: losses.spread_out(*a, **o),
}


def texts():
    """As of an encoder: all somewhat alike, positives more so."""
    rng = np.random.default_rng(0)
    queries = 0.5 + rng.normal(size=(B, D))
    documents = 0.5 + rng.normal(size=(B, G, D))
    documents[:, 0] += 2 * queries
    return tuple(
        (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
        for x in (queries, documents.reshape(B * G, D))
    )


def mapped(loss, devices, ring, *, axes=("data",), tile=None):
    mesh = jax.make_mesh(
        devices,
        axes,
        axis_types=(AxisType.Auto,) * len(axes),
        devices=jax.devices()[: int(np.prod(devices))],
    )
    rows = PartitionSpec(axes)
    name = axes if len(axes) > 1 else axes[0]

    def one(queries, documents, temperature, ids):
        options = {"temperature": temperature, "group_size": G, "tile": tile}
        return loss(queries, documents, axis_name=name, ring=ring, **options, **ids)

    return jax.shard_map(
        one, mesh=mesh, in_specs=(rows, rows, PartitionSpec(), rows), out_specs=rows
    )


def with_gradient(function):
    weight = jnp.linspace(0.5, 2, B)

    def total(queries, documents, temperature):
        found = function(queries, documents, temperature, IDS)
        return (found * weight).sum(), found

    return jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))


def alone(loss):
    def one(queries, documents, temperature, ids):
        return loss(queries, documents, temperature=temperature, group_size=G, **ids)

    return one


@functools.cache
def on_one_device(name):
    queries, documents = texts()
    return with_gradient(alone(LOSSES[name]))(queries, documents, 0.05)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize(
    "devices", [*(pytest.param(count, marks=pytest.mark.slow) for count in (1, 2, 4)), 8]
)
def test_any_number_of_devices_gives_the_same_value_and_gradient(name, ring, devices):
    queries, documents = texts()
    found = with_gradient(mapped(LOSSES[name], (devices,), ring, tile=16))(queries, documents, 0.05)
    # e^ratio - tau N of HCL cancels, and with it a digit.
    same(found, on_one_device(name), queries, 1e-5 if name == "hard_negative" else 1e-6)


@pytest.mark.parametrize("ring", [False, True])
def test_two_axes(ring):
    queries, documents = texts()
    truth = with_gradient(alone(losses.info_nce))(queries, documents, 0.05)
    two = mapped(losses.info_nce, (4, 2), ring, axes=("data", "fsdp"))
    same(with_gradient(two)(queries, documents, 0.05), truth, queries)


def test_pmap():
    queries, documents = texts()
    truth = with_gradient(alone(losses.info_nce))(queries, documents, 0.05)
    (_, values), gradients = truth
    weight = jnp.linspace(0.5, 2, B).reshape(8, -1)

    def one(queries, documents, weight, ids):
        def total(queries, documents):
            options = {"temperature": 0.05, "group_size": G, "ring": True}
            found = losses.info_nce(queries, documents, axis_name="data", **options, **ids)
            return (found * weight).sum(), found

        return jax.value_and_grad(total, (0, 1), has_aux=True)(queries, documents)

    cut = functools.partial(jax.tree.map, lambda x: x.reshape(8, -1, *x.shape[1:]))
    (_, found), (dq, dd) = jax.pmap(one, axis_name="data")(
        *cut((queries, documents)), weight, cut(IDS)
    )
    for ours, true in ((found, values), (dq, gradients[0]), (dd, gradients[1])):
        close(np.reshape(ours, true.shape), true)


def same(found, truth, queries, tolerance=1e-6):
    (_, values), (dq, dd, dt) = found
    (_, true_values), (true_dq, true_dd, true_dt) = truth
    for ours, true in ((values, true_values), (dq, true_dq), (dd, true_dd)):
        close(ours, true, tolerance)
    # A loss of s / t has dL/dt = -sum q dL/dq / t, whose terms cancel; float32 keeps their digits.
    terms = np.abs(queries * true_dq).sum() / 0.05
    assert abs(float(dt) - float(true_dt)) <= tolerance * terms


def close(ours, true, tolerance=1e-6):
    scale = np.max(np.abs(true))
    assert np.max(np.abs(np.asarray(ours) - np.asarray(true))) <= tolerance * scale


def test_a_device_holds_its_own_keys_whatever_their_number():
    # 1,024 queries and keys a device: with the devices the keys grow, and its memory does not.
    def temporary_bytes(devices, ring):
        loss = mapped(losses.info_nce, (devices,), ring, tile=64)
        shapes = [jax.ShapeDtypeStruct((1024 * devices * n, 64), jnp.float32) for n in (1, G)]
        gradient = jax.jit(jax.grad(lambda q, d: loss(q, d, 0.05, {}).sum(), (0, 1)))
        return gradient.lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    # On simulated devices the analysis is of one device's program.
    assert temporary_bytes(8, ring=True) < 1.1 * temporary_bytes(2, ring=True)
    assert temporary_bytes(8, ring=False) > 2 * temporary_bytes(2, ring=False)


def test_keys_go_around_once_forward_and_once_backward():
    loss = mapped(losses.info_nce, (8,), ring=True)
    queries, documents = texts()
    gradient = jax.jit(jax.grad(lambda q, d: loss(q, d, 0.05, {}).sum(), (0, 1)))
    text = gradient.lower(queries, documents).compile().as_text()
    assert "collective-permute" in text
    assert "all-gather" not in text

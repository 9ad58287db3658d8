"""One value and one gradient, whatever the loss is mapped over."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from naive import info_nce as naive

from contrastive.losses import info_nce
from contrastive.similarity import normalize

B, G, D = 16, 3, 24


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    queries = np.asarray(normalize(jnp.asarray(rng.normal(size=(B, D)))))
    documents = rng.normal(size=(B * G, D))
    documents[::G] += queries
    ids = {
        "query_ids": rng.integers(1, 12, B).astype(np.int32),
        "document_ids": rng.integers(1, 30, B * G).astype(np.int32),
        "known_positive_ids": rng.integers(0, 30, (B, 2)).astype(np.int32),
        "query_pools": rng.integers(0, 3, B).astype(np.int32),
    }
    pools = np.repeat(ids["query_pools"], G)
    pools[5::7] = -1
    pools[::G] = ids["query_pools"]  # a positive is always there
    ids["document_pools"] = pools
    return queries, np.asarray(normalize(jnp.asarray(documents))), ids


@pytest.fixture(scope="module")
def truth(batch):
    queries, documents, ids = batch
    return naive(
        queries,
        documents,
        0.05,
        G,
        query_ids=ids["query_ids"],
        document_ids=ids["document_ids"],
        known=ids["known_positive_ids"],
        query_pools=ids["query_pools"],
        document_pools=ids["document_pools"],
    )


def loss(queries, documents, temperature, ids, axis_name=None, tile=None):
    return info_nce(
        queries,
        documents,
        temperature=temperature,
        group_size=G,
        axis_name=axis_name,
        tile=tile,
        **ids,
    )


def check(found, truth):
    losses, (dq, dd, dt) = found
    for ours, true in zip((losses, dq, dd, dt), (*truth[:3], truth[3].sum()), strict=True):
        ours = np.asarray(ours, np.float64).reshape(np.shape(true))
        assert np.max(np.abs(ours - true)) < 5e-6 * np.max(np.abs(true))


def with_gradient(mapped):
    def total(queries, documents, temperature, ids):
        losses = mapped(queries, documents, temperature, ids)
        return losses.sum(), losses

    def both(queries, documents, temperature, ids):
        gradient = jax.value_and_grad(total, (0, 1, 2), has_aux=True)
        (_, losses), gradients = gradient(queries, documents, temperature, ids)
        return losses, gradients

    return both


@pytest.mark.parametrize("tile", [None, 5, 16])
def test_jit(batch, truth, tile):
    queries, documents, ids = batch
    both = jax.jit(with_gradient(functools.partial(loss, tile=tile)))
    check(both(queries, documents, 0.05, ids), truth)


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_jit_of_sharded_arrays(batch, truth, devices):
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    rows = NamedSharding(mesh, PartitionSpec("data"))
    queries, documents, ids = jax.device_put(batch, rows)
    check(jax.jit(with_gradient(loss))(queries, documents, 0.05, ids), truth)


@pytest.mark.parametrize(
    ("shape", "axes"), [((2,), ("data",)), ((8,), ("data",)), ((4, 2), ("data", "fsdp"))]
)
def test_shard_map(batch, truth, shape, axes):
    queries, documents, ids = batch
    mesh = jax.make_mesh(
        shape,
        axes,
        axis_types=(AxisType.Auto,) * len(axes),
        devices=jax.devices()[: int(np.prod(shape))],
    )
    rows = PartitionSpec(axes)
    mapped = jax.shard_map(
        functools.partial(loss, axis_name=axes, tile=4),
        mesh=mesh,
        in_specs=(rows, rows, PartitionSpec(), rows),
        out_specs=rows,
    )
    check(jax.jit(with_gradient(mapped))(queries, documents, 0.05, ids), truth)


def test_pmap(batch, truth):
    queries, documents, ids = jax.tree.map(lambda x: x.reshape(8, -1, *x.shape[1:]), batch)

    # Each device differentiates its own losses; gathering sums the gradients of documents.
    both = jax.pmap(
        with_gradient(functools.partial(loss, axis_name="data")),
        axis_name="data",
        in_axes=(0, 0, None, 0),
    )
    losses, (dq, dd, dt) = both(queries, documents, 0.05, ids)
    check((losses, (dq, dd, np.sum(np.asarray(dt, np.float64)))), truth)


def test_without_in_batch_negatives_nothing_is_gathered(batch):
    queries, documents, _ = batch
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("data")
    alone = functools.partial(
        info_nce, temperature=0.05, group_size=G, in_batch=False, axis_name="data"
    )
    mapped = jax.jit(jax.shard_map(alone, mesh=mesh, in_specs=rows, out_specs=rows))
    expected = naive(queries, documents, 0.05, G, in_batch=False)[0]
    np.testing.assert_allclose(mapped(queries, documents), expected, rtol=1e-5)
    assert "all-gather" not in mapped.lower(queries, documents).compile().as_text()


def test_documents_are_gathered_once_and_their_gradient_scattered_once(batch):
    queries, documents, _ = batch
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("data")
    mapped = jax.shard_map(
        functools.partial(info_nce, temperature=0.05, group_size=G, axis_name="data", tile=4),
        mesh=mesh,
        in_specs=rows,
        out_specs=rows,
    )
    gradient = jax.jit(jax.grad(lambda q, d: mapped(q, d).sum(), (0, 1)))
    lines = gradient.lower(queries, documents).compile().as_text().splitlines()

    def count(operation):
        # The gathered column numbers are integers; the towers are floats.
        return sum(f" {operation}(" in line and "= f32" in line for line in lines)

    assert count("all-gather") == 1
    assert count("reduce-scatter") == 1
    assert count("all-reduce") == 0

"""The closer look, by definition in float64, on one device and on eight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from contrastive.losses import info_nce
from contrastive.temperature import examine, summarize_details
from contrastive.temperature._detailed_diagnostics import BINS, EDGES

B, G, D, T = 24, 8, 6, 0.1
look = jax.jit(
    examine, static_argnames=("group_size", "in_batch", "above_positive", "relative_to_positive")
)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(B, D))
    documents = rng.normal(size=(B * G, D))
    documents[::G] += queries
    documents[5] = documents[0]  # a copy of the first positive among its own negatives
    documents[3 * G] = documents[2 * G] + 0.01  # and nearly one that two queries have
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, documents)]
    labels = rng.integers(0, 6, B)
    return (*(x.astype(np.float32) for x in unit), labels.astype(np.int32))


def truth(queries, documents, labels, in_batch):
    q, d = (x.astype(np.float64) for x in (queries, documents))
    s, alike = q @ d.T, d @ d.T
    rows, negatives, gradients = [], [], []
    for i in range(B):
        others = [j for j in range(B * G) if j != i * G and (in_batch or j // G == i)]
        negative = np.sort(s[i, others])[::-1]
        r = np.exp(negative / T) / np.exp(negative / T).sum()
        weights = np.exp(negative / T)
        rows.append(
            {
                "top_10_share": r[:10].sum(),
                "top_100_share": r[:100].sum(),
                "hardest_negative": negative[0],
                "copied": float(alike[i * G, others].max() > 0.99),
                "partition_bias": -weights.var() / (2 * len(negative) * weights.mean() ** 2),
            }
        )
        negatives += list(negative)
        gradients += list(weights / (weights.sum() + np.exp(s[i, i * G] / T)) / T)
    values = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
    values["modality_gap"] = np.linalg.norm(q.mean(axis=0) - d[::G].mean(axis=0))
    mates = [
        q[i] @ q[k] for i in range(B) for k in range(B) if i != k and labels[i] == labels[k] != 0
    ]
    values["tolerance"] = np.mean(mates)
    positives = [s[i, i * G] for i in range(B)]
    for name, found, each in (
        ("positive", positives, np.ones(B)),
        ("negative", negatives, np.ones(len(negatives))),
        ("gradient", negatives, np.array(gradients)),
    ):
        values[f"histogram/{name}"] = np.histogram(found, EDGES, weights=each)[0] / each.sum()
    return values


@pytest.mark.parametrize(("devices", "ring", "tile"), [(1, False, None), (8, True, 5)])
@pytest.mark.parametrize("in_batch", [True, False])
def test_every_detail_matches_its_definition(batch, devices, ring, tile, in_batch):
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    rows = PartitionSpec("data")

    def of_device(queries, documents, labels):
        known = {"temperature": T, "group_size": G, "in_batch": in_batch}
        known |= {"labels": labels, "axis_name": "data", "ring": ring, "tile": tile}
        return examine(queries, documents, **known)

    mapped = jax.shard_map(of_device, mesh=mesh, in_specs=rows, out_specs=rows)
    # In one program: several that talk to each other at once may wait for each other forever.
    found = jax.jit(lambda *batch: summarize_details(mapped(*batch)))(*batch)
    expected = truth(*batch, in_batch)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # A cosine within rounding of an edge is in either bin.
        loose = 1.1 / B if name.startswith("histogram") else 0
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=loose, err_msg=name)
        if loose:
            assert np.sum(found[name]) == pytest.approx(1, rel=1e-5)
            assert np.mean(np.abs(found[name] - value) > 1e-5) < 0.05


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("t", [0.01, 0.1, 1.0])
def test_the_gradient_is_that_of_the_loss_whatever_the_offsets_of_queries(t):
    rng = np.random.default_rng(1)
    queries, documents = rng.normal(size=(B, D)), rng.normal(size=(B * G, D))
    common = unit(rng.normal(size=D))
    queries += np.linspace(-4, 4, B)[:, None] * common  # some see all documents high, some low
    documents = documents + 2 * common
    documents[::G] += queries
    queries, documents = (unit(x).astype(np.float32) for x in (queries, documents))
    similarities = queries @ documents.T

    def loss(similarities):
        """Queries that are rows of similarities have them to the documents of a unit matrix."""
        return info_nce(similarities, jnp.eye(B * G), temperature=t, group_size=G).sum()

    slopes = np.float64(jax.grad(loss)(similarities))
    slopes[np.arange(B), np.arange(B) * G] = 0
    expected = np.histogram(similarities, EDGES, weights=slopes)[0] / slopes.sum()
    seen = look(queries, documents, temperature=t, group_size=G)
    found = summarize_details(seen)["histogram/gradient"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(seen.gradient_bins.sum(axis=1), slopes.sum(axis=1), rtol=1e-4)
    offsets = similarities.mean(axis=1)
    assert offsets.max() - offsets.min() > 0.5


def test_the_gradient_of_queries_at_temperatures_of_their_own(batch):
    queries, documents, _ = batch
    t = np.geomspace(0.02, 1, B).astype(np.float32)
    similarities = queries @ documents.T
    call = functools.partial(info_nce, temperature=t, group_size=G)
    slopes = np.float64(jax.grad(lambda s: call(s, jnp.eye(B * G)).sum())(similarities))
    slopes[np.arange(B), np.arange(B) * G] = 0
    seen = look(queries, documents, temperature=t, group_size=G)
    np.testing.assert_allclose(seen.gradient_bins.sum(axis=1), slopes.sum(axis=1), rtol=1e-4)


def test_copies_of_the_positive_are_told_from_what_scores_like_it():
    rng = np.random.default_rng(2)
    count, width = 2048, 128
    queries, documents = (unit(rng.normal(size=(count, width))) for _ in range(2))
    # Of 2,047 random negatives many score as the positive does; none is nearly its text.
    ties = np.abs(queries @ documents.T - np.sum(queries * documents, axis=1)[:, None]) < 0.005
    assert np.mean(ties.sum(axis=1) > 1) > 0.9
    assert look(queries, documents, temperature=0.1).copied.sum() == 0
    documents[10] = documents[0]
    documents[12] = unit(documents[2] + 0.01 * rng.normal(size=width))
    documents[14] = unit(documents[4] + 0.05 * rng.normal(size=width))
    seen = look(queries, documents, temperature=0.1)
    assert list(np.flatnonzero(seen.copied) * 2) == [0, 2, 10, 12]  # every other query is looked at


def test_a_copy_that_is_left_out_is_none(batch):
    queries, documents, _ = batch
    ids = np.arange(1, B * G + 1)
    ids[5] = ids[0]
    known = {"temperature": T, "group_size": G}
    assert look(queries, documents, **known).copied[0] == 1
    assert look(queries, documents, document_ids=ids, **known).copied[0] == 0
    for limit in ({"above_positive": 0.0}, {"relative_to_positive": 0.9}):
        assert look(queries, documents, **limit, **known).copied[0] == 0


def test_histograms_are_of_cosines_whatever_the_length_of_embeddings(batch):
    queries, documents, _ = batch
    unit = summarize_details(look(queries, documents, temperature=T, group_size=G))
    long = summarize_details(look(3 * queries, 7 * documents, temperature=T, group_size=G))
    for name in ("histogram/positive", "histogram/negative", "modality_gap"):
        np.testing.assert_allclose(long[name], unit[name], atol=2e-3)
    np.testing.assert_allclose(long["hardest_negative"], 21 * unit["hardest_negative"], rtol=1e-5)


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_the_queries_looked_at_are_the_same_on_any_number_of_devices(monkeypatch, batch, devices):
    queries, documents, labels = batch
    known = {"labels": labels, "document_ids": np.arange(B * G) // 2}
    known["query_pools"] = np.arange(B, dtype=np.int32) % 2
    known["document_pools"] = np.repeat(known["query_pools"], G)
    known["guide_queries"], known["guide_documents"] = queries[::-1], documents[::-1]
    temperature = np.linspace(0.05, 0.5, B).astype(np.float32)
    fixed = {"group_size": G, "above_positive": 0.1}
    whole = look(queries, documents, temperature=temperature, **known, **fixed)
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    rows = PartitionSpec("data")

    def of_device(queries, documents, temperature, known):
        told = {"temperature": temperature, "axis_name": "data", **known, **fixed}
        return examine(queries, documents, **told)

    monkeypatch.setattr("contrastive.temperature._detailed_diagnostics._SAMPLE", 16)
    mapped = jax.jit(jax.shard_map(of_device, mesh=mesh, in_specs=rows, out_specs=rows))
    some = mapped(queries, documents, temperature, known)
    chosen = [n * B // 16 for n in range(16)]
    for name, value in some._asdict().items():
        expected = getattr(whole, name)[np.array(chosen)]
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_query_without_negatives_is_left_out_of_the_mean_of_the_hardest(batch):
    queries, documents, _ = batch
    pools = np.repeat(np.arange(B, dtype=np.int32), G)
    pools[1:G] = -1  # the first query is alone with its positive
    alone = {"query_pools": pools[::G], "document_pools": pools, "in_batch": False}
    found = summarize_details(look(queries, documents, temperature=T, group_size=G, **alone))
    s = np.einsum("bd,bgd->bg", queries, documents.reshape(B, G, D).astype(np.float64))
    np.testing.assert_allclose(found["hardest_negative"], s[1:, 1:].max(axis=1).mean(), rtol=1e-5)


def test_nothing_to_look_at_gives_zeros_and_no_tolerance():
    same = np.full(3, 7)
    seen = look(jnp.eye(3), jnp.eye(3), temperature=0.1, document_ids=same)
    found = summarize_details(seen)
    assert np.isnan(found.pop("tolerance"))
    assert found.pop("hardest_negative") == -np.inf
    assert all(np.all(np.isfinite(value)) for value in found.values())
    assert found["histogram/negative"].sum() == found["histogram/gradient"].sum() == 0
    assert found["histogram/positive"].shape == (BINS,)
    assert found["histogram/positive"][-1] == 1  # a cosine of 1 is in the last bin

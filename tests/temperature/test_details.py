"""The closer look, by definition in float64, on one device and on eight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from contrastive.temperature import examine, summarize_details
from contrastive.temperature.details import BINS, EDGES

B, G, D, T = 24, 8, 6, 0.1


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(B, D))
    documents = rng.normal(size=(B * G, D))
    documents[::G] += queries
    documents[5] = documents[0]  # a copy of the first positive among its negatives
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, documents)]
    labels = rng.integers(0, 6, B)
    return (*(x.astype(np.float32) for x in unit), labels.astype(np.int32))


def truth(queries, documents, labels, in_batch):
    q, d = (x.astype(np.float64) for x in (queries, documents))
    s = q @ d.T
    rows, negatives = [], []
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
                "tied": float(np.abs(negative[:100] - s[i, i * G]).min() <= 0.005),
                "partition_bias": -weights.var() / (2 * len(negative) * weights.mean() ** 2),
            }
        )
        negatives += list(negative)
    values = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
    values["modality_gap"] = np.linalg.norm(q.mean(axis=0) - d[::G].mean(axis=0))
    mates = [
        q[i] @ q[k] for i in range(B) for k in range(B) if i != k and labels[i] == labels[k] != 0
    ]
    values["tolerance"] = np.mean(mates)
    positives = [s[i, i * G] for i in range(B)]
    for name, found in (("positive", positives), ("negative", negatives)):
        values[f"histogram/{name}"] = np.histogram(found, EDGES)[0] / len(found)
    return values


@pytest.mark.parametrize(("devices", "ring", "tile"), [(1, False, None), (8, True, 5)])
@pytest.mark.parametrize("in_batch", [True, False])
def test_every_detail_matches_its_definition(batch, devices, ring, tile, in_batch):
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    rows = PartitionSpec("data")

    def of_device(queries, documents, labels):
        look = functools.partial(examine, temperature=T, group_size=G, in_batch=in_batch)
        return look(queries, documents, labels=labels, axis_name="data", ring=ring, tile=tile)

    mapped = jax.shard_map(of_device, mesh=mesh, in_specs=rows, out_specs=rows)
    found = summarize_details(jax.jit(mapped)(*batch))
    expected = truth(*batch, in_batch)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # A cosine within rounding of an edge is in either bin.
        loose = 1.1 / B if name.startswith("histogram") else 0
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=loose, err_msg=name)
        if loose:
            assert np.sum(found[name]) == pytest.approx(1, rel=1e-5)
            assert np.mean(np.abs(found[name] - value) > 1e-5) < 0.05


def test_a_copy_among_the_negatives_is_a_tie(batch):
    queries, documents, _ = batch
    far = queries.copy()
    tied = examine(far, documents, temperature=T, group_size=G).tied
    assert tied[0] == 1


def test_histograms_are_of_cosines_whatever_the_length_of_embeddings(batch):
    queries, documents, _ = batch
    unit = summarize_details(examine(queries, documents, temperature=T, group_size=G))
    long = summarize_details(examine(3 * queries, 7 * documents, temperature=T, group_size=G))
    for name in ("histogram/positive", "histogram/negative", "modality_gap"):
        np.testing.assert_allclose(long[name], unit[name], atol=2e-3)
    np.testing.assert_allclose(long["hardest_negative"], 21 * unit["hardest_negative"], rtol=1e-5)


def test_the_first_queries_stand_for_the_batch(monkeypatch, batch):
    queries, documents, labels = batch
    known = {"temperature": T, "group_size": G, "labels": labels}
    whole = examine(queries, documents, **known)
    monkeypatch.setattr("contrastive.temperature.details._SAMPLE", 5)
    some = examine(queries, documents, **known)
    for name, value in some._asdict().items():
        np.testing.assert_allclose(value, getattr(whole, name)[:5], rtol=1e-5, err_msg=name)


def test_a_query_without_negatives_is_left_out_of_the_mean_of_the_hardest(batch):
    queries, documents, _ = batch
    pools = np.repeat(np.arange(B, dtype=np.int32), G)
    pools[1:G] = -1  # the first query is alone with its positive
    alone = {"query_pools": pools[::G], "document_pools": pools, "in_batch": False}
    found = summarize_details(examine(queries, documents, temperature=T, group_size=G, **alone))
    s = np.einsum("bd,bgd->bg", queries, documents.reshape(B, G, D).astype(np.float64))
    np.testing.assert_allclose(found["hardest_negative"], s[1:, 1:].max(axis=1).mean(), rtol=1e-5)


def test_nothing_to_look_at_gives_zeros_and_no_tolerance():
    same = np.full(3, 7)
    look = examine(jnp.eye(3), jnp.eye(3), temperature=0.1, document_ids=same)
    found = summarize_details(look)
    assert np.isnan(found.pop("tolerance"))
    assert found.pop("hardest_negative") == -np.inf
    assert all(np.all(np.isfinite(value)) for value in found.values())
    assert found["histogram/negative"].sum() == 0
    assert found["histogram/positive"].shape == (BINS,)
    assert found["histogram/positive"][-1] == 1  # a cosine of 1 is in the last bin

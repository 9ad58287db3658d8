import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from contrastive.temperature import diagnose, summarize

B, G, D, T = 16, 2, 8, 0.1


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(B, D))
    documents = rng.normal(size=(B * G, D))
    documents[::G] += queries
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, documents)]
    ids = np.arange(1, B * G + 1)
    ids[2 * G] = ids[0]  # rows 0 and 2 share their positive
    return (*(x.astype(np.float32) for x in unit), ids.astype(np.int32))


QUERY_POOLS = np.arange(B, dtype=np.int32) % 3
DOCUMENT_POOLS = np.repeat(QUERY_POOLS, G)
DOCUMENT_POOLS[[3, 9, 10 * G + 1]] = -1  # no document is there


def truth(queries, documents, ids, query_pools, document_pools, above=np.inf):
    """Each number by its definition, in float64."""
    s = queries.astype(np.float64) @ documents.astype(np.float64).T
    values = {}
    rows = []
    for i in range(B):
        seen = np.flatnonzero(document_pools == query_pools[i])
        others = [j for j in seen if j != i * G]
        unrelated = [j for j in others if ids[j] != ids[i * G]]
        kept = [j for j in unrelated if s[i, j] <= s[i, i * G] + above]
        negative = s[i, kept]
        r = np.exp(negative / T) / np.exp(negative / T).sum()
        p = np.exp(np.append(negative, s[i, i * G]) / T)
        p /= p.sum()
        distance = [np.sum((queries[i] - queries[k]) ** 2.0) for k in range(B) if k != i]
        rows.append(
            {
                "temperature": T,
                "positive_cosine": s[i, i * G],
                "negative_cosine": negative.mean(),
                "entropy": -(p * np.log(p)).sum(),
                "effective_negatives": np.exp(-(r * np.log(r)).sum()),
                "top_negative_share": r.max(),
                "saturated": float(p[-1] > 0.99),
                "accuracy": float(s[i, i * G] > negative.max()),
                "largest_logit": np.abs(np.append(negative, s[i, i * G])).max() / T,
                "masked_share": 1 - len(kept) / len(others),
                "masked_by_score": (len(unrelated) - len(kept)) / len(others),
                "alignment": np.sum((queries[i] - documents[i * G]) ** 2.0),
                "uniformity": np.mean(np.exp(-2 * np.array(distance))),
            }
        )
    for name in rows[0]:
        column = np.array([row[name] for row in rows])
        values[name] = column.max() if name == "largest_logit" else column.mean()
    values["uniformity"] = np.log(values["uniformity"])
    return values


ONE_POOL = np.zeros(B, np.int32), np.zeros(B * G, np.int32)


@pytest.mark.parametrize(("tile", "pools"), [(None, ONE_POOL), (3, (QUERY_POOLS, DOCUMENT_POOLS))])
@pytest.mark.parametrize(("devices", "ring", "above"), [(1, False, None), (8, True, -0.3)])
def test_every_diagnostic_matches_its_definition(batch, tile, pools, devices, ring, above):
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    rows = PartitionSpec("data")

    def mapped(queries, documents, ids, *pools):
        described = functools.partial(diagnose, temperature=T, group_size=G, tile=tile)
        known = dict(zip(("query_pools", "document_pools"), pools, strict=True))
        known |= {"axis_name": "data", "ring": ring, "above_positive": above}
        return described(queries, documents, document_ids=ids, **known)

    mapped = jax.shard_map(mapped, mesh=mesh, in_specs=rows, out_specs=rows)
    # In one program: several that talk to each other at once may wait for each other forever.
    found = jax.jit(lambda *known: summarize(mapped(*known)))(*batch, *pools)
    expected = truth(*batch, *pools, np.inf if above is None else above)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-5), name


def test_queries_with_temperatures_of_their_own_have_their_mean(batch):
    queries, documents, _ = batch
    t = np.geomspace(0.02, 0.5, B).astype(np.float32)
    described = functools.partial(diagnose, queries, documents, group_size=G)
    found = described(temperature=t)
    np.testing.assert_array_equal(found.temperature, t)
    assert float(summarize(found)["temperature"]) == pytest.approx(np.mean(np.float64(t)))
    last = described(temperature=0.5)
    np.testing.assert_allclose(found.entropy[-1], last.entropy[-1], rtol=1e-6)


def test_entropy_and_effective_negatives_at_both_ends():
    queries = jnp.eye(4)
    documents = jnp.eye(4)
    hot = summarize(diagnose(queries, documents, temperature=1e4))
    assert float(hot["effective_negatives"]) == pytest.approx(3, rel=1e-4)
    assert float(hot["entropy"]) == pytest.approx(np.log(4), rel=1e-4)
    cold = summarize(diagnose(queries, documents, temperature=1e-3))
    assert float(cold["entropy"]) == 0
    assert float(cold["accuracy"]) == 1


def test_a_query_without_negatives_gives_finite_numbers():
    same = np.full(3, 7)
    found = summarize(diagnose(jnp.eye(3), jnp.eye(3), temperature=0.1, document_ids=same))
    assert all(np.isfinite(float(value)) for value in found.values())
    assert float(found["masked_share"]) == 1
    assert float(found["effective_negatives"]) == 0


def test_without_in_batch_negatives_only_the_own_group_is_described(batch):
    queries, documents, _ = batch
    found = summarize(diagnose(queries, documents, temperature=T, group_size=G, in_batch=False))
    own = np.einsum("bd,bd->b", queries, documents[1::G].astype(np.float64))
    assert float(found["effective_negatives"]) == pytest.approx(1)
    assert float(found["negative_cosine"]) == pytest.approx(own.mean(), rel=1e-4)
    assert float(found["masked_share"]) == 0


def test_without_in_batch_negatives_a_place_without_a_document_is_none(batch):
    queries, documents, _ = batch
    pools = np.repeat(np.arange(B, dtype=np.int32), G)
    pools[7] = -1  # the fourth query's only negative
    alone = {"temperature": T, "group_size": G, "in_batch": False, "document_pools": pools}
    found = diagnose(queries, documents, query_pools=pools[::G], **alone)
    own = np.einsum("bd,bd->b", queries, documents[1::G].astype(np.float64))
    own[3] = 0
    np.testing.assert_allclose(found.negative_cosine, own, atol=1e-6)
    np.testing.assert_allclose(found.effective_negatives, np.where(np.arange(B) == 3, 0, 1))
    assert not np.any(found.masked_share)

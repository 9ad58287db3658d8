"""F2LLM's loss against its two softmaxes in float64, one pair at a time."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import of_pairs
from hypothesis import given
from hypothesis import strategies as st
from test_every_loss import compare, make_world, worlds

from contrastive import losses


def f2llm(world):
    """-log of the positive's share among positives, and of its share in the query's own group."""
    total, group = np.zeros(len(world.q)), world.group_size
    for i, t in enumerate(world.t):
        own = range(i * group, (i + 1) * group)
        others = range(0, len(world.d), group)
        rivals, others = (
            [world.s(i, j) / t for j in documents if not world.is_masked(i, j)]
            for documents in (own, others)
        )
        positive = world.positive(i) / t
        total[i] = reference.cross_entropy(positive, rivals)
        if world.in_batch:
            total[i] += reference.cross_entropy(positive, others)
    return total


CASES = {
    "f2llm": of_pairs(losses.f2llm, f2llm, math.log(3) + math.log(2), needs_hard_negatives=True)
}
grouped = worlds(least=0.005).filter(lambda world: world.group_size > 1)


@given(grouped, st.sampled_from([None, 2]))
def test_value_and_gradient(world, tile):
    compare(losses.f2llm, f2llm, world, tile=tile)


def test_value_by_hand():
    """Similarities are 1 to the positive, 0.6 to the own negative and 0 to the other positive."""
    queries = jnp.eye(2)
    documents = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.8, 0.6]])
    found = losses.f2llm(queries, documents, temperature=0.5, group_size=2)
    expected = math.log1p(math.exp(-2.0)) + math.log1p(math.exp(-0.8))
    np.testing.assert_allclose(found, [expected, expected], rtol=1e-6)


def test_other_queries_hard_negatives_do_not_matter():
    world = make_world(3, batch=4, group_size=3, width=8, closeness=1.0, temperature=0.05)
    queries, documents = jnp.float32(world.q), jnp.float32(world.d)

    def first(documents):
        return losses.f2llm(queries, documents, temperature=0.05, group_size=3)[0]

    gradient = np.asarray(jax.grad(first)(documents)).reshape(4, 3, 8)
    assert np.all(gradient[0] != 0)
    assert np.all(gradient[1:, 0] != 0)
    np.testing.assert_array_equal(gradient[1:, 1:], 0)


def test_groups_without_hard_negatives_are_refused():
    with pytest.raises(ValueError, match="leaves no negatives"):
        losses.f2llm(jnp.eye(2), jnp.eye(2), temperature=0.05)
    assert losses.F2LLM.smallest_group == 2

"""Batches at the edge of what losses are defined for: each says something, and never NaN."""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import B, D, G, every_case
from reference import World

from contrastive import losses

COLD = 1e-4
ALL_CASES = every_case()
NOT_LOSSES = {"contrast", "cosine", "dot", "log_partition", "normalize", "pair_sum", "prefix"}
# All in one pool and without ids; each query in a pool of its own, with its positive; one text.
SHARED = {
    "query_pools": np.zeros(B, np.int32),
    "document_pools": np.zeros(B * G, np.int32),
    "document_ids": np.zeros(B * G, np.int32),
}
MASKS = {
    "pools": {
        "query_pools": np.arange(B, dtype=np.int32),
        "document_pools": np.array([0, -1, 1, -1, 2, -1], np.int32),
    },
    "ids": {"document_ids": np.full(B * G, 7, np.int32)},
}

TOLD_OF_PAIRS = [name for name, case in ALL_CASES.items() if "ids" in case.masks] + ["distill_m3"]
SELF_SUFFICIENT = [name for name, case in ALL_CASES.items() if not case.needs_hard_negatives]
# Each of which can be spoilt; "info_nce alone" and its like are the same function again.
EMBEDDINGS = [
    (name, place)
    for name, case in ALL_CASES.items()
    for place in range(len(case.names))
    if " " not in name
]

every_loss = pytest.mark.parametrize("name", ALL_CASES)


@functools.cache
def program(name):
    """Losses, and gradients of their sum; one for all batches of a shape."""

    def total(q, d, t, known):
        values = ALL_CASES[name].loss(q, d, t, known)
        return values.sum(), values

    gradient = jax.value_and_grad(total, (0, 1, 2), has_aux=True)
    # Most of the time of these tests is compilation; this saves a quarter of it.
    return jax.jit(gradient, compiler_options={"xla_backend_optimization_level": 0})


def arrays(*xs):
    return [jnp.asarray(x, jnp.float32) for x in xs]


def run(name, q, d, t, known):
    (_, values), gradients = program(name)(*arrays(q, d, t), known)
    assert all(np.all(np.isfinite(x)) for x in (values, *gradients))
    return values, gradients


def unit(*shape):
    x = np.random.default_rng(0).normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def of(expected, *arguments):
    return expected(*arguments) if callable(expected) else expected


def check(values, expected, t):
    # float32 rounds a similarity by about 1e-7, and a logit by that over the temperature.
    np.testing.assert_allclose(values, np.broadcast_to(expected, len(values)), 1e-6, 3e-7 / t)


def check_alone(name, q, d, t, known):
    """A query without negatives: a constant with no gradient, or what its positive gives."""
    values, gradients = run(name, q, d, t, known)
    positive = np.einsum("bd,bd->b", q, d[:: len(d) // len(q)])
    alone = ALL_CASES[name].alone
    check(values, of(alone, positive, t), t)
    if not callable(alone):
        assert not any(np.any(gradient) for gradient in gradients)


def test_every_loss_is_here():
    public = {name for name in dir(losses) if inspect.isfunction(getattr(losses, name))}
    assert {name.split()[0] for name in ALL_CASES} == public - NOT_LOSSES


@pytest.mark.parametrize(
    ("name", "mask"), [(name, mask) for name, case in ALL_CASES.items() for mask in case.masks]
)
def test_nothing_is_left_when_all_negatives_are_masked(name, mask):
    check_alone(name, unit(B, D), unit(B * G, D), 0.05, SHARED | MASKS[mask])


@every_loss
def test_nothing_is_left_when_no_document_is_valid(name):
    check_alone(name, unit(1, D), unit(4, D)[1:], 0.5, {"valid": np.zeros(3, bool)})


@every_loss
def test_one_query_and_its_hard_negatives(name):
    q, d, t = unit(1, D), unit(4, D)[1:], 0.5
    values, _ = run(name, q, d, t, {"valid": np.ones(3, bool)})
    check(values, ALL_CASES[name].truth(World(q, d, np.array([t]), group_size=3)), t)


@pytest.mark.parametrize("name", SELF_SUFFICIENT)
def test_one_query_and_its_positive(name):
    check_alone(name, unit(1, D), unit(2, D)[1:], 0.5, {"valid": np.ones(1, bool)})


@every_loss
@pytest.mark.parametrize("t", [0.05, COLD])
@pytest.mark.parametrize("s", [1.0, 0.0])
def test_all_embeddings_are_the_same_or_zero(name, s, t):
    # Entries of 1/2 have a length of 1 in float32 too.
    values, _ = run(name, np.full((B, D), 0.5 * s), np.full((B * G, D), 0.5 * s), t, SHARED)
    check(values, of(ALL_CASES[name].equal, s, t), t)


@every_loss
def test_a_temperature_of_a_ten_thousandth(name):
    # float32 has these similarities exactly. The first query's positive is ahead of the best
    # negative by 312 nats, the second's behind by as much, the third's level: float32 has no
    # exp(312) and no exp(-312), float64 has.
    own = np.array([[1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    share = np.array([1 / 2, 15 / 32, 15 / 32, 1 / 2, 1 / 2, 1 / 2])
    q, d, t = own, share[:, None] * np.repeat(own, G, axis=0), float(np.float32(COLD))
    world, truth = World(q, d, np.full(B, t), group_size=G), ALL_CASES[name].truth
    values, gradients = run(name, q, d, t, SHARED)
    check(values, truth(world), t)
    rng = np.random.default_rng(0)
    along = {"q": rng.normal(size=(4, *q.shape)), "d": rng.normal(size=(4, *d.shape))}
    slopes = reference.similarity_gradients(truth, world, np.ones(len(values)), along)
    for side, gradient in zip(along, gradients, strict=False):
        ours = np.tensordot(along[side], np.float64(gradient), 2)
        # The softmax turns a logit's absolute error, 3e-3, into a relative one. What is left of a
        # difference that should be 0 is far below 1e-5.
        scale = max(np.max(np.abs(slopes[side])), 1e-5)
        np.testing.assert_allclose(ours, slopes[side], rtol=0, atol=3e-3 * scale)


@pytest.mark.parametrize(("name", "place"), EMBEDDINGS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_by_name_and_row(name, place, bad):
    size = B * (G if ALL_CASES[name].needs_hard_negatives else 1)
    embeddings = [unit(B, D), unit(size, D)]
    embeddings[place][2, 1] = bad
    words = f"{ALL_CASES[name].names[place]} are not finite: 1 of . rows, row 2 the first"
    with pytest.raises(ValueError, match=words):
        ALL_CASES[name].loss(*embeddings, 0.05, {"valid": np.ones(size, bool)})


@pytest.mark.parametrize(("name", "place"), EMBEDDINGS)
def test_what_is_not_finite_shows_where_values_are_not_known(name, place):
    embeddings = [unit(B, D), unit(B * G, D)]
    embeddings[place][1] = np.nan  # a query, or a hard negative
    (_, values), _ = program(name)(*arrays(*embeddings, 0.05), SHARED)
    assert not np.all(np.isfinite(values))


@pytest.mark.parametrize("name", [*TOLD_OF_PAIRS, "margin_mse"])
def test_no_possible_negative_is_refused(name):
    known = {"in_batch": False, "valid": np.ones(B, bool)}
    words = "groups have 1" if name == "margin_mse" else "in_batch=False with group_size=1 leaves"
    with pytest.raises(ValueError, match=words):
        ALL_CASES[name].loss(unit(B, D), unit(B, D), 0.05, known)


@every_loss
def test_documents_may_be_constants_of_a_compiled_function(name):
    q, d, t = arrays(unit(B, D), unit(B * G, D), 0.1)

    def total(q):
        return ALL_CASES[name].loss(q, d, t, SHARED).sum()

    (of_arguments, _), _ = program(name)(q, d, t, SHARED)
    np.testing.assert_allclose(jax.jit(total)(q), of_arguments, rtol=1e-5)


def test_without_memory_the_average_is_the_newest_batchs():
    x = jnp.eye(2)
    found = losses.sogclr(x, x, jnp.zeros(2), temperature=0.005, gamma=1.0)
    np.testing.assert_allclose(found.log_average, [-200.0, -200.0])
    np.testing.assert_allclose(found.losses, [-1.0, -1.0])


def test_a_temperature_that_alignment_could_turn_round_is_refused():
    with pytest.raises(ValueError, match=r"multiply the temperature by -2\.6"):
        losses.model_aware(jnp.eye(2), jnp.eye(2), temperature=0.1, alpha=2.0, alignment=0.8)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("above_positive", 0.0),
        ("relative_to_positive", 0.0),
        ("guide", math.log(512)),  # a guide leaves out what it scores above the positive
    ],
)
def test_copies_of_the_positive_are_ties_whatever_the_shape_of_a_tile(rule, expected):
    rng = np.random.default_rng(5)
    q, d = rng.normal(size=(2, 384))
    queries = np.stack([q, *rng.normal(size=(511, 384))]).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    documents = np.broadcast_to(d / np.linalg.norm(d), (512, 384)).astype(np.float32)
    known = {"above_positive": 0.0} if rule == "above_positive" else {"relative_to_positive": 1.0}
    if rule == "guide":
        known = {"guide_queries": queries, "guide_documents": documents}
    for tile in (None, 7):
        found = losses.info_nce(queries, documents, temperature=0.01, tile=tile, **known)
        np.testing.assert_allclose(found, expected, atol=1e-4 if expected else 0.0)


WITHOUT_TEMPERATURE = ("triplet", "align_uniform", "spread_out")


@pytest.mark.parametrize(
    "name", ["decoupled", "hard_negative", "model_aware", "dual_temperature", *WITHOUT_TEMPERATURE]
)
def test_positives_that_a_loss_would_not_use_are_refused(name):
    q, d = np.eye(2, 4), np.eye(4)
    temperature = {} if name in WITHOUT_TEMPERATURE else {"temperature": 1.0}
    with pytest.raises(ValueError, match="positives is 2, but this loss takes 1"):
        getattr(losses, name)(q, d, group_size=2, positives=2, **temperature)


def test_words_name_what_is_wrong():
    q = jnp.eye(2)
    with pytest.raises(ValueError, match=r"^sigma is -1.0; it must be positive"):
        losses.decoupled_weighted(q, q, temperature=1.0, sigma=-1.0)
    with pytest.raises(ValueError, match="target is 'shares'; it is 'softmax' or 'share'"):
        losses.listwise(q, q, np.ones((2, 1)), temperature=1.0, target="shares")

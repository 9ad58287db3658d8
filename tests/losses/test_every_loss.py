"""Every loss, value and gradient, against what its paper says in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from reference import World

from contrastive import losses

NOTHING = 1e-25  # far under it, products of float32 numbers lose digits, then vanish


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def make_world(seed, batch, group_size, width, closeness, temperature, **more):
    """Unit vectors that float32 holds exactly, positives drawn towards their queries."""
    rng = np.random.default_rng(seed)
    q = unit(rng.normal(size=(batch, width)))
    d = rng.normal(size=(batch, group_size, width))
    d[:, 0] += closeness * np.sqrt(width) * q
    q, d = (unit(x).astype(np.float32).astype(np.float64) for x in (q, d))
    t = np.float32(temperature * rng.uniform(1, 1.5, batch)).astype(np.float64)
    return World(q, d.reshape(batch * group_size, width), t, group_size=group_size, **more)


def found_by(loss, world, cotangent, *extra, scalar_temperature=False, takes_bias=False, **options):
    """Losses and gradients of the weighted sum, in float32."""
    pairs = {
        "group_size": world.group_size,
        "positives": world.positives,
        "in_batch": world.in_batch,
        "query_ids": world.query_ids,
        "document_ids": world.document_ids,
        "known_positive_ids": world.known,
        "query_pools": world.query_pools,
        "document_pools": world.document_pools,
        "above_positive": world.above_positive,
        "relative_to_positive": world.relative_to_positive,
        "guide_queries": world.guide_queries,
        "guide_documents": world.guide_documents,
        "guide_margin": world.guide_margin,
    }
    temperature = world.t[0] if scalar_temperature else world.t
    varied = (world.q, world.d, temperature, world.bias, cotangent)
    return _run(loss, takes_bias)(
        *(jnp.asarray(x, jnp.float32) for x in varied),
        extra,
        **pairs,
        **options,
    )


@functools.cache
def _run(loss, takes_bias):
    static = (
        "group_size",
        "positives",
        "in_batch",
        "tile",
        "directions",
        "harder",
        "inside",
        "top",
    )
    static += ("hardness", "label_smoothing", "above_positive", "relative_to_positive")
    static += ("guide_margin", "target", "gamma")

    @functools.partial(jax.jit, static_argnames=static)
    def run(q, d, t, bias, cotangent, extra, **options):
        def weighted(q, d, t, bias):
            given = {**options, "temperature": t}
            if takes_bias:
                given["bias"] = bias
            values = loss(q, d, *extra, **given)
            return jnp.sum(values * cotangent), values

        gradient = jax.value_and_grad(weighted, (0, 1, 2, 3), has_aux=True)
        (_, values), gradients = gradient(q, d, t, bias)
        return values, dict(zip(("q", "d", "t", "bias"), gradients, strict=True))

    return run


def check(world, truth, found, cotangent, sensitivity=1.0, terms=1e-5, smallest=NOTHING):
    """Within 1e-5, or where float32's rounding of a similarity, over t, allows no better.

    smallest: Value that a tolerance is relative to, at least.
    terms: What a gradient is a sum of; where it cancels, float32 keeps the digits of these.
    """
    values, gradients = found
    true_values = truth(world)
    tolerance = max(1e-5, 3e-7 / np.min(world.t)) * sensitivity
    scale = max(np.max(np.abs(true_values)), smallest)
    assert np.max(np.abs(values - true_values)) < tolerance * scale, "loss"
    rng = np.random.default_rng(0)
    directions = {
        "q": rng.normal(size=(4, *world.q.shape)),
        "d": rng.normal(size=(4, *world.d.shape)),
        "t": np.eye(len(world.t)) if np.ndim(gradients["t"]) else np.ones((1, len(world.t))),
        "bias": np.ones(1),
    }
    found = reference.one_sided_slopes(truth, world, cotangent, directions)
    true = {name: (forth + back) / 2 for name, (forth, back) in found.items()}
    # Differences of losses near zero are exact to about 1e-10, hence 1e-5.
    scale = {name: max(np.max(np.abs(slopes)), terms) for name, slopes in true.items()}
    # dL/dt cancels; its scale is that of its terms.
    scale["t"] = max(scale["q"], scale["t"]) / np.min(world.t)
    for name, slopes in true.items():
        ours = [slope(gradients[name], along) for along in directions[name]]
        # At a kink the slope is that of either side.
        bend = np.abs(np.subtract(*found[name]))
        kink = np.where(bend > 0.02 * scale[name], bend / 2, 0.0)
        # A slope adds up the roundings of as many as 96 entries.
        assert np.all(np.abs(ours - slopes) < 2 * tolerance * scale[name] + kink), name


def slope(gradient, along):
    return np.sum(np.float64(gradient) * along) if np.ndim(gradient) else float(gradient)


@st.composite
def worlds(draw, *, least=0.02, most=2.0, alone=True, several=False, wide=True):
    """Few shapes, so that few programs are compiled; everything else is free."""
    shapes = [(5, 1), (4, 3)] if wide else [(4, 1), (6, 1)]
    batch, group_size = draw(st.sampled_from(shapes))
    positives = 2 if several and group_size > 1 and draw(st.booleans()) else 1
    size = batch * group_size

    def ids(count, top):
        return np.array(draw(st.lists(st.integers(0, top), min_size=count, max_size=count)))

    query_pools = ids(batch, draw(st.sampled_from([0, 1])))
    absent = ids(size, draw(st.sampled_from([0, 2]))).reshape(batch, group_size) == 2
    absent[:, 0] = False
    return make_world(
        draw(st.integers(0, 2**16)),
        batch,
        group_size,
        width=8,
        closeness=draw(st.floats(0, 2)),
        temperature=np.exp(draw(st.floats(np.log(least), np.log(most)))),
        positives=positives,
        in_batch=group_size == positives or not alone or draw(st.booleans()),
        query_ids=ids(batch, draw(st.sampled_from([0, 3]))),
        document_ids=ids(size, draw(st.sampled_from([0, 6]))),
        known=ids(batch * 2, 6).reshape(batch, 2),
        query_pools=query_pools,
        document_pools=np.where(absent, -1, query_pools[:, None]).reshape(-1),
    )


def weights(world):
    return np.random.default_rng(0).uniform(0.5, 2, len(world.q)).astype(np.float32)


def compare(loss, truth, world, *extra, sensitivity=1.0, terms=1e-5, smallest=NOTHING, **options):
    cotangent = weights(world)
    known = {name: value for name, value in options.items() if name not in _OURS}
    true = functools.partial(_call, truth, extra, known)
    found = found_by(loss, world, cotangent, *extra, **options)
    check(world, true, found, cotangent, sensitivity, terms, smallest)


_OURS = ("tile", "scalar_temperature", "takes_bias")


def _call(truth, extra, options, world):
    return truth(world, *extra, **options)


@given(worlds(least=0.005, several=True), st.sampled_from([None, 2]), st.booleans())
def test_info_nce(world, tile, inside):
    compare(losses.info_nce, reference.info_nce, world, tile=tile, inside=inside)


DIRECTIONS = [losses.SYMMETRIC, losses.TWO_VIEWS, losses.ALL_IN_ONE, (("document_to_query",),)]


@given(worlds(alone=False), st.sampled_from(DIRECTIONS), st.sampled_from([None, 3]))
def test_directions(world, directions, tile):
    compare(losses.info_nce, reference.info_nce, world, directions=directions, tile=tile)


@given(worlds(), st.sampled_from(["all", "in_batch", "hard"]), st.floats(0, 0.5))
def test_hardness_and_margin(world, harder, margin):
    # A weight of exp(5 s) makes logits as sensitive as a temperature of 1/5 does.
    options = {"hardness": 5.0, "harder": harder, "margin": margin}
    compare(losses.info_nce, reference.info_nce, world, **options)


@given(worlds(least=0.05), st.sampled_from([0.1, 0.5]))
def test_label_smoothing(world, smoothing):
    compare(losses.info_nce, reference.info_nce, world, label_smoothing=smoothing)


@given(
    worlds(),
    st.sampled_from([(0.1, None), (None, 0.95), (0.0, 0.5), (-0.2, None)]),
    st.sampled_from([losses.FORWARD, losses.ALL_IN_ONE]),
)
def test_negatives_are_chosen_by_their_scores(world, rule, directions):
    if not world.in_batch:
        directions = losses.FORWARD
    world.above_positive, world.relative_to_positive = rule
    compare(losses.info_nce, reference.info_nce, world, directions=directions)


@given(
    worlds(),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([losses.FORWARD, losses.ALL_IN_ONE]),
)
def test_negatives_are_chosen_by_a_guide(world, margin, directions):
    if not world.in_batch:
        directions = losses.FORWARD
    rng = np.random.default_rng(1)
    world.guide_queries = unit(rng.normal(size=(len(world.q), 4))).astype(np.float32)
    world.guide_documents = unit(rng.normal(size=(len(world.d), 4))).astype(np.float32)
    world.guide_margin = margin
    compare(losses.info_nce, reference.info_nce, world, directions=directions)


@given(worlds(least=0.005))
def test_decoupled(world):
    compare(losses.decoupled, reference.decoupled, world)


@given(worlds(), st.floats(0.3, 2))
def test_decoupled_weighted(world, sigma):
    compare(losses.decoupled_weighted, reference.decoupled, world, sigma=sigma)


@given(worlds(), st.floats(0, 2), st.floats(0, 0.3))
def test_hard_negative(world, beta, tau_plus):
    options = {"beta": beta, "tau_plus": tau_plus}
    # (e^x - tau N) cancels where false negatives are about all there are.
    compare(losses.hard_negative, reference.hard_negative, world, sensitivity=10, **options)


@given(worlds(), st.floats(0, 0.3))
def test_debiased(world, tau_plus):
    truth = functools.partial(reference.hard_negative, beta=0.0)
    compare(losses.debiased, truth, world, sensitivity=10, tau_plus=tau_plus)


@given(worlds(), st.sampled_from([1, 2, 4]))
def test_hardest(world, top):
    compare(losses.hardest, reference.hardest, world, top=top)


@given(worlds(), st.floats(2, 20))
def test_dual_temperature(world, ratio):
    compare(losses.dual_temperature, reference.dual_temperature, world, ratio=ratio)


@given(worlds(least=0.2))
def test_artanh(world):
    # Its slope at s is 1 / (1 - s^2): 100 at 0.995.
    nearest = max(abs(world.q @ world.d.T).max(), 0)
    compare(losses.artanh, reference.artanh, world, sensitivity=1 / (1 - nearest**2))


@given(worlds(), st.floats(0, 1), st.floats(0, 0.5))
def test_model_aware(world, alpha, alignment):
    world.t[:] = world.t[0]
    options = {"alpha": alpha, "alignment": alignment, "scalar_temperature": True}
    compare(losses.model_aware, reference.model_aware, world, **options)


@given(worlds(several=True), st.floats(-10, 0))
def test_siglip(world, bias):
    world.bias = bias
    compare(losses.siglip, reference.siglip, world, takes_bias=True)


def without_temperature(loss):
    @functools.wraps(loss)
    def called(*args, temperature, **options):
        del temperature
        return loss(*args, **options)

    return called


TRIPLET = without_temperature(losses.triplet)
ALIGN_UNIFORM = without_temperature(losses.align_uniform)
SPREAD_OUT = without_temperature(losses.spread_out)


@given(worlds(), st.floats(0.05, 0.5))
def test_triplet(world, margin):
    # A hinge is a difference of similarities, of each of which float32 has 6e-8.
    compare(TRIPLET, reference.triplet, world, smallest=0.01, margin=margin)


@given(worlds(alone=False), st.sampled_from([1.0, 2.0]), st.sampled_from([1.0, 2.0]))
def test_align_uniform(world, power, sharpness):
    options = {"power": power, "sharpness": sharpness, "weight": 0.7}
    compare(ALIGN_UNIFORM, reference.align_uniform, world, **options)


@given(worlds(alone=False))
def test_spread_out(world):
    options = {"mean_weight": 0.5, "second_moment_weight": 2.0}
    # 2 M1 is a factor of the gradient, and a mean that may cancel: float32 has 3e-8 of it.
    compare(SPREAD_OUT, reference.spread_out, world, terms=0.01, **options)


def of_own_documents(loss):
    """A loss that is told of pools alone."""

    @functools.wraps(loss)
    def called(*args, document_pools, target=None, temperature, **rest):
        del rest
        options = {} if loss is losses.margin_mse else {"temperature": temperature}
        options |= {"target": target} if target else {}
        return loss(*args, document_pools=document_pools, **options)

    return called


LISTWISE, MARGIN_MSE = of_own_documents(losses.listwise), of_own_documents(losses.margin_mse)


@given(worlds(), st.sampled_from(["softmax", "share"]))
def test_listwise(world, target):
    grades = np.random.default_rng(0).integers(0, 3, (len(world.q), world.group_size))
    compare(LISTWISE, reference.listwise, world, grades.astype(np.float32), target=target)


@given(worlds())
def test_margin_mse(world):
    if world.group_size > 1:
        scores = np.random.default_rng(0).normal(size=(len(world.q), world.group_size))
        compare(MARGIN_MSE, reference.margin_mse, world, scores.astype(np.float32))


def of_pairs(loss):
    @functools.wraps(loss)
    def called(*args, temperature, **rest):
        del rest
        return loss(*args, temperature=temperature)

    return called


COSENT, ANGLE = of_pairs(losses.cosent), of_pairs(losses.angle)


@pytest.mark.parametrize(("loss", "truth"), [(COSENT, reference.cosent), (ANGLE, reference.angle)])
@given(world=worlds(wide=False), grades=st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_graded_pairs(loss, truth, world, grades):
    world.t[:] = world.t[0]
    scores = np.array(grades[: len(world.q)], np.float32)
    compare(loss, truth, world, scores, scalar_temperature=True)


@given(worlds(least=0.005, wide=False), st.booleans(), st.integers(0, 2**10))
def test_sup_con(world, inside, seed):
    labels = np.random.default_rng(seed).integers(0, 3, len(world.q))
    cotangent = weights(world)

    def loss(q, t):
        found = losses.sup_con(q, labels, temperature=t, inside=inside, tile=4)
        return (found * cotangent).sum(), found

    gradient = jax.value_and_grad(loss, (0, 1), has_aux=True)
    (_, values), (dq, dt) = gradient(*(jnp.asarray(x, jnp.float32) for x in (world.q, world.t)))
    rest = {"d": jnp.zeros_like(world.d, jnp.float32), "bias": 0.0}

    def truth(world):
        return reference.sup_con(world.q, labels, world.t, inside)

    # With several positives, P_p - 1 / |positives| cancels.
    terms = 0.1 / np.min(world.t)
    check(world, truth, (values, {"q": dq, "t": dt, **rest}), cotangent, terms=terms)


@given(worlds(), st.sampled_from([0.0, 0.4]), st.integers(0, 2**10))
def test_sogclr(world, rho, seed):
    rng = np.random.default_rng(seed)
    old = np.where(rng.random(len(world.q)) < 0.3, -np.inf, rng.normal(-2, 1, len(world.q)))
    old = old.astype(np.float32)
    compare(SOGCLR, lambda *a, **o: reference.sogclr(*a, **o)[0], world, old, gamma=0.8, rho=rho)


SOGCLR = functools.wraps(losses.sogclr)(lambda *a, **o: losses.sogclr(*a, **o).losses)


def test_sogclr_remembers():
    world = make_world(0, 5, 1, 8, 1.0, 0.1)
    old = np.array([-np.inf, -3, -2, -1, 0], np.float32)
    found = losses.sogclr(
        jnp.float32(world.q), jnp.float32(world.d), old, temperature=jnp.float32(world.t), gamma=0.3
    )
    truth, averages = reference.sogclr(world, old, gamma=0.3)
    np.testing.assert_allclose(found.log_average, averages, rtol=1e-5)
    np.testing.assert_allclose(found.losses, truth, rtol=1e-5)


def test_matryoshka():
    world = make_world(0, 5, 2, 8, 1.0, 0.1)
    wrapped = losses.matryoshka(losses.info_nce, dims=(8, 3), weights=(1.0, 0.25))
    options = {"temperature": jnp.float32(world.t), "group_size": 2}
    found = wrapped(jnp.float32(world.q), jnp.float32(world.d), **options)
    short = World(unit(world.q[:, :3]), unit(world.d[:, :3]), world.t, group_size=2)
    truth = reference.info_nce(world) + 0.25 * reference.info_nce(short)
    np.testing.assert_allclose(found, truth, rtol=1e-5)

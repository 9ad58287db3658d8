"""One optimizer step: the same on any mesh and any layout, and what optax by hand makes of it."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastive import config
from contrastive.data.tokens import pack
from contrastive.devices.mesh import batch_sharding, make_mesh, state_sharding
from contrastive.models.linen.embedder import Embedder
from contrastive.training.batch_loss import BatchLoss
from contrastive.training.optimizer import make_optimizer, make_schedule
from contrastive.training.step import init_state, make_train_step
from contrastive.types import Batch

B, G, V = 8, 2, 64
OPTIMIZER = config.Optimizer(learning_rate=1e-2, schedule="constant", weight_decay=0.1)


def texts(count, longest, seed):
    rng = np.random.default_rng(seed)
    return [rng.integers(5, V, rng.integers(1, longest)).astype(np.int32) for _ in range(count)]


QUERIES, DOCUMENTS = texts(B, 8, 0), texts(B * G, 16, 1)


def batch(blocks=1, texts_per_row=4):
    layout = {"texts_per_row": texts_per_row, "blocks": blocks}
    return Batch(
        queries=pack(QUERIES, row_length=8, **layout),
        documents=pack(DOCUMENTS, row_length=16, **layout),
        query_ids=np.arange(1, B + 1, dtype=np.int32),
        document_ids=np.arange(1, B * G + 1, dtype=np.int32),
        known_positive_ids=np.zeros((B, 0), np.int32),
        query_pools=np.zeros(B, np.int32),
        document_pools=np.zeros(B * G, np.int32),
        teacher_scores=np.zeros((B, 0), np.float32),
        labels=np.arange(B, dtype=np.int32) // 3 + 1,
        temperatures=np.zeros(B, np.float32),
        numbers=np.arange(B, dtype=np.int32)[::-1].copy(),
    )


SMALL = config.Transformer(width=16, depth=1, heads=2, mlp_width=24)
LEARNED = config.Objective(temperature=0.05, policy=config.Learned())
OBJECTIVE = BatchLoss(LEARNED, group_size=G)
ONE = make_mesh(devices=jax.devices()[:1])


def embedder(model=SMALL):
    return Embedder(model.build(V), "mean", True)


def first_state(mesh=ONE, objective=OBJECTIVE, model=SMALL):
    params = jax.jit(embedder(model).init)(jax.random.key(3))
    state = init_state(params, objective, make_optimizer(OPTIMIZER, steps=10), seed=3, examples=B)
    return jax.device_put(state, state_sharding(mesh, state))


@functools.cache
def compiled(mesh, objective, model):
    optimizer = make_optimizer(OPTIMIZER, steps=10)
    step = make_train_step(embedder(model), objective, optimizer, mesh)
    # Compiles in half the time.
    return jax.jit(step, compiler_options={"xla_backend_optimization_level": 0})


def one_step(
    mesh=ONE, objective=OBJECTIVE, model=SMALL, *, state=None, texts_per_row=4, diagnosing=True
):
    state = first_state(mesh, objective, model) if state is None else state
    rows = batch_sharding(mesh)
    placed = jax.tree.map(lambda x: jax.device_put(x, rows), batch(mesh.size, texts_per_row))
    return compiled(mesh, objective, model)(state, placed, np.bool_(diagnosing))


def close(found, expected, rel=1e-5):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        scale = np.max(np.abs(b)) + 1e-12
        assert np.max(np.abs(np.asarray(a) - np.asarray(b))) <= rel * scale


@pytest.fixture(scope="module")
def reference():
    return one_step()


@pytest.mark.parametrize(("devices", "fsdp"), [(2, 1), (8, 1), (8, 4)])
def test_any_mesh(reference, devices, fsdp):
    state, metrics = one_step(make_mesh(fsdp, jax.devices()[:devices]))
    close(metrics, reference[1])
    # Adam's first update is nearly the sign of the gradient: compare moments, where it is linear.
    close(state.opt_state, reference[0].opt_state, rel=2e-5)


@pytest.mark.parametrize("texts_per_row", [1, 2, 16])
def test_packed_equals_padded(reference, texts_per_row):
    state, metrics = one_step(texts_per_row=texts_per_row)
    close(metrics, reference[1])
    close(state.opt_state, reference[0].opt_state, rel=2e-5)


def test_any_tile(reference):
    state, metrics = one_step(
        make_mesh(devices=jax.devices()[:2]),
        dataclasses.replace(OBJECTIVE, objective=LEARNED.replace(tile=3)),
    )
    close(metrics, reference[1])
    close(state.opt_state, reference[0].opt_state, rel=2e-5)


def test_large_parameters_are_cut_by_fsdp():
    mesh = make_mesh(4)
    shapes = {"table": jax.ShapeDtypeStruct((1024, 128), jnp.float32), "step": jnp.int32(0)}
    sharding = state_sharding(mesh, shapes)
    assert sharding["table"].shard_shape((1024, 128)) == (256, 128)
    assert sharding["step"].is_fully_replicated


def test_equals_a_dense_loss_and_optax_by_hand():
    model = config.Static(width=8)
    mesh = make_mesh(devices=jax.devices()[:4])
    state, metrics = one_step(
        mesh, BatchLoss(config.Objective(temperature=0.1), group_size=G), model
    )

    def dense_loss(table):
        def embed(texts):
            means = jnp.stack([table[text].mean(axis=0) for text in texts])
            return means / jnp.linalg.norm(means, axis=1, keepdims=True)

        logits = embed(QUERIES) @ embed(DOCUMENTS).T / 0.1
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(B) * G).mean()

    table = embedder(model).init(jax.random.key(3))["embedding"]
    loss, gradient = jax.jit(jax.value_and_grad(dense_loss))(table)
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
    norm = jnp.linalg.norm(gradient)
    assert float(metrics["grad_norm"]) == pytest.approx(float(norm), rel=1e-5)
    gradient *= min(1.0, OPTIMIZER.max_grad_norm / float(norm))
    # Adam's first step, by the paper: m / (sqrt(v) + eps) = g / (|g| + eps); no decay on tables.
    expected = table - OPTIMIZER.learning_rate * gradient / (jnp.abs(gradient) + OPTIMIZER.eps)
    np.testing.assert_allclose(state.params["encoder"]["embedding"], expected, atol=2e-5)


def test_decay_touches_matrices_only():
    # No gradient reaches an encoder whose update is all decay: the loss is masked to nothing.
    state, optimizer = first_state(), make_optimizer(OPTIMIZER, steps=10)
    nothing = jax.tree.map(jnp.zeros_like, state.params)
    updates, _ = optimizer.update(nothing, state.opt_state, state.params)
    moved = jax.tree.map(lambda u: bool(np.any(np.asarray(u) != 0)), updates)
    flat = {
        "/".join(str(key.key) for key in path): value
        for path, value in jax.tree_util.tree_flatten_with_path(moved)[0]
    }
    assert {name for name, value in flat.items() if value} == {
        name for name in flat if name.endswith("kernel")
    }


def test_the_temperature_is_neither_clipped_nor_clips():
    optimizer = make_optimizer(config.Optimizer(max_grad_norm=1.0), steps=10)
    params = {"encoder": {"kernel": jnp.ones((2, 2))}, "temperature": {"log_scale": jnp.ones(())}}
    small = {"encoder": {"kernel": jnp.full((2, 2), 1e-3)}}

    def moment(temperature_gradient):
        grads = {**small, "temperature": {"log_scale": jnp.float32(temperature_gradient)}}
        _, state = optimizer.update(grads, optimizer.init(params), params)
        leaves = jax.tree_util.tree_leaves_with_path(state)
        named = {jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves}
        return {name: x for name, x in named.items() if ".mu" in name}

    calm, wild = moment(0.1), moment(1e6)
    encoder = [name for name in calm if "encoder" in name]
    assert encoder
    for name in encoder:
        np.testing.assert_array_equal(calm[name], wild[name])
    (temperature,) = (name for name in calm if "temperature" in name)
    assert wild[temperature] == pytest.approx(1e5)  # (1 - b1) * gradient, whole


def test_the_temperature_has_a_learning_rate_of_its_own():
    settings = config.Optimizer(learning_rate=1e-5, weight_decay=0.0, warmup_steps=1)
    optimizer = make_optimizer(settings, steps=10, scalars_rate=0.2)
    params = {"encoder": {"kernel": jnp.ones((2, 2))}, "temperature": {"log_scale": jnp.ones(())}}
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    # The first step of Adam is the learning rate, of which a warm-up of one step takes half.
    np.testing.assert_allclose(updates["temperature"]["log_scale"], -0.1, rtol=1e-4)
    np.testing.assert_allclose(updates["encoder"]["kernel"], -0.5e-5, rtol=1e-4)


def test_stacked_parameters_take_the_steps_they_take_alone():
    # Against plain AdamW, which knows no stacks; shapes that coincide but are treated differently.
    settings = config.Optimizer(weight_decay=0.3, max_grad_norm=0.5, learning_rate=0.1)
    rng = np.random.default_rng(0)
    shapes = {
        "layer_0": {"kernel": (3, 3), "bias": (3,)},
        "layer_1": {"kernel": (3, 3), "bias": (3,)},
        "embedding": {"table": (3, 3)},
    }

    def some():
        return jax.tree.map(
            lambda s: rng.normal(size=s).astype(np.float32),
            shapes,
            is_leaf=lambda s: isinstance(s, tuple),
        )

    params, grads = some(), some()
    both = {"encoder": params, "temperature": {"value": jnp.float32(0.1)}}
    optimizer = make_optimizer(settings, steps=10)
    given = {"encoder": grads, "temperature": {"value": jnp.float32(0)}}
    updates, _ = optimizer.update(given, optimizer.init(both), both)
    norm = np.sqrt(sum(np.sum(np.float64(g) ** 2) for g in jax.tree.leaves(grads)))
    rate = float(make_schedule(settings, 10)(0))
    for path, update in jax.tree_util.tree_leaves_with_path(updates["encoder"]):
        names = [key.key for key in path]
        p, g = (functools.reduce(lambda t, n: t[n], names, tree) for tree in (params, grads))
        g = g * min(1.0, settings.max_grad_norm / norm)
        step = g / (np.abs(g) + settings.eps)
        if names[-1] == "kernel":
            step = step + settings.weight_decay * p
        # float32 knows 1 - b2 = 0.001 to 1.3e-5.
        np.testing.assert_allclose(update, -rate * step, rtol=2e-5, err_msg=str(names))


def test_an_update_that_is_not_finite_is_not_applied():
    state = first_state()
    broken = dataclasses.replace(
        state,
        params={
            **state.params,
            "encoder": jax.tree.map(lambda x: x.at[0].set(jnp.nan), state.params["encoder"]),
        },
    )
    after, metrics = one_step(state=broken, diagnosing=False)
    assert metrics["finite"] == 0
    assert "largest_logit" in metrics
    assert int(after.step) == 0
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(broken), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_diagnostics_are_left_out_unless_asked_for(reference):
    assert np.isfinite(float(reference[1]["entropy"]))
    _, metrics = one_step(diagnosing=False)
    assert np.isnan(float(metrics["entropy"]))
    assert float(metrics["loss"]) == pytest.approx(float(reference[1]["loss"]))


def test_schedules_start_peak_and_end_where_they_should():
    settings = {"learning_rate": 1.0, "warmup_steps": 4}
    for kind, last in (("cosine", 0.0), ("linear", 0.0), ("constant", 1.0)):
        schedule = make_schedule(config.Optimizer(schedule=kind, **settings), steps=20)
        assert float(schedule(0)) == pytest.approx(0.2)
        assert float(schedule(4)) == pytest.approx(1.0)
        assert float(schedule(20)) == pytest.approx(last, abs=1e-6)
        from_zero = make_schedule(
            config.Optimizer(schedule=kind, warmup_from_zero=True, **settings), steps=20
        )
        assert [float(from_zero(step)) for step in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]
        assert float(from_zero(9)) == float(schedule(9))
    half = make_schedule(config.Optimizer(schedule="cosine", learning_rate=1.0), steps=20)
    assert float(half(10)) == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_schedules_end_at_the_final_learning_rate(kind):
    settings = config.Optimizer(schedule=kind, learning_rate=1.0, final_learning_rate=0.2)
    schedule = make_schedule(settings, steps=20)
    assert [float(schedule(step)) for step in (0, 10, 20)] == pytest.approx([1.0, 0.6, 0.2])


def test_frozen_parameters_have_no_part_in_any_norm(reference):
    optimizer = make_optimizer(OPTIMIZER.replace(frozen=("embedding",)), steps=10)
    step = make_train_step(embedder(), OBJECTIVE, optimizer, ONE, frozen=("embedding",))
    state = first_state()
    frozen_state = dataclasses.replace(state, opt_state=optimizer.init(state.params))
    _, metrics = jax.jit(step)(frozen_state, batch(), np.bool_(False))
    norms = {name: float(x) for name, x in metrics.items() if name.startswith("grad_norm/")}
    expected = {name: float(x) for name, x in reference[1].items() if name in norms}
    tables = [name for name in norms if "embedding" in name]
    assert tables
    for name, norm in norms.items():
        assert norm == pytest.approx(0.0 if name in tables else expected[name], rel=1e-5)
    whole = math.hypot(*norms.values())
    assert float(metrics["grad_norm"]) == pytest.approx(whole, rel=1e-5)


def test_fsdp_must_divide_the_devices():
    with pytest.raises(ValueError, match="fsdp is 3, which does not divide 8"):
        make_mesh(3)

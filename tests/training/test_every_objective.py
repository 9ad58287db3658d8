"""Every loss of a config trains: the same step on one device and, in every other way, on eight."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from test_step import OPTIMIZER, B, G, batch, close, embedder

from contrastive import config
from contrastive.devices.mesh import batch_sharding, make_mesh, state_sharding
from contrastive.training.batch_loss import BatchLoss
from contrastive.training.optimizer import make_optimizer
from contrastive.training.step import init_state, make_train_step

SCORES = np.random.default_rng(0).integers(0, 4, (B, G)).astype(np.float32)
FUNCTIONS = [
    config.InfoNCE(directions="symmetric", margin=0.1),
    config.InfoNCE(directions="two_views"),
    config.InfoNCE(label_smoothing=0.1),
    config.InfoNCE(directions="all_in_one"),
    config.InfoNCE(hardness=5.0, harder="hard"),
    config.Decoupled(),
    config.Decoupled(sigma=0.5),
    config.HardNegative(),
    config.Hardest(top=3),
    config.DualTemperature(),
    config.Artanh(),
    config.ModelAware(),
    config.SogCLR(rho=1.0),
    config.SigLIP(bias=-3.0),
    config.Triplet(),
    config.MarginMSE(),
    config.CoSENT(),
    config.CoSENT(angle=True),
    config.Listwise(),
    config.AlignUniform(),
]


def step(loss, mesh, chunk_tokens):
    policy = config.Learned() if loss.function.has_temperature else config.Fixed()
    objective = BatchLoss(loss.replace(policy=policy), group_size=G)
    optimizer = make_optimizer(OPTIMIZER, steps=10)
    encoder = dataclasses.replace(embedder(config.Static(width=16)), chunk_tokens=chunk_tokens)
    params = jax.jit(encoder.init)(jax.random.key(3))
    state = init_state(params, objective, optimizer, seed=3, examples=B)
    state = jax.device_put(state, state_sharding(mesh, state))
    given = dataclasses.replace(batch(mesh.size), teacher_scores=SCORES)
    rows = batch_sharding(mesh)
    given = jax.tree.map(lambda x: jax.device_put(x, rows), given)
    made = make_train_step(encoder, objective, optimizer, mesh)
    compiled = jax.jit(made, compiler_options={"xla_backend_optimization_level": 0})
    return compiled(state, given, np.bool_(True))


def name(function):
    changed = function.model_dump(exclude_defaults=True)
    return "-".join(f"{v}" if k == "kind" else f"{k}={v}" for k, v in changed.items())


# Losses that share most of their program with one that is left.
ALIKE = [
    *(config.InfoNCE(directions="symmetric", margin=0.1), config.InfoNCE(directions="two_views")),
    *(config.InfoNCE(label_smoothing=0.1), config.Decoupled(sigma=0.5), config.DualTemperature()),
    *(config.Hardest(top=3), config.ModelAware(), config.Artanh(), config.CoSENT(angle=True)),
]


@pytest.mark.parametrize(
    "function",
    [pytest.param(f, marks=pytest.mark.slow) if f in ALIKE else f for f in FUNCTIONS],
    ids=name,
)
def test_one_device_or_eight_whole_or_in_chunks(function):
    loss = functools.partial(
        config.Objective, function=function, matryoshka_dims=(8,), temperature=0.2
    )
    plain, metrics = step(loss(), make_mesh(devices=jax.devices()[:1]), None)
    other, other_metrics = step(loss(ring=True, tile=3), make_mesh(4), 32)
    assert metrics["finite"] == 1
    close(other_metrics, metrics, rel=2e-5)
    # Adam's first update is nearly the sign of the gradient: compare moments, where it is linear.
    close(other.opt_state, plain.opt_state, rel=1e-4)
    moved = {k: float(np.abs(v).sum()) for k, v in _moments(plain).items()}
    # A loss that has a temperature moves it, and SigLIP its bias.
    without = ("triplet", "margin_mse", "align_uniform", "artanh")
    assert (moved["temperature"] > 0) == (function.kind not in without)
    assert moved.get("loss", 0) > 0 or function.kind != "siglip"


BY_SOURCE = [f for f in FUNCTIONS if not config.Objective(function=f).has_one_temperature]


@pytest.mark.parametrize("function", BY_SOURCE, ids=name)
def test_queries_of_a_source_have_its_temperature(function):
    loss = config.Objective(function=function, temperature=0.2)
    encoder = jax.random.normal(jax.random.key(0), (B * (1 + G), 16))
    queries, documents = encoder[:B], encoder[B:]
    own = np.where(np.arange(B) % 3 == 0, 0.7, 0).astype(np.float32)

    def losses(objective, temperatures):
        given = dataclasses.replace(batch(1), teacher_scores=SCORES, temperatures=temperatures)
        columns = dict(objective.columns(given))
        scalars = objective.scalars(objective.init(), np.int32(0), {})
        columns["log_average"] = np.full((B, 1), -np.inf, np.float32)
        return objective.losses(queries, documents, scalars, columns, None)[0]

    found = losses(BatchLoss(loss, group_size=G, source_temperatures=True), own)
    cold, hot = (
        losses(BatchLoss(loss.replace(temperature=t), group_size=G), own * 0) for t in (0.2, 0.7)
    )
    # Each query's loss is that of a batch at its temperature.
    np.testing.assert_allclose(found, np.where(own > 0, hot, cold), rtol=1e-5)
    assert np.abs(np.asarray(hot) - cold).max() > 1e-3


def _moments(state):
    """Adam's first moments of the scalar parameters, by part."""
    found = {}
    for path, x in jax.tree_util.tree_leaves_with_path(state.opt_state):
        where = jax.tree_util.keystr(path)
        for part in ("temperature", "loss"):
            if f"'{part}/" in where and ".mu" in where:
                found[part] = np.asarray(x)
    return found

"""What a run remembers of its examples, and what it knows of them besides texts."""

import dataclasses

import jax
import numpy as np
import pytest
from test_step import DOCUMENTS, OPTIMIZER, B, G, batch, embedder

from contrastive import config
from contrastive.data.tokens import pack
from contrastive.devices.mesh import batch_sharding, make_mesh, state_sharding
from contrastive.temperature import Individual
from contrastive.training.batch_loss import BatchLoss
from contrastive.training.optimizer import make_optimizer
from contrastive.training.step import init_state, make_train_step

STILL = OPTIMIZER.replace(learning_rate=1e-30, weight_decay=0.0)  # embeddings stay as they are
ENCODER = embedder(config.Static(width=16))
EXAMPLES = B + 3
GAMMA, RHO, RATE, T = 0.7, 1.5, 0.02, 0.3
POLICY = Individual(minimum=0.25, maximum=0.33, learning_rate=RATE)


def steps(objective, batches, devices=1, **guide):
    """State and metrics after a step on each of some batches."""
    mesh = make_mesh(devices=jax.devices()[:devices])
    optimizer = make_optimizer(STILL, steps=10)
    params = jax.jit(ENCODER.init)(jax.random.key(3))
    state = init_state(params, objective, optimizer, seed=3, examples=EXAMPLES)
    state = jax.device_put(state, state_sharding(mesh, state))
    made = make_train_step(ENCODER, objective, optimizer, mesh, guide.get("embedder"))
    compiled = jax.jit(made, compiler_options={"xla_backend_optimization_level": 0})
    for given in batches:
        placed = jax.tree.map(lambda x: jax.device_put(x, batch_sharding(mesh)), given)
        state, metrics = compiled(state, placed, np.bool_(True), guide.get("params"))
    return state, metrics


def embedded(given, encoder=ENCODER, seed=3):
    params = jax.jit(encoder.init)(jax.random.key(seed))
    embed = jax.jit(encoder.embed)
    return [np.asarray(embed(params, x), np.float64) for x in (given.queries, given.documents)]


def visited(temperature, log_average, queries, documents):
    """Average and temperature of each query after a visit, in float64."""
    similarities = queries @ documents.T
    for i, t in enumerate(temperature.copy()):
        others = np.delete(similarities[i], i * G)
        relative = np.exp((others - similarities[i, i * G]) / t)
        log_g = np.log(relative.mean())
        if log_average[i] == -np.inf:
            log_average[i] = log_g
        else:
            mixed = (1 - GAMMA) * np.exp(log_average[i]) + GAMMA * np.exp(log_g)
            log_average[i] = np.log(mixed)
        # d(t (log u + rho))/dt, where du = (g / u) dg: the average is a constant.
        softmax = relative / relative.sum()
        moved = -np.sum(softmax * (others - similarities[i, i * G])) / t
        slope = log_average[i] + RHO + np.exp(log_g - log_average[i]) * moved
        temperature[i] = np.clip(t - RATE * slope, POLICY.minimum, POLICY.maximum)
    return temperature, log_average


@pytest.mark.parametrize("devices", [1, 4])
def test_of_an_example_twice_in_a_batch_the_last_is_remembered(devices):
    given = batch(devices)
    numbers = np.array([2, 0, 2, 5, 0, 1, 2, 4][:B], np.int32)
    loss = config.Objective(
        function=config.SogCLR(gamma=1.0), temperature=T, mask_false_negatives=False
    )
    twice = dataclasses.replace(given, numbers=numbers)
    state, _ = steps(BatchLoss(loss, group_size=G), [twice], devices)
    once, _ = steps(BatchLoss(loss, group_size=G), [given], devices)
    last = {number: place for place, number in enumerate(numbers.tolist())}
    for number in range(EXAMPLES):
        wanted = -np.inf
        if number in last:
            wanted = once.memory["log_average"][given.numbers[last[number]], 0]
        np.testing.assert_allclose(state.memory["log_average"][number, 0], wanted, rtol=1e-6)


@pytest.mark.parametrize("devices", [1, 4])
def test_averages_and_temperatures_are_those_of_loops_and_belong_to_their_queries(devices):
    given = batch(devices)
    flipped = dataclasses.replace(given, numbers=np.arange(3, B + 3, dtype=np.int32))
    loss = config.Objective(
        function=config.SogCLR(gamma=GAMMA, rho=RHO),
        temperature=T,
        policy=POLICY,
        mask_false_negatives=False,
        tile=3,
    )
    state, _ = steps(BatchLoss(loss, group_size=G), [given, given, flipped, given], devices)
    temperature, log_average = np.full(EXAMPLES, T), np.full(EXAMPLES, -np.inf)
    for visit in (given, given, flipped, given):
        rows, texts = visit.numbers, embedded(batch())
        new = visited(temperature[rows], log_average[rows], *texts)
        temperature[rows], log_average[rows] = new
    assert len(np.unique(temperature.round(5))) > 4  # not all at a limit
    np.testing.assert_allclose(state.memory["log_average"][:, 0], log_average, rtol=2e-5)
    np.testing.assert_allclose(state.memory["temperature"], temperature, rtol=2e-5)


def test_an_update_that_is_not_finite_is_not_remembered():
    given = batch()
    function = config.SogCLR(rho=1.0)
    loss = config.Objective(function=function, temperature=0.1, policy=Individual())
    objective = BatchLoss(loss, group_size=G)
    state, metrics = steps(objective, [given])
    assert metrics["finite"] == 1
    mesh, optimizer = make_mesh(devices=jax.devices()[:1]), make_optimizer(STILL, steps=10)
    broken = jax.tree.map(lambda x: x * np.nan, state.params["encoder"])
    state = dataclasses.replace(state, params={**state.params, "encoder": broken})
    step = make_train_step(ENCODER, objective, optimizer, mesh)
    after, metrics = jax.jit(step)(state, given, np.bool_(False))
    assert metrics["finite"] == 0
    for name, rows in state.memory.items():
        np.testing.assert_array_equal(after.memory[name], rows)


@pytest.mark.parametrize("devices", [1, 4])
def test_texts_of_one_label_are_positives(devices):
    layout = {"texts_per_row": 4, "blocks": devices}
    own = pack(DOCUMENTS[::G], row_length=16, **layout)
    given = dataclasses.replace(batch(devices), documents=own, document_pools=np.zeros(B, np.int32))
    loss = config.Objective(
        function=config.SupCon(), temperature=T, mask_false_negatives=False, tile=3
    )
    objective = BatchLoss(loss)
    _, metrics = steps(objective, [given], devices)
    queries, documents = embedded(
        dataclasses.replace(batch(), documents=pack(DOCUMENTS[::G], row_length=16, texts_per_row=4))
    )
    texts, labels = np.concatenate([queries, documents]), np.tile(given.labels, 2)
    logits, losses = texts @ texts.T / T, []
    for i in range(2 * B):
        others = np.delete(np.arange(2 * B), i)
        same = others[labels[others] == labels[i]]
        losses.append(np.log(np.exp(logits[i, others]).sum()) - logits[i, same].mean())
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)


@pytest.mark.parametrize("devices", [1, 4])
def test_a_guide_leaves_out_what_it_scores_above_the_positive(devices):
    wide = embedder(config.Static(width=24))
    margin = 0.05
    guide = config.Guide(name="", margin=margin)
    loss = config.Objective(temperature=T, mask_false_negatives=False, guide=guide)
    guide = {"embedder": wide, "params": jax.jit(wide.init)(jax.random.key(9))}
    _, metrics = steps(BatchLoss(loss, group_size=G), [batch(devices)], devices, **guide)
    queries, documents = embedded(batch())
    said = np.matmul(*(x if n == 0 else x.T for n, x in enumerate(embedded(batch(), wide, 9))))
    logits, losses, left_out = queries @ documents.T / T, [], 0
    for i in range(B):
        others = np.delete(np.arange(B * G), i * G)
        kept = others[said[i, others] <= said[i, i * G] - margin]
        left_out += len(others) - len(kept)
        places = [i * G, *kept]
        losses.append(np.log(np.exp(logits[i, places]).sum()) - logits[i, i * G])
    assert 0 < left_out < B * (B * G - 1)
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["masked_by_score"], left_out / (B * (B * G - 1)), rtol=1e-6)

"""What a step minimises, against loops in float64: widths, distillation, weights, devices."""

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from contrastive import config
from contrastive.training.batch_loss import BatchLoss

B, G, D, T = 8, 3, 16, 0.1
RNG = np.random.default_rng(0)
POOLS = np.repeat(np.arange(2, dtype=np.int32), B // 2)
DOCUMENT_POOLS = np.repeat(POOLS, G)
DOCUMENT_POOLS[[1, 2, 20]] = -1  # a group of one, and one of two
COLUMNS = {
    "query_pools": POOLS,
    "document_pools": DOCUMENT_POOLS,
    "query_ids": RNG.integers(1, 6, B).astype(np.int32),
    "document_ids": RNG.integers(1, 15, B * G).astype(np.int32),
    "known_positive_ids": RNG.integers(0, 15, (B, 2)).astype(np.int32),
    "teacher_scores": RNG.normal(size=(B, G)).astype(np.float32),
}
KNOWN = {name: value for name, value in COLUMNS.items() if name != "teacher_scores"}
KNOWN["known"] = KNOWN.pop("known_positive_ids")


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


QUERIES, DOCUMENTS = (unit(RNG.normal(size=(n, D))).astype(np.float32) for n in (B, B * G))


def at_one_width(queries, documents, teacher):
    """Losses and their gradient in queries and documents."""
    plain = {name: KNOWN[name] for name in ("query_ids", "document_ids", "known")}
    pools = {name: KNOWN[name] for name in ("query_pools", "document_pools")}
    if teacher is None:
        return naive.info_nce(queries, documents, T, G, **plain, **pools)[:3]
    weight, temperature = teacher.terms[-1].weight, teacher.terms[-1].loss.teacher_temperature
    arguments = (queries, documents, COLUMNS["teacher_scores"], T, temperature)
    if teacher is M3:
        found = naive.distill_m3(*arguments, **plain, **pools)[:3]
        return [weight * x for x in found]
    hard = naive.info_nce(queries, documents, T, G, **plain, **pools)[:3]
    soft = naive.distill_kl(*arguments, pools["document_pools"])[:3]
    return [a + weight * b for a, b in zip(hard, soft, strict=True)]


def truth(widths, renormalize, teacher):
    """The mean over widths; gradients go back through cutting and scaling by hand."""
    total = [np.zeros(B), np.zeros((B, D)), np.zeros((B * G, D))]
    for width in widths or (D,):
        cut = [np.asarray(x[:, :width], np.float64) for x in (QUERIES, DOCUMENTS)]
        scaled = renormalize and width < D
        losses, *gradients = at_one_width(*(map(unit, cut) if scaled else cut), teacher)
        total[0] += losses / len(widths or (D,))
        for sum_, x, g in zip(total[1:], cut, gradients, strict=True):
            if scaled:
                along = np.sum(g * unit(x), axis=1, keepdims=True) * unit(x)
                g = (g - along) / np.linalg.norm(x, axis=1, keepdims=True)
            sum_[:, :width] += g / len(widths or (D,))
    return total


def found(objective, devices):
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    rows = PartitionSpec("data")
    columns = dict(COLUMNS)
    if not objective.objective.function.needs_scores:
        del columns["teacher_scores"]

    def losses(queries, documents, columns):
        scalars = {"temperature": jnp.float32(T)}
        return objective.losses(queries, documents, scalars, columns, "data")[0]

    mapped = jax.shard_map(losses, mesh=mesh, in_specs=rows, out_specs=rows)

    def total(queries, documents):
        losses = mapped(queries, documents, columns)
        return losses.sum(), losses

    gradient = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))
    (_, losses), gradients = gradient(QUERIES, DOCUMENTS)
    return losses, *gradients


KL = config.InfoNCE() + 0.3 * config.DistillKL(teacher_temperature=0.5)
M3 = 0.7 * config.DistillM3(teacher_temperature=2.0)


@pytest.mark.parametrize(
    ("devices", "widths", "renormalize", "teacher"),
    [
        (1, (), True, KL),
        (2, (), True, M3),
        (1, (16, 8, 4), True, None),
        (4, (8, 4), True, KL),
        (4, (16, 5), True, M3),
        (2, (16, 8), False, None),
    ],
)
def test_value_and_gradient_are_those_of_loops(devices, widths, renormalize, teacher):
    loss = config.Objective(
        function=teacher or config.InfoNCE(), temperature=T, matryoshka_dims=widths
    )
    objective = BatchLoss(loss, group_size=G, renormalize=renormalize)
    expected = truth(widths, renormalize, teacher)
    for ours, true in zip(found(objective, devices), expected, strict=True):
        assert np.max(np.abs(np.asarray(ours) - true)) < 1e-5 * np.max(np.abs(true))


def test_it_takes_of_a_batch_what_it_may_know():
    class Everything:
        def __getattr__(self, name):
            return np.zeros(1)

    pools = {"query_pools", "document_pools"}
    ids = {"query_ids", "document_ids", "known_positive_ids"}
    for options, expected in (
        ({"mask_false_negatives": False}, pools),
        ({"mask_false_negatives": False, "function": KL}, pools | {"teacher_scores"}),
        ({}, pools | ids),
        ({"function": M3}, pools | ids | {"teacher_scores"}),
        ({"function": config.SupCon()}, pools | ids | {"labels"}),
    ):
        objective = BatchLoss(config.Objective(**options))
        assert set(objective.columns(Everything())) == expected

"""Rows, chunks and devices are bookkeeping: embeddings and gradients, dropout included, know none.

The truth is every text in a row of its own, all rows at once, on one device.
"""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from small import CONFIGS, WIDTH, embedder, one_a_row, parameters, texts

from contrastive.data.tokens import pack
from contrastive.devices.mesh import batch_sharding, make_mesh
from contrastive.models.families.family import Compute
from contrastive.models.linen.embedder import shapes_of

LENGTHS = [1, 5, 0, 9, 3, 7, 2, 11, 4, 12, 6, 1, 8, 3, 5, 2]
ROW = 12
SEED = np.uint32(2**31 + 12345)
DIRECTION = np.random.default_rng(2).normal(size=(len(LENGTHS), WIDTH)).astype(np.float32)
FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time


def corpus():
    """Texts of which some are equal, next to each other and far away."""
    made = texts(LENGTHS)
    made[1], made[13], made[14] = made[0], made[12], made[3]
    return made


@functools.partial(jax.jit, static_argnums=0, compiler_options=FAST)
def value_and_gradient(made, params, tokens, seed):
    def scalar(params):
        embeddings = made.embed(params, tokens, seed)
        return jnp.sum(embeddings * DIRECTION), embeddings

    (_, embeddings), gradient = jax.value_and_grad(scalar, has_aux=True)(params)
    return embeddings, gradient


def worst(found, truth):
    """Largest difference of any array, beside its largest value.

    The gradient of a key's bias is zero but for rounding: beside a hundredth of the largest.
    """
    found, truth = ([np.asarray(x) for x in jax.tree.leaves(tree)] for tree in (found, truth))
    least = 0.01 * max(np.max(np.abs(b)) for b in truth)
    differences = [
        np.max(np.abs(a - b)) / max(np.max(np.abs(b)), least)
        for a, b in zip(found, truth, strict=True)
    ]
    assert np.all(np.isfinite(differences))
    return max(differences)


@pytest.fixture(scope="module", params=CONFIGS)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def params(family):
    return parameters(family)


@pytest.fixture(scope="module")
def truth(family, params):
    """With dropout and without."""
    tokens = one_a_row(corpus(), ROW)
    return {s: value_and_gradient(embedder(family), params, tokens, s) for s in (SEED, None)}


@pytest.mark.parametrize(
    ("options", "layout"),
    [
        ({}, {"texts_per_row": 4}),
        ({"chunk_tokens": 1}, {"texts_per_row": 4}),  # one row at least
        ({"chunk_tokens": 4 * ROW - 1}, {"texts_per_row": 1, "blocks": 4}),  # three rows
    ],
    ids=["packed", "chunks of 1 row", "of 3 in 4 blocks"],
)
def test_layout_and_chunks(family, params, truth, options, layout):
    tokens = pack(corpus(), row_length=ROW, **layout)
    found = value_and_gradient(embedder(family, **options), params, tokens, SEED)
    assert worst(found, truth[SEED]) < 1e-5


def test_layout_and_chunks_without_dropout(family, params, truth):
    tokens = pack(corpus(), row_length=ROW, texts_per_row=4, blocks=2)
    made = embedder(family, chunk_tokens=ROW)
    found = value_and_gradient(made, params, tokens, None)
    assert worst(found, truth[None]) < 1e-5
    assert worst(found, truth[SEED]) > 0.1  # dropout does something


@pytest.mark.parametrize(
    ("devices", "options"),
    [(2, {"chunk_tokens": 2 * ROW}), (4, {"compute": Compute(remat=True)}), (8, {})],
    ids=["2, in chunks", "4, computed again", "8"],
)
def test_devices(family, params, truth, devices, options):
    mesh, made = make_mesh(devices=jax.devices()[:devices]), embedder(family, **options)
    tokens = pack(corpus(), row_length=ROW, texts_per_row=2, blocks=devices)
    tokens = jax.tree.map(lambda x: jax.device_put(x, batch_sharding(mesh)), tokens)
    placed = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    compiled = value_and_gradient.lower(made, placed, tokens, SEED).compile()
    found = compiled(placed, tokens, SEED)
    assert worst(found, truth[SEED]) < 1e-5
    # No device sees another's texts: all that travels is gradients, summed.
    operations = re.findall(r"= (.*?) ([a-z-]+)\(", compiled.as_text())
    moves = ("all-", "collective-", "ragged-", "reduce-scatter", "send", "recv")
    travelling = [(shape, name) for shape, name in operations if name.startswith(moves)]
    assert {name for _, name in travelling} == {"all-reduce"}
    sent = [d for shape, _ in travelling for d in re.findall(r"\w+\[([\d,]+)\]", shape)]
    arrays = sum(math.prod(map(int, shape.split(","))) for shape in sent)
    assert arrays <= sum(x.size for x in jax.tree.leaves(params))


def test_bfloat16_layers_stay_close_and_give_float32(family, params, truth):
    made = embedder(family, Compute(dtype=jnp.bfloat16))
    tokens = pack(corpus(), row_length=ROW, texts_per_row=4)
    found = value_and_gradient(made, params, tokens, SEED)
    assert {x.dtype for x in jax.tree.leaves(found)} == {np.dtype(np.float32)}
    assert 1e-4 < worst(found, truth[SEED]) < 0.15  # bfloat16 has 8 bits; dropout is the same


def test_memory_is_that_of_a_chunk():
    width = 32

    def temporary_bytes(rows):
        made = embedder("bert", chunk_tokens=ROW, hidden_size=width)
        tokens = one_a_row(texts([ROW] * rows), ROW)

        @functools.partial(jax.jit, compiler_options=FAST)
        def gradient(params, tokens):
            return jax.value_and_grad(lambda p: made.embed(p, tokens, SEED).sum())(params)

        compiled = gradient.lower(shapes_of(made.module), tokens).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    small, large = temporary_bytes(128), temporary_bytes(256)
    # A further row costs its tokens and its vector, perhaps twice, and no activations.
    row = 4 * (3 * ROW + 1 + width)
    assert (large - small) / 128 < 2.5 * row

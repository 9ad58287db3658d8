"""Measures losses at scale: their memory on several devices, and the error of their gradients.

The devices are simulated on a CPU, and their memory is what the compiler plans; nothing is
executed. This module is also a script that prints the memory as JSON, because JAX can create
simulated devices only when it starts:

python -m contrastive.experiments.papers.scale_programs BATCH,BATCH,... WIDTH DEVICES
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from contrastive.experiments.papers.paper_scores import unit
from contrastive.losses import clip, info_nce

AXIS = "data"
TEMPERATURE = 0.05


def temporary_bytes(layout: str, batch: int, width: int, devices: int) -> int:
    """Returns the temporary memory per device for the symmetric loss and its gradient.

    Args:
      layout: One of `LAYOUTS`.
      batch: Number of pairs over all devices.
      width: Dimension of the embeddings, which are float32.
      devices: Number of devices that share the batch.

    Returns:
      The memory in bytes.
    """
    mesh = jax.make_mesh(
        (devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    rows = PartitionSpec(AXIS)
    specs = {"in_specs": (rows, rows), "out_specs": rows}
    losses = jax.shard_map(LAYOUTS[layout], mesh=mesh, check_vma=False, **specs)
    gradient = jax.jit(jax.value_and_grad(lambda q, d: losses(q, d).mean(), argnums=(0, 1)))
    sharding = jax.NamedSharding(mesh, rows)
    shape = jax.ShapeDtypeStruct((batch, width), jnp.float32, sharding=sharding)
    planned = gradient.lower(shape, shape).compile().memory_analysis()
    assert planned is not None
    return planned.temp_size_in_bytes


def _dense(queries, documents):
    """Every device computes the whole similarity matrix."""
    local_count = len(queries)
    queries, documents = (jax.lax.all_gather(x, AXIS, tiled=True) for x in (queries, documents))
    logits = queries @ documents.T / TEMPERATURE
    both = jax.nn.logsumexp(logits, axis=1) + jax.nn.logsumexp(logits, axis=0)
    losses = both / 2 - jnp.diag(logits)
    return jax.lax.dynamic_slice(losses, [jax.lax.axis_index(AXIS) * local_count], [local_count])


def _sharded(queries, documents):
    """Every device gathers all embeddings and computes its own rows of both similarity matrices."""
    first = jax.lax.axis_index(AXIS) * len(queries)

    def one_way(anchors, others):
        logits = anchors @ jax.lax.all_gather(others, AXIS, tiled=True).T / TEMPERATURE
        places = first + jnp.arange(len(anchors))
        positive = jnp.take_along_axis(logits, places[:, None], axis=1)[:, 0]
        return jax.nn.logsumexp(logits, axis=1) - positive

    return (one_way(queries, documents) + one_way(documents, queries)) / 2


def _ours(queries, documents, *, ring: bool):
    return clip(queries, documents, temperature=TEMPERATURE, axis_name=AXIS, ring=ring)


LAYOUTS: dict[str, Callable[..., Any]] = {
    "dense": _dense,
    "sharded": _sharded,
    "gathered tiles": functools.partial(_ours, ring=False),
    "ring of tiles": functools.partial(_ours, ring=True),
}


def embeddings(batch: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Makes queries and documents like those of a trained encoder: float32 unit vectors.

    Eight texts share a topic. The cosine is about 0.82 within a pair, 0.73 within a topic, and 0
    otherwise.

    Args:
      batch: Number of pairs B.
      width: Dimension D of the embeddings.
      seed: Seed of the random numbers.

    Returns:
      Queries [B, D] and documents [B, D].
    """
    rng = np.random.default_rng(seed)

    def noise(count=batch):
        return rng.standard_normal((count, width), dtype=np.float32)

    texts = np.repeat(noise(-(-batch // 8)), 8, axis=0)[:batch] + 0.35 * noise()
    queries, documents = (texts + 0.5 * noise() for _ in range(2))
    return unit(queries), unit(documents)


def dense_info_nce(
    queries: jax.Array, documents: jax.Array, *, temperature: jax.Array
) -> jax.Array:
    """Computes InfoNCE from the whole matrix in the embeddings' dtype, as most libraries do.

    Args:
      queries: Embeddings [B, D].
      documents: The positive of each query [B, D].
      temperature: Temperature that divides the similarities.

    Returns:
      One loss per query [B].
    """
    logits = (queries @ documents.T / temperature.astype(queries.dtype)).astype(jnp.float32)
    return jax.nn.logsumexp(logits, axis=1) - jnp.diag(logits)


LOSSES: dict[str, Callable[..., Any]] = {"ours": info_nce, "dense": dense_info_nce}


def gradient_error(name: str, batch: int, width: int, dtype: str, temperature: float) -> float:
    """Computes the relative error (L2 norm) of a gradient with respect to the one in float64.

    Args:
      name: One of `LOSSES`.
      batch: Number of queries, and of documents.
      width: Dimension of the embeddings.
      dtype: Dtype of the embeddings.
      temperature: Temperature that divides the similarities.

    Returns:
      The relative error of the gradient with respect to the queries.
    """

    def mean(queries, documents, temperature):
        return LOSSES[name](queries, documents, temperature=temperature).mean()

    pair = [jnp.asarray(x, dtype) for x in embeddings(batch, width)]
    gradient = jax.jit(jax.value_and_grad(mean, argnums=(0, 1, 2)))
    _, (computed, _, _) = gradient(*pair, jnp.float32(temperature))
    queries, documents = (np.asarray(x, np.float64) for x in pair)
    exact = exact_gradient(queries, documents, temperature)
    return float(np.linalg.norm(np.asarray(computed, np.float64) - exact) / np.linalg.norm(exact))


def exact_gradient(queries: np.ndarray, documents: np.ndarray, temperature: float) -> np.ndarray:
    """Computes the gradient of mean InfoNCE with respect to the queries, in float64.

    Args:
      queries: Float64 embeddings [B, D].
      documents: Float64 embeddings [B, D].
      temperature: Temperature that divides the similarities.

    Returns:
      The gradient [B, D].
    """
    similarities = queries @ documents.T
    # Odds relative to the positive stay accurate however small they are.
    odds = np.exp((similarities - np.diag(similarities)[:, None]) / temperature)
    np.fill_diagonal(odds, 0.0)
    total = odds.sum(axis=1)
    slopes = (odds - np.diag(total)) / (1.0 + total)[:, None] / len(queries)
    return slopes @ documents / temperature


def main() -> None:
    """Prints the memory of every layout by batch size, as JSON."""
    sizes, width, devices = sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3])
    planned = {
        size: {name: temporary_bytes(name, int(size), width, devices) for name in LAYOUTS}
        for size in sizes
    }
    print(json.dumps(planned))


if __name__ == "__main__":
    main()

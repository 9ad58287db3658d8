"""Embeds any number of token rows with few compiled shapes."""

from __future__ import annotations

import functools

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float

from contrastive.models.linen.embedder import Embedder
from contrastive.types import Params, Tokens

_ROWS = 64  # rows per device at a time


def embed_tokens(
    embedder: Embedder, params: Params, tokens: Tokens, mesh: Mesh
) -> Float[np.ndarray, "B D"]:
    """Embeds packed texts on all devices, a fixed number of rows at a time.

    Args:
      embedder: Maps tokens to embeddings.
      params: Parameters of the encoder.
      tokens: The B texts, as NumPy arrays of one block.
      mesh: Devices to embed on; rows are divided over all of them.

    Returns:
      Embeddings [B, D] in the order of the texts, float32.
    """
    devices = mesh.size
    # Few compiled shapes: _ROWS, or a power of two for the few texts of a search.
    rows = min(_ROWS, 1 << (-(-tokens.ids.shape[0] // devices) - 1).bit_length())
    sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    chunks = []
    for start in range(0, tokens.ids.shape[0], rows * devices):
        rows_of_chunk = jax.tree.map(
            lambda x: jax.make_array_from_callback(x.shape, sharding, lambda index: x[index]),
            _all_places(tokens, start, rows, devices),
        )
        chunks.append(np.asarray(_embed(embedder, mesh, params, rows_of_chunk)))
    return np.concatenate(chunks)[tokens.slots]


def host_arrays(tree: Params, mesh: Mesh) -> Params:
    """Copies parameters that may be sharded over several processes into NumPy arrays."""
    replicated = NamedSharding(mesh, PartitionSpec())
    return jax.device_get(jax.jit(lambda x: x, out_shardings=replicated)(tree))


def _all_places(tokens: Tokens, start: int, rows: int, blocks: int) -> Tokens:
    """Returns a chunk of rows with every slot as a text, so that its shape is always the same."""

    def cut(x):
        x = x[start : start + rows * blocks]
        return np.pad(x, ((0, rows * blocks - len(x)), (0, 0)))

    by_row = (tokens.ids, tokens.segments, tokens.positions, tokens.text_ids)
    slots = np.tile(np.arange(rows * tokens.texts_per_row, dtype=np.int32), blocks)
    ids, segments, positions, text_ids = map(cut, by_row)
    return Tokens(ids, segments, positions, text_ids, slots, blocks)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _embed(embedder: Embedder, mesh: Mesh, params: Params, tokens: Tokens):
    replicated = NamedSharding(mesh, PartitionSpec())
    return jax.lax.with_sharding_constraint(embedder.embed(params, tokens), replicated)

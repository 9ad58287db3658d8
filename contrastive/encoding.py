"""Checks what is to be embedded, and embeds token rows with few compiled shapes."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float

from contrastive.errors import ConfigError, DataError
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


def checked_texts(texts: Iterable[str]) -> list[str]:
    """Returns texts as a list.

    Raises:
      DataError: If `texts` is a single string, or a text is not a string.
    """
    if isinstance(texts, str):
        raise DataError(
            f"expected an iterable of texts, got the string {texts!r:.60}; pass a list of strings"
        )
    strings = list(texts)
    for number, text in enumerate(strings):
        if not isinstance(text, str):
            raise DataError(
                f"text {number} is not a string: {text!r:.60}; convert it to a string or remove it"
            )
    return strings


def check_range(name: str, value: int, largest: int | None) -> None:
    """Rejects a number below 1, or above the largest one that is possible.

    Raises:
      ConfigError: If it is outside of this range; the message names the range.
    """
    if value < 1 or (largest is not None and value > largest):
        allowed = "at least 1" if largest is None else f"from 1 to {largest}"
        raise ConfigError(f"is {value}, but must be {allowed}", field=name)


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

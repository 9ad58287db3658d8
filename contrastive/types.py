"""The arrays that travel from the data pipeline to the encoders."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Float, Int

Params: TypeAlias = Mapping[str, Any]  # nested, float32 arrays at the leaves


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("ids", "segments", "positions", "text_ids", "slots"),
    meta_fields=("blocks",),
)
@dataclasses.dataclass(frozen=True)
class Tokens:
    """Tokenised texts, one or several to a row; equal texts may share one place.

    Rows and texts fall into `blocks` equal runs, and a text always lies in the block of its own
    number. A mesh with that many data-parallel devices therefore pools its texts without
    talking to any other device.

    Attributes:
      ids: Vocabulary ids, zero where there is no token.
      segments: 0 for padding, else 1 + the place of the token's text in its row.
      positions: Position of the token in its own text.
      text_ids: For each place of a row a digest of its text's tokens, 0 where there is no text.
      slots: Where text b is found: `row_in_block * texts_per_row + place`.
      blocks: Number of equal runs of rows and of texts (static).
    """

    ids: Int[Array | np.ndarray, "R T"]
    segments: Int[Array | np.ndarray, "R T"]
    positions: Int[Array | np.ndarray, "R T"]
    text_ids: Int[Array | np.ndarray, "R S"]
    slots: Int[Array | np.ndarray, " B"]
    blocks: int

    @property
    def texts_per_row(self) -> int:
        """The most texts a row may hold, S."""
        return self.text_ids.shape[-1]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        "queries",
        "documents",
        "query_ids",
        "document_ids",
        "known_positive_ids",
        "query_pools",
        "document_pools",
        "teacher_scores",
        "labels",
        "temperatures",
        "numbers",
    ),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Batch:
    """One step's texts: B queries and B groups of G documents, the positive first.

    An id is a digest of the text; 0 means "no text" and is equal to nothing.

    Attributes:
      queries: The B queries.
      documents: The B * G documents, query-major.
      query_ids: One id per query.
      document_ids: One id per document.
      known_positive_ids: Every known positive of each query, padded with 0.
      query_pools: A query sees the documents of its own pool; not negative.
      document_pools: -1 where a group has fewer than G documents.
      teacher_scores: A teacher's score of each document of each group; width 0 without a teacher.
      labels: A digest of each query's label; 0 without one.
      temperatures: Of each query's source; 0 where it has none of its own.
      numbers: Of each query among all that are trained on, from 0.
    """

    queries: Tokens
    documents: Tokens
    query_ids: Int[Array | np.ndarray, " B"]
    document_ids: Int[Array | np.ndarray, " N"]
    known_positive_ids: Int[Array | np.ndarray, "B K"]
    query_pools: Int[Array | np.ndarray, " B"]
    document_pools: Int[Array | np.ndarray, " N"]
    teacher_scores: Float[Array | np.ndarray, "B G"]
    labels: Int[Array | np.ndarray, " B"]
    temperatures: Float[Array | np.ndarray, " B"]
    numbers: Int[Array | np.ndarray, " B"]

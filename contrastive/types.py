"""Arrays that the data pipeline passes to encoders and losses."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Float, Int

Params: TypeAlias = Mapping[str, Any]  # a nested dictionary of float32 arrays


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("ids", "segments", "positions", "text_ids", "slots"),
    meta_fields=("blocks",),
)
@dataclasses.dataclass(frozen=True)
class Tokens:
    """Tokenized texts, one or more per row; equal texts may share a slot.

    Rows and texts are divided into `blocks` equal blocks, and each text lies in a row of its own
    block. With as many data-parallel devices as blocks, each device can therefore pool its texts
    without communication.

    Attributes:
      ids: Vocabulary ids, 0 for padding.
      segments: 0 for padding, else 1 + the index of the token's text in its row.
      positions: Position of the token in its own text.
      text_ids: A digest of the tokens of each text in the row, 0 for an unused slot.
      slots: Where text b is stored in its block: `row_in_block * texts_per_row + index_in_row`.
      blocks: Number of equal blocks of rows and of texts (static).
    """

    ids: Int[Array | np.ndarray, "R T"]
    segments: Int[Array | np.ndarray, "R T"]
    positions: Int[Array | np.ndarray, "R T"]
    text_ids: Int[Array | np.ndarray, "R S"]
    slots: Int[Array | np.ndarray, " B"]
    blocks: int

    @property
    def texts_per_row(self) -> int:
        """Maximum number of texts per row, S."""
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
    """The texts of one step: B queries and B groups of G documents, the positive first.

    An id is a digest of the text; 0 means "no text" and equals nothing.

    Attributes:
      queries: The B queries.
      documents: The B * G documents, query-major.
      query_ids: One id per query.
      document_ids: One id per document.
      known_positive_ids: Ids of all known positives of each query, padded with 0.
      query_pools: Pool of each query, at least 0; a query is compared only with the documents of
        its own pool.
      document_pools: Pool of each document; -1 marks an empty slot of a group with fewer than G
        documents.
      teacher_scores: A teacher's score of each document of each group, NaN for a query without
        scores; width 0 without a teacher.
      labels: A digest of each query's label; 0 for a query without a label.
      temperatures: Temperature of each query's source; 0 if the source does not set one.
      numbers: Index of each query among all training queries, from 0.
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

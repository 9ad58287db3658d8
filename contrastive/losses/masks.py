"""Which pairs of a batch are negatives: false-negative rules, evaluated tile by tile."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from contrastive.losses.partition import Axis


class Rows(NamedTuple):
    """What a mask may know of a query. Optional fields are left out of the rule when None."""

    positive: Int[Array, " B"]
    group: Int[Array, " B"] | None
    positive_ids: Int[Array, " B"] | None
    known_positive_ids: Int[Array, "B K"] | None
    query_ids: Int[Array, " B"] | None


class Columns(NamedTuple):
    """What a mask may know of a document."""

    index: Int[Array, " N"]
    group: Int[Array, " N"] | None
    document_ids: Int[Array, " N"] | None
    query_ids: Int[Array, " N"] | None


def describe(
    batch: int,
    *,
    group_size: int = 1,
    in_batch: bool = True,
    query_ids: Int[Array, " B"] | None = None,
    document_ids: Int[Array, " N"] | None = None,
    known_positive_ids: Int[Array, "B K"] | None = None,
    axis_name: Axis = None,
) -> tuple[Rows, Columns]:
    """The small vectors from which `is_negative` decides about any pair.

    Args:
      batch: Number of queries on this device, B.
      group_size: Documents a query, G; N = B * G, query-major, the positive first.
      in_batch: Whether other queries' documents may be negatives.
      query_ids: Text ids [B]; 0 is equal to nothing.
      document_ids: Text ids [N]; 0 is equal to nothing.
      known_positive_ids: Ids [B, K] of every document known to answer the query, padded with 0.
      axis_name: Mapped axis or axes; documents are numbered across its devices.

    Returns:
      Vectors of the queries and of the documents.
    """
    first = 0 if axis_name is None else lax.axis_index(axis_name) * batch
    query = first + jnp.arange(batch)
    index = first * group_size + jnp.arange(batch * group_size)
    rows = Rows(
        positive=query * group_size,
        group=None if in_batch else query,
        positive_ids=None if document_ids is None else document_ids[::group_size],
        known_positive_ids=None if document_ids is None else known_positive_ids,
        query_ids=query_ids,
    )
    of_query = None
    if query_ids is not None:
        # Only the positive of the same query is a false negative; its hard negatives are true ones.
        of_query = jnp.where(index % group_size == 0, jnp.repeat(query_ids, group_size), 0)
    columns = Columns(
        index=index,
        group=None if in_batch else index // group_size,
        document_ids=document_ids,
        query_ids=of_query,
    )
    return rows, columns


def is_negative(rows: Rows, columns: Columns) -> Bool[Array, "b n"]:
    """Whether a document is a true negative of a query.

    It is not when it is the query's own positive, has the text of it or of another known positive,
    or is the positive of another row with the same query.

    Args:
      rows: Of b queries.
      columns: Of n documents.

    Returns:
      A mask [b, n].
    """
    keep = is_candidate(rows, columns)
    if rows.positive_ids is not None:
        keep &= ~_same(rows.positive_ids, columns.document_ids)
    if rows.known_positive_ids is not None:
        known = rows.known_positive_ids.T[:, :, None]  # [K, b, 1]
        keep &= ~jnp.any((known == columns.document_ids) & (known != 0), axis=0)
    if rows.query_ids is not None:
        keep &= ~_same(rows.query_ids, columns.query_ids)
    return keep


def is_candidate(rows: Rows, columns: Columns) -> Bool[Array, "b n"]:
    """Whether a document may be a negative at all: `is_negative` before looking at texts."""
    other = rows.positive[:, None] != columns.index[None, :]
    if rows.group is None or columns.group is None:
        return other
    return other & (rows.group[:, None] == columns.group[None, :])


def _same(a: Int[Array, " b"], b: Int[Array, " n"] | None) -> Bool[Array, "b n"]:
    assert b is not None
    return (a[:, None] == b[None, :]) & (a[:, None] != 0)

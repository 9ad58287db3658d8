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
    pool: Int[Array, " B"] | None
    positive_ids: Int[Array, " B"] | None
    known_positive_ids: Int[Array, "B K"] | None
    query_ids: Int[Array, " B"] | None


class Columns(NamedTuple):
    """What a mask may know of a document."""

    index: Int[Array, " N"]
    pool: Int[Array, " N"] | None
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
    query_pools: Int[Array, " B"] | None = None,
    document_pools: Int[Array, " N"] | None = None,
    axis_name: Axis = None,
) -> tuple[Rows, Columns]:
    """The small vectors from which `is_negative` decides about any pair.

    Args:
      batch: Number of queries on this device, B.
      group_size: Documents a query, G; N = B * G, query-major, the positive first.
      in_batch: Whether other queries' documents may be negatives. False puts every query into a
        pool of its own.
      query_ids: Text ids [B]; 0 is equal to nothing.
      document_ids: Text ids [N]; 0 is equal to nothing.
      known_positive_ids: Ids [B, K] of every document known to answer the query, padded with 0.
      query_pools: Pool of each query [B], not negative. A query sees the documents of its own pool
        and no others. None is one pool.
      document_pools: Pool of each document [N]; -1 is none, a place without a document.
      axis_name: Mapped axis or axes; documents are numbered across its devices.

    Returns:
      Vectors of the queries and of the documents.
    """
    first = 0 if axis_name is None else lax.axis_index(axis_name) * batch
    query = first + jnp.arange(batch)
    index = first * group_size + jnp.arange(batch * group_size)
    if not in_batch:
        real = True if document_pools is None else document_pools >= 0
        query_pools, document_pools = query, jnp.where(real, index // group_size, -1)
    rows = Rows(
        positive=query * group_size,
        pool=query_pools,
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
        pool=document_pools,
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
    if rows.pool is None or columns.pool is None:
        return other
    return other & (rows.pool[:, None] == columns.pool[None, :])


def _same(a: Int[Array, " b"], b: Int[Array, " n"] | None) -> Bool[Array, "b n"]:
    assert b is not None
    return (a[:, None] == b[None, :]) & (a[:, None] != 0)

"""Which pairs of a batch are negatives: false-negative rules, evaluated tile by tile."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from contrastive.losses.tiles import Axis


class Rows(NamedTuple):
    """What a mask may know of a query. Optional fields are left out of the rule when None."""

    index: Int[Array, " B"]
    pool: Int[Array, " B"] | None
    positive_ids: Int[Array, "B P"] | None
    known_positive_ids: Int[Array, "B K"] | None
    query_ids: Int[Array, " B"] | None


class Columns(NamedTuple):
    """What a mask may know of a document."""

    query: Int[Array, " N"]
    positive: Bool[Array, " N"]
    pool: Int[Array, " N"] | None
    document_ids: Int[Array, " N"] | None
    query_ids: Int[Array, " N"] | None


def describe(
    batch: int,
    *,
    group_size: int = 1,
    positives: int = 1,
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
      group_size: Documents a query, G; N = B * G, query-major, the positives first.
      positives: How many of them are positives.
      in_batch: Whether other queries' documents may be negatives. False puts every query into a
        pool of its own.
      query_ids: Text ids [B]; 0 is equal to nothing.
      document_ids: Text ids [N]; 0 is equal to nothing.
      known_positive_ids: Ids [B, K] of every document known to answer the query, padded with 0.
      query_pools: Pool of each query [B], not negative. A query sees the documents of its own pool
        and no others. None is one pool.
      document_pools: Pool of each document [N]; -1 is none, a place without a document.
      axis_name: Mapped axis or axes; queries are numbered across its devices.

    Returns:
      Vectors of the queries and of the documents.
    """
    first = 0 if axis_name is None else lax.axis_index(axis_name) * batch
    index = first + jnp.arange(batch)
    of_query, place = jnp.repeat(index, group_size), jnp.tile(jnp.arange(group_size), batch)
    positive = place < positives
    if not in_batch:
        real = True if document_pools is None else document_pools >= 0
        query_pools, document_pools = index, jnp.where(real, of_query, -1)
    positive_ids = None
    if document_ids is not None:
        positive_ids = document_ids.reshape(batch, group_size)[:, :positives]
    rows = Rows(
        index=index,
        pool=query_pools,
        positive_ids=positive_ids,
        known_positive_ids=None if document_ids is None else known_positive_ids,
        query_ids=query_ids,
    )
    columns = Columns(
        query=of_query,
        positive=positive,
        pool=document_pools,
        document_ids=document_ids,
        # Only the positive of the same query is a false negative; its hard negatives are true ones.
        query_ids=None
        if query_ids is None
        else jnp.where(positive, jnp.repeat(query_ids, group_size), 0),
    )
    return rows, columns


def is_negative(rows: Rows, columns: Columns) -> Bool[Array, "b n"]:
    """Whether a document is a true negative of a query.

    It is not when it is one of the query's own positives, has the text of one or of another known
    positive, or is the positive of another row with the same query.

    Args:
      rows: Of b queries.
      columns: Of n documents.

    Returns:
      A mask [b, n].
    """
    keep = is_candidate(rows, columns)
    for answers in (rows.positive_ids, rows.known_positive_ids):
        if answers is not None:
            answer = answers.T[:, :, None]  # [K, b, 1]
            keep &= ~jnp.any((answer == columns.document_ids) & (answer != 0), axis=0)
    if rows.query_ids is not None:
        assert columns.query_ids is not None
        same = rows.query_ids[:, None] == columns.query_ids[None, :]
        keep &= ~(same & (rows.query_ids[:, None] != 0))
    return keep


def is_candidate(rows: Rows, columns: Columns) -> Bool[Array, "b n"]:
    """Whether a document may be a negative at all: `is_negative` before looking at texts."""
    candidate = ~(is_own(rows, columns) & columns.positive[None, :])
    if rows.pool is None or columns.pool is None:
        return candidate
    return candidate & (rows.pool[:, None] == columns.pool[None, :])


def is_own(rows: Rows, columns: Columns) -> Bool[Array, "b n"]:
    """Whether a document is of the query's own group."""
    return rows.index[:, None] == columns.query[None, :]

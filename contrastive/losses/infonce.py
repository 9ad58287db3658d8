"""InfoNCE over the partition."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from contrastive.losses import masks
from contrastive.losses.partition import Axis, check_temperature, log_partition
from contrastive.losses.similarity import paired_dot


def info_nce(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: float | Float[Array, ""] | Float[Array, " B"],
    group_size: int = 1,
    in_batch: bool = True,
    query_ids: Int[Array, " B"] | None = None,
    document_ids: Int[Array, " N"] | None = None,
    known_positive_ids: Int[Array, "B K"] | None = None,
    query_pools: Int[Array, " B"] | None = None,
    document_pools: Int[Array, " N"] | None = None,
    tile: int | None = None,
    axis_name: Axis = None,
) -> Float[Array, " B"]:
    """InfoNCE, the softmax cross-entropy of the positive against the negatives.

    loss_i = -log( exp(s_i+ / t) / (exp(s_i+ / t) + sum_j- exp(s_ij / t)) )
           = softplus( log sum_j- exp(s_ij / t) - s_i+ / t )

    with s_ij = q_i . d_j. The second form keeps every digit of a small loss. Negatives are all
    documents but the query's own positive and those that the ids show to be false negatives: the
    positive's text again, another known positive, the positive of the same query in another row.

    >>> import jax.numpy as jnp
    >>> q, d = jnp.array([[1., 0.], [0., 1.]]), jnp.array([[1., 0.], [0., 1.]])
    >>> info_nce(q, d, temperature=1.0)  # log(1 + exp(0 - 1))
    Array([0.3132617, 0.3132617], dtype=float32)

    Args:
      queries: Embeddings [B, D]; normalise them for cosines.
      documents: Embeddings [B * group_size, D], query-major, the positive first in each group.
      temperature: Positive scalar, or one per query [B].
      group_size: Documents a query, G: 1 positive and G - 1 hard negatives.
      in_batch: Whether other queries' documents are negatives too.
      query_ids: Text ids [B]; 0 is equal to nothing. None switches the rule off.
      document_ids: Text ids [N]; 0 is equal to nothing. None switches the rules off.
      known_positive_ids: Text ids [B, K] of documents known to answer the query, padded with 0.
      query_pools: Pool of each query [B], not negative. A query sees the documents of its own pool
        and no others. None is one pool.
      document_pools: Pool of each document [N]; -1 is none, a place that a smaller group leaves.
      tile: Rows and columns a tile of the partition; None chooses.
      axis_name: Mapped axis or axes (`shard_map`, `pmap`) whose documents are negatives too.

    Returns:
      One loss a query [B], float32; 0 where every negative was masked.

    Raises:
      ValueError: For shapes that do not fit, no possible negative, or a temperature <= 0.

    Source:
      van den Oord et al., 2018, arXiv:1807.03748; temperature: Wu et al., 2018, arXiv:1805.01978.
    """
    check_temperature(temperature)
    _check_shapes(queries, documents, group_size, in_batch)
    of_queries = {
        "query_ids": query_ids,
        "known_positive_ids": known_positive_ids,
        "query_pools": query_pools,
        "temperature": temperature if jnp.ndim(temperature) else None,
    }
    _check_lengths(
        of_queries,
        {"document_ids": document_ids, "document_pools": document_pools},
        queries.shape[0],
        documents.shape[0],
    )
    rows, columns = masks.describe(
        queries.shape[0],
        group_size=group_size,
        query_ids=query_ids,
        document_ids=document_ids,
        known_positive_ids=known_positive_ids,
        query_pools=query_pools,
        document_pools=document_pools,
        axis_name=axis_name,
    )
    partition = functools.partial(log_partition, keep=masks.is_negative, tile=tile)
    if in_batch:
        negatives = partition(
            queries,
            documents,
            temperature=temperature,
            rows=rows,
            columns=columns,
            axis_name=axis_name,
        )
    else:
        negatives = _each_alone(partition, queries, documents, temperature, rows, columns)
    positive = paired_dot(queries, documents[::group_size]) / temperature
    return jax.nn.softplus(negatives - positive)


def _each_alone(partition, queries, documents, temperature, rows, columns):
    """The partition of each query over its own group."""
    batch = queries.shape[0]

    def alone(query, documents, temperature, row, column):
        return partition(query, documents, temperature=temperature, rows=row, columns=column)[0]

    def one_each(tree):
        return jax.tree.map(lambda x: x[:, None], tree)

    def groups(tree):
        return jax.tree.map(lambda x: x.reshape(batch, -1, *x.shape[1:]), tree)

    temperature = jnp.broadcast_to(temperature, (batch,))
    return jax.vmap(alone)(
        one_each(queries), groups(documents), temperature, one_each(rows), groups(columns)
    )


def _check_shapes(queries, documents, group_size, in_batch):
    if group_size < 1:
        raise ValueError(f"group_size is {group_size}; a group is a positive and its negatives")
    if documents.shape[0] != queries.shape[0] * group_size:
        raise ValueError(
            f"{queries.shape[0]} queries with group_size {group_size} need "
            f"{queries.shape[0] * group_size} documents, got {documents.shape[0]}"
        )
    if queries.shape[1:] != documents.shape[1:]:
        raise ValueError(
            f"queries have width {queries.shape[1:]} and documents {documents.shape[1:]}; "
            "one encoder, or two of the same width, must make both"
        )
    if not in_batch and group_size == 1:
        raise ValueError(
            "in_batch=False with group_size=1 leaves no negatives; "
            "raise group_size or use in-batch negatives"
        )


def _check_lengths(of_queries, of_documents, queries, documents):
    for arrays, count, owners in (
        (of_queries, queries, "queries"),
        (of_documents, documents, "documents"),
    ):
        for name, array in arrays.items():
            if array is not None and jnp.shape(array)[0] != count:
                raise ValueError(
                    f"{name} has {jnp.shape(array)[0]} rows for {count} {owners}; give one each"
                )
    if of_queries["known_positive_ids"] is not None and of_documents["document_ids"] is None:
        raise ValueError("known_positive_ids are compared with document_ids; give those too")
    if (of_queries["query_pools"] is None) != (of_documents["document_pools"] is None):
        raise ValueError("query_pools are compared with document_pools; give both or neither")

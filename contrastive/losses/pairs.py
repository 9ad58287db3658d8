"""What losses may be told of a batch, and what is refused."""

from __future__ import annotations

from typing import Any, TypedDict

import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from contrastive.losses.similarity import paired_dot
from contrastive.losses.tiles import Axis


class Pairs(TypedDict, total=False):
    """What losses may be told of a batch's texts; losses of batches take these keywords.

    Attributes:
      group_size: Documents a query, G: its positives, then its hard negatives. 1 unless given.
      positives: How many of them are positives. 1 unless given.
      in_batch: Whether other queries' documents are negatives too. True unless given.
      query_ids: Text ids [B]; 0 is equal to nothing. None switches the rule off.
      document_ids: Text ids [N]; 0 is equal to nothing. None switches the rules off.
      known_positive_ids: Text ids [B, K] of documents known to answer the query, padded with 0.
      query_pools: Pool of each query [B], not negative. A query sees the documents of its own pool
        and no others. None is one pool.
      document_pools: Pool of each document [N]; -1 is none, a place that a smaller group leaves.
      valid: Instead of pools: which documents [N] there are.
      above_positive: A document whose similarity is higher than the positive's by more than this
        is no negative; 0.1 in Qwen3-Embedding (arXiv:2506.05176).
      relative_to_positive: A document whose similarity is higher than this share of the positive's
        is no negative; 0.95 in NV-Retriever (arXiv:2407.15831).
      guide_queries: A guide's embeddings of the queries [B, E], normalised.
      guide_documents: A guide's embeddings of the documents [N, E]. A document that the guide
        scores above the positive is no negative (GISTEmbed, arXiv:2402.16829).
      guide_margin: How far below the positive the guide's score must be, at least.
      tile: Most rows and columns a tile; None chooses.
      axis_name: Mapped axis or axes (`shard_map`, `pmap`) whose documents are negatives too.
      ring: Whether documents travel around the devices instead of being gathered on each.
    """

    group_size: int
    positives: int
    in_batch: bool
    query_ids: Int[Array, " B"] | None
    document_ids: Int[Array, " N"] | None
    known_positive_ids: Int[Array, "B K"] | None
    query_pools: Int[Array, " B"] | None
    document_pools: Int[Array, " N"] | None
    valid: Bool[Array, " N"] | None
    above_positive: float | None
    relative_to_positive: float | None
    guide_queries: Float[Array, "B E"] | None
    guide_documents: Float[Array, "N E"] | None
    guide_margin: float
    tile: int | None
    axis_name: Axis
    ring: bool


def check_pairs(
    queries: Float[Array, "B D"], documents: Float[Array, "N D"], pairs: dict[str, Any]
) -> None:
    """Refuses a batch that does not fit together.

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [B * group_size, D].
      pairs: What is known of them, with a value for every name in `Pairs`.

    Raises:
      ValueError: For shapes that do not fit, values that are known not to be finite, or no
        possible negative.
    """
    _check_embeddings(
        queries, documents, pairs["group_size"], pairs["positives"], pairs["in_batch"]
    )
    _check_lengths(queries.shape[0], documents.shape[0], pairs)
    if pairs["valid"] is not None and pairs["document_pools"] is not None:
        raise ValueError("valid and document_pools both say which documents there are")
    if pairs["known_positive_ids"] is not None and pairs["document_ids"] is None:
        raise ValueError("known_positive_ids are compared with document_ids; give those too")
    for a, b in (("query_pools", "document_pools"), ("guide_queries", "guide_documents")):
        if (pairs[a] is None) != (pairs[b] is None):
            raise ValueError(f"{a} are compared with {b}; give both or neither")


def own_group(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    scores: Float[Array, "B G"],
    document_pools: Int[Array, " N"] | None,
) -> tuple[Float[Array, "B G"], Bool[Array, "B G"]]:
    """Similarities of each query to the documents of its own group, and which of them there are.

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [B * G, D], query-major.
      scores: Whatever goes with them [B, G].
      document_pools: -1 where a place of a group has no document [N].

    Returns:
      Similarities and a mask [B, G].

    Raises:
      ValueError: For shapes that do not fit, or values that are known not to be finite.
    """
    batch, group_size = scores.shape
    if queries.shape[0] != batch or documents.shape[0] != batch * group_size:
        raise ValueError(
            f"scores {scores.shape} need {batch} queries and {batch * group_size} documents, got "
            f"{queries.shape[0]} and {documents.shape[0]}"
        )
    check_finite("queries", queries)
    check_finite("documents", documents)
    real = jnp.ones(scores.shape, bool)
    if document_pools is not None:
        real = document_pools.reshape(batch, group_size) >= 0
    return to_own(queries, documents, group_size), real


def to_own(
    queries: Float[Array, "B D"], documents: Float[Array, "N D"], group_size: int
) -> Float[Array, "B G"]:
    """Similarities of each query to the documents of its own group."""
    groups = documents.reshape(queries.shape[0], group_size, -1)
    return paired_dot(queries[:, None], groups)


def _check_embeddings(queries, documents, group_size, positives, in_batch):
    if group_size < 1:
        raise ValueError(f"group_size is {group_size}; a group is a positive and its negatives")
    if not 1 <= positives <= group_size:
        raise ValueError(f"positives is {positives} in groups of {group_size}; at least 1 of them")
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
    if not in_batch and group_size == positives:
        raise ValueError(
            f"in_batch=False with group_size={group_size} leaves no negatives; "
            "raise group_size or use in-batch negatives"
        )
    check_finite("queries", queries)
    check_finite("documents", documents)


def check_finite(name: str, array: Float[Array, "n ..."]) -> None:
    """Refuses embeddings that are known, here and now, not to be finite.

    Args:
      name: What they are called.
      array: A traced array passes, since its values are not known yet.

    Raises:
      ValueError: Naming the first such row.
    """
    if isinstance(array, jax.core.Tracer):
        return
    # By NumPy: inside jit an array that is closed over is known, but not what jnp makes of it.
    values = np.asarray(array, np.float32)
    bad = np.any(~np.isfinite(values.reshape(len(values), -1)), axis=1)
    if bad.any():
        raise ValueError(
            f"{name} are not finite: {int(bad.sum())} of {len(bad)} rows, row {int(bad.argmax())} "
            "the first; look at the encoder that made them"
        )


_OF_QUERIES = ("query_ids", "known_positive_ids", "query_pools", "guide_queries")
_OF_DOCUMENTS = ("document_ids", "document_pools", "valid", "guide_documents")


def _check_lengths(queries, documents, pairs):
    for names, count, owners in (
        (_OF_QUERIES, queries, "queries"),
        (_OF_DOCUMENTS, documents, "documents"),
    ):
        for name in names:
            if pairs[name] is not None and (given := jnp.shape(pairs[name])[0]) != count:
                raise ValueError(f"{name} has {given} rows for {count} {owners}; give one each")

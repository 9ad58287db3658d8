"""Optional information about a batch that losses accept, and its validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from contrastive.lazy import jax, jnp, np
from contrastive.losses._tiles import Axis
from contrastive.similarity import paired_dot

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

__all__ = ["Pairs"]


class Pairs(TypedDict, total=False):
    """Keywords of losses that describe the structure of a batch and its texts.

    Attributes:
      group_size: Number of documents per query, G: positives first, then hard negatives. Default 1.
      positives: Number of positives per group. Default 1.
      in_batch: Whether other queries' documents are negatives too. Default True.
      query_ids: Text ids [B]; 0 equals nothing. None disables the rule that compares them.
      document_ids: Text ids [N]; 0 equals nothing. None disables the rules that compare them.
      known_positive_ids: Text ids [B, K] of documents known to answer the query, padded with 0.
      query_pools: Pool of each query [B], at least 0. A query is compared only with the documents
        of its own pool. None means a single pool.
      document_pools: Pool of each document [N]; -1 marks an empty slot of a smaller group.
      valid: Mask of the documents that exist [N]; an alternative to pools.
      above_positive: A document is not a negative if its similarity exceeds the positive's by more
        than this; 0.1 in Qwen3-Embedding (arXiv:2506.05176).
      relative_to_positive: A document is not a negative if its similarity exceeds this fraction of
        the positive's; 0.95 in NV-Retriever (arXiv:2407.15831).
      guide_queries: A guide's embeddings of the queries [B, E], normalized.
      guide_documents: A guide's embeddings of the documents [N, E], normalized. A document that the
        guide scores above the positive is not a negative (GISTEmbed, arXiv:2402.16829); one that it
        scores equal is.
      guide_margin: Minimum margin by which the guide must score a negative below the positive.
      guide_relative_margin: The same, as a fraction of the positive's score; both are added.
      tile: Maximum number of rows and of columns per tile; None chooses a size.
      axis_name: Mapped axis or axes (`shard_map`, `pmap`) of devices whose documents are negatives
        too.
      ring: Whether to pass documents from device to device instead of gathering them on each.
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
    guide_relative_margin: float
    tile: int | None
    axis_name: Axis
    ring: bool


def check_pairs(
    queries: Float[Array, "B D"], documents: Float[Array, "N D"], pairs: dict[str, Any]
) -> None:
    """Checks that a batch and its keywords are consistent.

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [B * group_size, D].
      pairs: Keywords of the loss, with a value for every name in `Pairs`.

    Raises:
      ValueError: If shapes do not match, embeddings are known not to be finite, or no negatives are
        possible.
    """
    _check_embeddings(
        queries, documents, pairs["group_size"], pairs["positives"], pairs["in_batch"]
    )
    _check_lengths(queries.shape[0], documents.shape[0], pairs)
    if pairs["valid"] is not None and pairs["document_pools"] is not None:
        raise ValueError(
            "valid and document_pools both say which documents exist; give only one of them"
        )
    if pairs["known_positive_ids"] is not None and pairs["document_ids"] is None:
        raise ValueError("known_positive_ids are compared with document_ids; give document_ids too")
    for a, b in (("query_pools", "document_pools"), ("guide_queries", "guide_documents")):
        if (pairs[a] is None) != (pairs[b] is None):
            raise ValueError(f"{a} are compared with {b}; give both or neither")


def own_group(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    scores: Float[Array, "B G"],
    document_pools: Int[Array, " N"] | None,
) -> tuple[Float[Array, "B G"], Bool[Array, "B G"]]:
    """Returns the similarities of each query to its own group, and a mask of existing documents.

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [B * G, D], query-major.
      scores: Scores of each query's own documents [B, G]; only the shape is used.
      document_pools: Pool of each document [N]; only -1, an empty slot of a group, matters here.

    Returns:
      Similarities and a mask [B, G].

    Raises:
      ValueError: If shapes do not match or embeddings are known not to be finite.
    """
    batch, group_size = scores.shape
    if queries.shape[0] != batch or documents.shape[0] != batch * group_size:
        raise ValueError(
            f"scores {scores.shape} need {batch} queries and {batch * group_size} documents; got "
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
        raise ValueError(f"group_size is {group_size}; a group needs at least 1 document")
    if not 1 <= positives <= group_size:
        raise ValueError(
            f"positives is {positives}; it must be from 1 to group_size ({group_size})"
        )
    if documents.shape[0] != queries.shape[0] * group_size:
        raise ValueError(
            f"{queries.shape[0]} queries with group_size {group_size} need "
            f"{queries.shape[0] * group_size} documents, got {documents.shape[0]}"
        )
    if queries.shape[1:] != documents.shape[1:]:
        raise ValueError(
            f"queries have width {queries.shape[1:]} and documents {documents.shape[1:]}; embed "
            "both with one encoder, or with two of the same width"
        )
    if not in_batch and group_size == positives:
        raise ValueError(
            f"in_batch=False with group_size={group_size} leaves no negatives; "
            "raise group_size or use in-batch negatives"
        )
    check_finite("queries", queries)
    check_finite("documents", documents)


def check_finite(name: str, array: Float[Array, "n ..."]) -> None:
    """Checks that embeddings are finite.

    Args:
      name: Name of the embeddings in the error message.
      array: Embeddings; a traced array passes, since its values are not known yet.

    Raises:
      ValueError: If a value is not finite; the message names the first such row.
    """
    if isinstance(array, jax.core.Tracer):
        return
    # NumPy, because inside jit a closed-over array has known values but jnp's results do not.
    values = np.asarray(array, np.float32)
    bad = np.any(~np.isfinite(values.reshape(len(values), -1)), axis=1)
    if bad.any():
        raise ValueError(
            f"{name} are not finite: {int(bad.sum())} of {len(bad)} rows, row {int(bad.argmax())} "
            "the first; check the encoder that produced them"
        )


_OF_QUERIES = ("query_ids", "known_positive_ids", "query_pools", "guide_queries")
_OF_DOCUMENTS = ("document_ids", "document_pools", "valid", "guide_documents")


def _check_lengths(queries, documents, pairs):
    for names, count, owners in (
        (_OF_QUERIES, queries, "queries"),
        (_OF_DOCUMENTS, documents, "documents"),
    ):
        for name in names:
            if pairs[name] is not None and (length := jnp.shape(pairs[name])[0]) != count:
                raise ValueError(
                    f"{name} has {length} rows for {count} {owners}; give one row each"
                )

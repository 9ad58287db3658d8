"""Which pairs of a direction are negatives: false-negative rules, evaluated tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from contrastive.lazy import jnp, lax
from contrastive.losses._tiles import Axis, Keep, Side, Tile
from contrastive.similarity import dot

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int


Direction: TypeAlias = Literal[
    "query_to_document", "document_to_query", "query_to_query", "document_to_document"
]


class TextInfo(NamedTuple):
    """Information about queries or documents that the functions of a tile can use.

    A query has the first five fields, a document the next five. For directions other than
    query_to_document, a positive also has the fields of its query, and a query those of its
    positive. A rule does not apply if its fields are None.

    Attributes:
      query: Index of the query across all devices.
      query_pool: The pool whose documents the query is compared with.
      positive_ids: Text ids of the query's own positives.
      known_positive_ids: Text ids of all documents known to answer the query.
      query_id: Text id of the query.
      owner: Index of the query that the document belongs to.
      is_positive: Whether the document is a positive of its owner.
      document_pool: The pool that the document is in; -1 for an empty slot.
      document_id: Text id of the document.
      owner_id: Text id of the owner if the document is one of its positives, else 0.
      guide: A guide's embedding of the text.
      similarity_limit: Similarity at or above which another text is not a negative of the query.
      guide_limit: Similarity to the guide above which another text is not a negative of the query.
      given: Arrays that the loss passes to its own functions, by name.
    """

    query: Int[Array, " n"] | None = None
    query_pool: Int[Array, " n"] | None = None
    positive_ids: Int[Array, "n P"] | None = None
    known_positive_ids: Int[Array, "n K"] | None = None
    query_id: Int[Array, " n"] | None = None
    owner: Int[Array, " n"] | None = None
    is_positive: Bool[Array, " n"] | None = None
    document_pool: Int[Array, " n"] | None = None
    document_id: Int[Array, " n"] | None = None
    owner_id: Int[Array, " n"] | None = None
    guide: Float[Array, "n E"] | None = None
    similarity_limit: Float[Array, " n"] | None = None
    guide_limit: Float[Array, " n"] | None = None
    given: Mapping[str, Float[Array, " n"]] = {}

    def with_document(self, document: TextInfo) -> TextInfo:
        """Returns these texts with the fields of the documents that belong to them."""
        fields = ("owner", "is_positive", "document_pool", "document_id", "owner_id")
        return self._replace(**{name: getattr(document, name) for name in fields})


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
) -> tuple[TextInfo, TextInfo]:
    """Collects the per-text arrays from which `is_negative` decides about any pair.

    Args:
      batch: Number of queries on this device, B.
      group_size: Number of documents per query, G; N = B * G, query-major, the positives first.
      positives: Number of positives per group.
      in_batch: Whether other queries' documents may be negatives. False puts each query in its own
        pool.
      query_ids: Text ids [B]; 0 equals nothing.
      document_ids: Text ids [N]; 0 equals nothing.
      known_positive_ids: Text ids [B, K] of all documents known to answer the query, padded with 0.
      query_pools: Pool of each query [B], at least 0. A query is compared only with the documents
        of its own pool. None means a single pool.
      document_pools: Pool of each document [N]; -1 marks an empty slot.
      axis_name: Mapped axis or axes of devices across which queries are numbered.

    Returns:
      The information about queries and about documents.
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
    queries = TextInfo(
        query=index,
        query_pool=query_pools,
        positive_ids=positive_ids,
        known_positive_ids=None if document_ids is None else known_positive_ids,
        query_id=query_ids,
    )
    documents = TextInfo(
        owner=of_query,
        is_positive=positive,
        document_pool=document_pools,
        document_id=document_ids,
        # Only positives of the same query are false negatives; its hard negatives are true ones.
        owner_id=None
        if query_ids is None
        else jnp.where(positive, jnp.repeat(query_ids, group_size), 0),
    )
    return queries, documents


def is_negative(queries: TextInfo, documents: TextInfo) -> Bool[Array, "b n"]:
    """Mask of documents that are true negatives of a query.

    A document is not a negative if it is one of the query's own positives, has the same text as one
    of them or as another known positive, or is the positive of another row with the same query.

    Args:
      queries: Information about b queries.
      documents: Information about n documents.

    Returns:
      A mask [b, n].
    """
    keep = is_candidate(queries, documents)
    for answers in (queries.positive_ids, queries.known_positive_ids):
        if answers is not None:
            answer = answers.T[:, :, None]  # [K, b, 1]
            keep &= ~jnp.any((answer == documents.document_id) & (answer != 0), axis=0)
    if queries.query_id is not None:
        assert documents.owner_id is not None
        same = queries.query_id[:, None] == documents.owner_id[None, :]
        keep &= ~(same & (queries.query_id[:, None] != 0))
    return keep


def is_candidate(queries: TextInfo, documents: TextInfo) -> Bool[Array, "b n"]:
    """Mask of documents that may be negatives: `is_negative` before comparing texts."""
    assert documents.is_positive is not None
    candidate = ~(is_own(queries, documents) & documents.is_positive[None, :])
    if queries.query_pool is None or documents.document_pool is None:
        return candidate
    return candidate & (queries.query_pool[:, None] == documents.document_pool[None, :])


def is_own(queries: TextInfo, documents: TextInfo) -> Bool[Array, "b n"]:
    """Mask of documents in the query's own group."""
    assert queries.query is not None
    assert documents.owner is not None
    return queries.query[:, None] == documents.owner[None, :]


class Pairing(NamedTuple):
    """A tile of pairs.

    Attributes:
      similarities: Similarities of b queries and n documents [b, n].
      scale: Factor that turns them into logits, 1 / temperature [b, 1].
      candidate: Mask of the pairs that may be negatives, before comparing texts and scores.
      unrelated: Mask of the candidates that remain after comparing texts.
      negative: Mask of the negatives, which remain after comparing scores too.
    """

    similarities: Tile
    scale: Float[Array, "b 1"]
    candidate: Bool[Array, "b n"]
    unrelated: Bool[Array, "b n"]
    negative: Bool[Array, "b n"]


def lower_limit(
    own: Float[Array, " B"], above: float | None, share: float | None
) -> Float[Array, " B"]:
    """Returns the similarity above which a document is not a negative, the lower of two limits.

    min( s_i+ + above, s_i+ - (1 - share) |s_i+| )

    The second limit is share * s_i+ for positive similarities; for negative ones that product
    would be above s_i+.
    """
    limit = jnp.full(own.shape, jnp.inf)
    if above is not None:
        limit = jnp.minimum(limit, own + above)
    if share is not None:
        limit = jnp.minimum(limit, own - (1.0 - share) * jnp.abs(own))
    return limit


def keep_negatives(
    among: Among, similarities: Tile, rows: TextInfo, columns: TextInfo
) -> Bool[Array, "b n"]:
    """Mask of a tile's negatives: pairs of a direction whose scores are below the limits."""
    return among(rows, columns) & _below_limits(similarities, rows, columns)


def _below_limits(similarities: Tile, rows: TextInfo, columns: TextInfo) -> Bool[Array, "b n"]:
    """Mask of pairs that the limits leave.

    At the limit of its similarity a text is not a negative; at that of a guide it is, as in
    sentence-transformers. Equal texts are at a limit whatever rounding does to them.
    """
    keep = jnp.ones(similarities.shape, bool)
    if rows.similarity_limit is not None:
        keep &= similarities < _moved(rows.similarity_limit, -_ROUNDING)
    if rows.guide_limit is not None:
        assert rows.guide is not None
        assert columns.guide is not None
        keep &= dot(rows.guide, columns.guide) <= _moved(rows.guide_limit, _ROUNDING)
    return keep


def _moved(limit: Float[Array, " b"], share: float) -> Float[Array, "b 1"]:
    finite = jnp.where(jnp.isfinite(limit), limit, 0.0)
    return (limit + share * jnp.maximum(jnp.abs(finite), 1.0))[:, None]


# Rounding error of a float32 similarity of unit vectors, which varies with the product's shape.
_ROUNDING = 2e-6


def pairing(similarities: Tile, row: Side, column: Side, real: Bool[Array, " n"]) -> Pairing:
    """Returns a tile with the masks of its negatives at each stage."""
    assert row.scale is not None
    rows, columns = row.about, column.about
    candidate = is_candidate(rows, columns) & real[None, :]
    unrelated = is_negative(rows, columns) & real[None, :]
    negative = unrelated & _below_limits(similarities, rows, columns)
    return Pairing(similarities, row.scale[:, None], candidate, unrelated, negative)


def _query_to_document(rows: TextInfo, columns: TextInfo):
    return is_negative(rows, columns)


def _document_to_query(rows: TextInfo, columns: TextInfo):
    return is_negative(columns, rows).T


def _query_to_query(rows: TextInfo, columns: TextInfo):
    """Excludes pairs of queries if the document of one answers the other."""
    return _query_to_document(rows, columns) & _document_to_query(rows, columns)


def _document_to_document(rows: TextInfo, columns: TextInfo):
    """Compares a query's positive with the documents of other queries."""
    return _query_to_document(rows, columns) & ~is_own(rows, columns)


Among: TypeAlias = "Callable[[TextInfo, TextInfo], Bool[Array, 'b n']]"
# Created once: static arguments must be equal across calls, or each call would recompile.
DIRECTIONS: dict[str, tuple[str, str, Keep]] = {
    "query_to_document": ("query", "document", partial(keep_negatives, _query_to_document)),
    "document_to_query": ("document", "query", partial(keep_negatives, _document_to_query)),
    "query_to_query": ("query", "query", partial(keep_negatives, _query_to_query)),
    "document_to_document": (
        "document",
        "document",
        partial(keep_negatives, _document_to_document),
    ),
}

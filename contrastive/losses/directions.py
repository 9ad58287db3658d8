"""What is compared with what, and which of those pairs are negatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from contrastive.losses import masks
from contrastive.losses.similarity import dot
from contrastive.losses.tiles import Keep, Side, Tile

Direction: TypeAlias = Literal[
    "query_to_document", "document_to_query", "query_to_query", "document_to_document"
]


class About(NamedTuple):
    """What a tile's functions may look at, for queries (rows) and keys (columns) alike.

    Attributes:
      query: `masks.Rows` of the query whose text it is, or whose positive it is; None of documents
        that are keys.
      document: `masks.Columns` of the document whose text it is, or of the query's positive.
      guide: A guide's embedding of the text.
      similarity_limit: Similarity up to which a key may be a negative; of rows.
      guide_limit: The guide's similarity up to which it may; of rows.
      given: What the loss adds; of rows.
    """

    query: Any = None
    document: Any = None
    guide: Float[Array, "n E"] | None = None
    similarity_limit: Float[Array, " n"] | None = None
    guide_limit: Float[Array, " n"] | None = None
    given: Mapping[str, Float[Array, " n"]] = {}


class Pairing(NamedTuple):
    """A tile of pairs.

    Attributes:
      similarities: Of b queries and n documents [b, n].
      scale: What makes them logits, 1 / temperature [b, 1].
      candidate: Whether a pair might be a negative, before its texts and scores are looked at.
      unrelated: And after its texts are.
      negative: And after its scores are.
    """

    similarities: Tile
    scale: Float[Array, "b 1"]
    candidate: Bool[Array, "b n"]
    unrelated: Bool[Array, "b n"]
    negative: Bool[Array, "b n"]


def lower_limit(
    own: Float[Array, " B"], above: float | None, share: float | None
) -> Float[Array, " B"]:
    """Similarity up to which a document may be a negative, the lower of the two limits.

    s_i+ + above, s_i+ - (1 - share) |s_i+|: a share of a negative similarity would be above it.
    """
    limit = jnp.full(own.shape, jnp.inf)
    if above is not None:
        limit = jnp.minimum(limit, own + above)
    if share is not None:
        limit = jnp.minimum(limit, own - (1.0 - share) * jnp.abs(own))
    return limit


def keep_negatives(
    among: Among, similarities: Tile, rows: About, columns: About
) -> Bool[Array, "b n"]:
    """The negatives of a tile: those of a direction whose scores are below the limits."""
    return among(rows, columns) & _below_limits(similarities, rows, columns)


def _below_limits(similarities: Tile, rows: About, columns: About) -> Bool[Array, "b n"]:
    """Below by more than rounding: a copy of the positive is a tie, and no negative."""
    keep = jnp.ones(similarities.shape, bool)
    if rows.similarity_limit is not None:
        keep &= similarities < _surely(rows.similarity_limit)
    if rows.guide_limit is not None:
        assert rows.guide is not None
        assert columns.guide is not None
        keep &= dot(rows.guide, columns.guide) < _surely(rows.guide_limit)
    return keep


def _surely(limit: Float[Array, " b"]) -> Float[Array, "b 1"]:
    finite = jnp.where(jnp.isfinite(limit), limit, 0.0)
    return (limit - _ROUNDING * jnp.maximum(jnp.abs(finite), 1.0))[:, None]


# Of a similarity of unit vectors in float32, which depends on the shape of the product.
_ROUNDING = 2e-6


def pairing(similarities: Tile, row: Side, column: Side, real: Bool[Array, " n"]) -> Pairing:
    """Why each pair of queries and documents is a negative or none."""
    assert row.scale is not None
    rows, columns = row.about, column.about
    candidate = masks.is_candidate(rows.query, columns.document) & real[None, :]
    unrelated = masks.is_negative(rows.query, columns.document) & real[None, :]
    negative = unrelated & _below_limits(similarities, rows, columns)
    return Pairing(similarities, row.scale[:, None], candidate, unrelated, negative)


def _query_to_document(rows: About, columns: About):
    return masks.is_negative(rows.query, columns.document)


def _document_to_query(rows: About, columns: About):
    return masks.is_negative(columns.query, rows.document).T


def _query_to_query(rows: About, columns: About):
    """Unless the document of one answers the other."""
    return _query_to_document(rows, columns) & _document_to_query(rows, columns)


def _document_to_document(rows: About, columns: About):
    """A query's positive against the documents of other queries."""
    return _query_to_document(rows, columns) & ~masks.is_own(rows.query, columns.document)


Among: TypeAlias = Callable[[About, About], Bool[Array, "b n"]]
# Made once: what is not traced must be equal from call to call, or each is compiled anew.
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

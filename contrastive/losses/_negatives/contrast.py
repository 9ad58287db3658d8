"""A batch with its positive and negative pairs worked out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

from contrastive.lazy import jax, jnp, lax
from contrastive.losses._negatives import masks
from contrastive.losses._negatives.masks import (
    DIRECTIONS,
    Direction,
    Pairing,
    TextInfo,
    lower_limit,
    pairing,
)
from contrastive.losses._negatives.pairs import Pairs, check_pairs, to_own
from contrastive.losses._partition import check_temperature, log_partition, one, pair_sum
from contrastive.losses._tiles import Side, Spread, Value, fold_tiles

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, PyTree

__all__ = ["Contrast", "contrast"]

Temperature: TypeAlias = "float | Float[Array, ''] | Float[Array, ' B']"


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Queries, documents, and which pairs of them are positives and negatives.

    Attributes:
      queries: Embeddings [B, D].
      documents: Embeddings [B * G, D], query-major, the positives first in each group.
      group_size: Number of documents per query, G.
      positives: Number of positives per group, P.
      in_batch: Whether other queries' documents are negatives.
      query: Text information about the queries.
      document: Text information about the documents.
      limits: Similarity limits, as fields of `TextInfo`.
      guides: A guide's embeddings of queries and of documents; None without a guide.
      spread: Keywords of `log_partition`: tile, axis_name, ring.
      sample: Number of leading queries to compare with all documents; None means all queries.
    """

    queries: Float[Array, "B D"]
    documents: Float[Array, "N D"]
    group_size: int
    positives: int
    in_batch: bool
    query: TextInfo
    document: TextInfo
    limits: Mapping[str, Float[Array, " B"]]
    guides: tuple[Float[Array, "B E"], Float[Array, "N E"]] | None
    spread: Mapping[str, Any]
    sample: int | None = None

    @property
    def own_similarities(self) -> Float[Array, "B P"]:
        """Similarity of each query to each of its positives."""
        return to_own(self.queries, self.documents, self.group_size)[:, : self.positives]

    @property
    def own_valid(self) -> Bool[Array, "B P"]:
        """Mask of the positives that each query has; the first always exists."""
        if self.document.document_pool is None:
            return jnp.ones((self.queries.shape[0], self.positives), bool)
        pools = jnp.asarray(self.document.document_pool).reshape(-1, self.group_size)
        there = pools[:, : self.positives] >= 0
        return there.at[:, 0].set(True)

    @property
    def first_positives(self) -> Float[Array, "B D"]:
        """Embedding of each query's first positive."""
        return self.documents[:: self.group_size]

    @property
    def positive(self) -> Float[Array, " B"]:
        """Similarity of each query to its first positive."""
        return self.own_similarities[:, 0]

    def log_negatives(
        self,
        temperature: Temperature,
        *,
        direction: Direction = "query_to_document",
        logit: Value | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> Float[Array, " B"]:
        """log sum_j- exp(logit_ij) over the negatives of each query, or of its positive.

        Args:
          temperature: Positive scalar, or one per query [B], that divides similarities.
          direction: The kinds of texts to compare, such as query_to_document.
          logit: As in `log_partition`; rows and columns are `TextInfo`.
          given: Scalars or arrays [B] that `logit` can read from `rows.given`.

        Returns:
          One value per query [B]; -inf for a query without negatives.
        """
        reduce = functools.partial(log_partition, logit=logit)
        return self._over_negatives(reduce, temperature, direction, given)

    def sum_negatives(
        self,
        value: Value,
        temperature: Temperature = 1.0,
        *,
        direction: Direction = "query_to_document",
        given: Mapping[str, Any] | None = None,
    ) -> Float[Array, " B"]:
        """sum_j- value(s_ij) over the negatives of each query, or of its positive.

        Args:
          value: As in `pair_sum`; rows and columns are `TextInfo`.
          temperature: Temperature whose inverse is passed to `value` as `scale`.
          direction: The kinds of texts to compare, such as query_to_document.
          given: As in `log_negatives`.

        Returns:
          One value per query [B].
        """
        reduce = functools.partial(pair_sum, value=value)
        return self._over_negatives(reduce, temperature, direction, given)

    def count_negatives(self, direction: Direction = "query_to_document") -> Float[Array, " B"]:
        """Number of negatives of each query [B]."""
        return lax.stop_gradient(self.sum_negatives(one, direction=direction))

    def fold_negatives(
        self,
        add: Callable[[PyTree, Pairing], PyTree],
        start: PyTree,
        temperature: Temperature = 1.0,
    ) -> PyTree:
        """Folds tiles of queries and documents, without gradient.

        Args:
          add: `(state, tile) -> state`.
          start: Initial state of one query, a tree of numbers or small arrays.
          temperature: Temperature whose inverse is a tile's `scale`.

        Returns:
          The final state of every query: the tree with a leading dimension B.
        """

        def fold(queries, keys, *, temperature, keep, rows, columns, **spread):
            del keep

            def add_tile(state, similarities, row, column, real):
                return add(state, pairing(similarities, row, column, real))

            def of_each(x):
                return jnp.broadcast_to(x, (len(queries), *jnp.shape(x)))

            scale = jnp.broadcast_to(1.0 / jnp.asarray(temperature, jnp.float32), len(queries))
            sides = Side(queries, scale, rows), Side(keys, None, columns)
            state = jax.tree.map(of_each, start)
            return fold_tiles(add_tile, state, *sides, Spread(**spread))

        return self._over_negatives(fold, temperature, "query_to_document", None)

    def largest_negatives(self, top: int) -> Float[Array, "B k"]:
        """The `top` highest similarities of each query's negatives, padded with -inf."""

        def add(state, tile: Pairing):
            similarities = jnp.where(tile.negative, tile.similarities, -jnp.inf)
            return lax.top_k(jnp.concatenate([state, similarities], axis=1), top)[0]

        return self.fold_negatives(add, jnp.full(top, -jnp.inf))

    def _over_negatives(self, reduce, temperature, direction, given):
        of_rows, of_columns, keep = DIRECTIONS[direction]
        temperature = jnp.asarray(temperature, jnp.float32)
        if self.positives > 1 and of_rows == "document":
            raise ValueError(
                f"{direction} needs one positive per query, but positives is {self.positives}"
            )
        rows, about_rows = self._side(of_rows, anchors=True)
        columns, about_columns = self._side(of_columns)
        given = {name: jnp.broadcast_to(x, rows.shape[:1]) for name, x in (given or {}).items()}
        about_rows = about_rows._replace(**self.limits, given=given)
        if self.sample is not None:
            rows, about_rows = jax.tree.map(lambda x: x[: self.sample], (rows, about_rows))
            temperature = temperature[: self.sample] if temperature.ndim else temperature
        reduce = functools.partial(reduce, keep=keep)
        if self.in_batch:
            about = {"rows": about_rows, "columns": about_columns}
            return reduce(rows, columns, temperature=temperature, **about, **self.spread)
        if direction != "query_to_document":
            raise ValueError(
                f"{direction} needs in-batch negatives; drop this direction or set in_batch=True"
            )
        alone = functools.partial(reduce, tile=self.spread["tile"])
        own = slice(len(rows) * self.group_size)
        columns, about_columns = jax.tree.map(lambda x: x[own], (columns, about_columns))
        return _each_alone(alone, rows, columns, temperature, about_rows, about_columns)

    def _side(self, kind: str, *, anchors: bool = False):
        """Embeddings and text information of queries or documents; as anchors, only positives."""
        first = jax.tree.map(lambda x: x[:: self.group_size], self.document)
        queries = self.query.with_document(first)
        if kind == "query":
            guide = self.guides[0] if self.guides else None
            return self.queries, queries._replace(guide=guide)
        guide = self.guides[1] if self.guides else None
        if anchors:
            guide = None if guide is None else guide[:: self.group_size]
            return self.first_positives, queries._replace(guide=guide)
        return self.documents, self.document._replace(guide=guide)


def contrast(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    several: bool = False,
    **pairs: Unpack[Pairs],
) -> Contrast:
    """Checks a batch and works out which of its pairs are negatives.

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [B * group_size, D], query-major, the positives first in each group.
      several: Whether queries may have more than one positive.
      **pairs: Structure of the batch and text ids, see `Pairs`.

    Returns:
      The batch, with methods that reduce over its negatives.

    Raises:
      ValueError: If shapes do not match, no negatives are possible, or there are positives that the
        loss would not use.
      TypeError: If a keyword is not in `Pairs`.
    """
    if unknown := pairs.keys() - _UNLESS_GIVEN.keys():
        raise TypeError(
            f"losses have no argument {', '.join(sorted(unknown))}; see Pairs for those they have"
        )
    known: dict[str, Any] = _UNLESS_GIVEN | pairs
    check_pairs(queries, documents, known)
    if known["positives"] > 1 and not several:
        raise ValueError(
            f"positives is {known['positives']}, but this loss takes 1 per query; use info_nce or "
            "siglip, or give each positive its own row and equal query_ids"
        )
    if known["valid"] is not None:
        known["query_pools"] = jnp.zeros(queries.shape[0], jnp.int32)
        known["document_pools"] = jnp.where(known["valid"], 0, -1)
    of_masks = ("group_size", "positives", "query_ids", "document_ids", "known_positive_ids")
    of_masks += ("query_pools", "document_pools", "axis_name")
    query, document = masks.describe(queries.shape[0], **{name: known[name] for name in of_masks})
    group_size, guides = known["group_size"], None
    limits = {}
    above, share = known["above_positive"], known["relative_to_positive"]
    if above is not None or share is not None:
        own = lax.stop_gradient(to_own(queries, documents, group_size)[:, 0])
        limits["similarity_limit"] = lower_limit(own, above, share)
    if known["guide_queries"] is not None:
        guides = lax.stop_gradient((known["guide_queries"], known["guide_documents"]))
        own = to_own(*guides, group_size)[:, 0]
        margin = known["guide_margin"] + known["guide_relative_margin"] * jnp.abs(own)
        limits["guide_limit"] = own - margin
    return Contrast(
        queries,
        documents,
        group_size,
        known["positives"],
        known["in_batch"],
        query,
        document,
        limits,
        guides,
        {name: known[name] for name in ("tile", "axis_name", "ring")},
    )


_UNLESS_GIVEN: dict[str, Any] = {
    **dict.fromkeys(Pairs.__annotations__),
    "group_size": 1,
    "positives": 1,
    "in_batch": True,
    "guide_margin": 0.0,
    "guide_relative_margin": 0.0,
    "ring": False,
}


def _each_alone(reduce, queries, documents, temperature, rows, columns):
    """Reduces each query over only its own group."""
    batch = queries.shape[0]

    def alone(query, documents, temperature, row, column):
        results = reduce(query, documents, temperature=temperature, rows=row, columns=column)
        return jax.tree.map(lambda x: x[0], results)

    def one_each(tree):
        return jax.tree.map(lambda x: x[:, None], tree)

    def groups(tree):
        return jax.tree.map(lambda x: x.reshape(batch, -1, *x.shape[1:]), tree)

    check_temperature(temperature)
    temperature = jnp.broadcast_to(temperature, (batch,))
    return jax.vmap(alone)(
        one_each(queries), groups(documents), temperature, one_each(rows), groups(columns)
    )

"""A batch seen by a loss: who is whose positive, and who may be whose negative."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, Unpack

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from contrastive.losses import masks
from contrastive.losses.directions import (
    DIRECTIONS,
    About,
    Direction,
    Pairing,
    lower_limit,
    pairing,
)
from contrastive.losses.pairs import Pairs, check_pairs, to_own
from contrastive.losses.partition import check_temperature, log_partition, one, pair_sum
from contrastive.losses.tiles import Side, Spread, Value, fold_tiles

Temperature: TypeAlias = float | Float[Array, ""] | Float[Array, " B"]


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Queries, documents, and which pairs of them are positives and negatives.

    Attributes:
      queries: Embeddings [B, D].
      documents: Embeddings [B * G, D], query-major, the positives first in each group.
      group_size: G.
      positives: P, of each group.
      in_batch: Whether other queries' documents are negatives.
      query: What masks know of queries.
      document: What masks know of documents.
      limits: The fields of `About` with limits.
      guides: A guide's embeddings of queries and of documents, None without one.
      spread: Keywords of `log_partition`: tile, axis_name, ring.
      sample: How many of the queries, the first ones, are compared with all documents; None is all.
    """

    queries: Float[Array, "B D"]
    documents: Float[Array, "N D"]
    group_size: int
    positives: int
    in_batch: bool
    query: masks.Rows
    document: masks.Columns
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
        """Which of its positives each query has; the first is always there."""
        if self.document.pool is None:
            return jnp.ones((self.queries.shape[0], self.positives), bool)
        pools = jnp.asarray(self.document.pool).reshape(-1, self.group_size)
        there = pools[:, : self.positives] >= 0
        return there.at[:, 0].set(True)

    @property
    def first_positives(self) -> Float[Array, "B D"]:
        """Each query's first positive."""
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
        """log sum_j- exp(logit_ij), over the negatives of each query, or of its positive.

        Args:
          temperature: Divides similarities.
          direction: What is compared with what.
          logit: As in `log_partition`; rows and columns are `About`.
          given: Numbers, or arrays [B], that `logit` finds in `rows.given`.

        Returns:
          One value a query [B]; -inf where there is no negative.
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
        """sum_j- value(s_ij), over the negatives of each query, or of its positive.

        Args:
          value: As in `pair_sum`; rows and columns are `About`.
          temperature: Its inverse is the `scale` of `value`.
          direction: What is compared with what.
          given: As in `log_negatives`.

        Returns:
          One value a query [B].
        """
        reduce = functools.partial(pair_sum, value=value)
        return self._over_negatives(reduce, temperature, direction, given)

    def count_negatives(self, direction: Direction = "query_to_document") -> Float[Array, " B"]:
        """How many negatives each query has."""
        return lax.stop_gradient(self.sum_negatives(one, direction=direction))

    def fold_negatives(
        self,
        add: Callable[[PyTree, Pairing], PyTree],
        start: PyTree,
        temperature: Temperature = 1.0,
    ) -> PyTree:
        """Folds the tiles of queries and documents, without gradient.

        Args:
          add: `(state, tile) -> state`.
          start: Of a query: a tree of numbers or small arrays.
          temperature: Its inverse is a tile's `scale`.

        Returns:
          The last state of every query: the tree with a first dimension B.
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
        """The `top` highest similarities of each query's negatives, -inf where there are fewer."""

        def add(state, tile: Pairing):
            seen = jnp.where(tile.negative, tile.similarities, -jnp.inf)
            return lax.top_k(jnp.concatenate([state, seen], axis=1), top)[0]

        return self.fold_negatives(add, jnp.full(top, -jnp.inf))

    def _over_negatives(self, reduce, temperature, direction, given):
        of_rows, of_columns, keep = DIRECTIONS[direction]
        temperature = jnp.asarray(temperature, jnp.float32)
        if self.positives > 1 and of_rows == "document":
            raise ValueError(f"{direction} needs one positive a query, there are {self.positives}")
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
            raise ValueError(f"without in-batch negatives there is no {direction}")
        alone = functools.partial(reduce, tile=self.spread["tile"])
        own = slice(len(rows) * self.group_size)
        columns, about_columns = jax.tree.map(lambda x: x[own], (columns, about_columns))
        return _each_alone(alone, rows, columns, temperature, about_rows, about_columns)

    def _side(self, kind: str, *, anchors: bool = False):
        """Embeddings of the queries, or of documents: as anchors those of the positives alone."""
        first = jax.tree.map(lambda x: x[:: self.group_size], self.document)
        if kind == "query":
            guide = self.guides[0] if self.guides else None
            return self.queries, About(self.query, first, guide)
        guide = self.guides[1] if self.guides else None
        if anchors:
            guide = None if guide is None else guide[:: self.group_size]
            return self.first_positives, About(self.query, first, guide)
        return self.documents, About(None, self.document, guide)


def contrast(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    several: bool = False,
    **pairs: Unpack[Pairs],
) -> Contrast:
    """Checks a batch, and works out which of its pairs are negatives.

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [B * group_size, D], query-major, the positives first in each group.
      several: Whether queries may have more than one positive.
      **pairs: What is known of the texts, see `Pairs`.

    Returns:
      The batch as losses see it.

    Raises:
      ValueError: For shapes that do not fit, no possible negative, or positives that the loss
        would not use.
    """
    if unknown := pairs.keys() - _UNLESS_GIVEN.keys():
        raise TypeError(f"losses do not know {', '.join(sorted(unknown))}; see Pairs")
    known: dict[str, Any] = _UNLESS_GIVEN | pairs
    check_pairs(queries, documents, known)
    if known["positives"] > 1 and not several:
        raise ValueError(
            f"positives is {known['positives']}, but this loss takes 1 a query; use info_nce or "
            "siglip, or give each positive a row of its own with equal query_ids"
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
        limits["guide_limit"] = to_own(*guides, group_size)[:, 0] - known["guide_margin"]
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
    "ring": False,
}


def _each_alone(reduce, queries, documents, temperature, rows, columns):
    """Reduces each query over its own group."""
    batch = queries.shape[0]

    def alone(query, documents, temperature, row, column):
        found = reduce(query, documents, temperature=temperature, rows=row, columns=column)
        return jax.tree.map(lambda x: x[0], found)

    def one_each(tree):
        return jax.tree.map(lambda x: x[:, None], tree)

    def groups(tree):
        return jax.tree.map(lambda x: x.reshape(batch, -1, *x.shape[1:]), tree)

    check_temperature(temperature)
    temperature = jnp.broadcast_to(temperature, (batch,))
    return jax.vmap(alone)(
        one_each(queries), groups(documents), temperature, one_each(rows), groups(columns)
    )

"""Diagnostics that cost as much as the loss or more: histograms, and the largest negatives."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, TypeAlias, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from contrastive.losses.contrast import Contrast, Temperature, contrast
from contrastive.losses.directions import Pairing
from contrastive.losses.pairs import Pairs
from contrastive.losses.partition import one, pair_sum, scaled
from contrastive.losses.similarity import normalize
from contrastive.losses.tiles import Axis

BINS = 100
EDGES = np.linspace(-1.0, 1.0, BINS + 1, dtype=np.float32)
"""Of the bins of cosines; the last bin has its upper edge too."""

Summary: TypeAlias = dict[str, Float[Array, "..."]]

_UPPER = np.append(EDGES[1:-1], np.float32(np.inf))  # of each bin
_TOP = 100
_SAMPLE = 1024
_TIE = 0.005


class Details(NamedTuple):
    """Details of the sampled queries [S]; `summarize_details` makes them a batch's.

    Attributes:
      top_10_share: Share of the ten hardest negatives in the gradient, sum of r_ij over them.
      top_100_share: Of the hundred hardest.
      hardest_negative: max_j s_ij, -inf without a negative.
      tied: 1 where one of the 100 hardest is within 0.005 of the positive: often its text, copied.
      partition_bias: By how much a batch of as many negatives puts log Z too low on average, nats.
      modality_gap: Distance of the mean query from the mean positive; the same of every query.
      mates: Other queries of the same label.
      mate_cosine: Sum of the cosines to them.
      positive_bins: Count of the positive's cosine in each bin [S, BINS].
      negative_bins: Counts of the negatives' [S, BINS].
    """

    top_10_share: Float[Array, " S"]
    top_100_share: Float[Array, " S"]
    hardest_negative: Float[Array, " S"]
    tied: Float[Array, " S"]
    partition_bias: Float[Array, " S"]
    modality_gap: Float[Array, " S"]
    mates: Float[Array, " S"]
    mate_cosine: Float[Array, " S"]
    positive_bins: Float[Array, "S BINS"]
    negative_bins: Float[Array, "S BINS"]


def examine(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    labels: Int[Array, " B"] | None = None,
    **pairs: Unpack[Pairs],
) -> Details:
    """Looks closely at the first 1,024 queries of a batch, against all its documents.

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [B * group_size, D], query-major, the positives first in each group.
      temperature: Positive scalar, or one a query [B].
      labels: Class of each query [B], 0 where it has none.
      **pairs: As in `info_nce`.

    Returns:
      Details of S = min(B, 1024) queries, float32.

    Source:
      Wang & Liu, 2021, arXiv:2012.09740 (tolerance); Liang et al., 2022, arXiv:2203.02053 (gap).
    """
    queries, documents = lax.stop_gradient((queries, documents))
    sample = min(len(queries), _SAMPLE)

    def looked_at(queries, documents):
        seen = contrast(queries, documents, several=True, **pairs)
        return dataclasses.replace(seen, sample=sample), seen.own_similarities[:sample, 0]

    seen, positive = looked_at(queries, documents)
    inverse = 1.0 / jnp.asarray(temperature, jnp.float32)
    log_total = seen.log_negatives(temperature)
    count = seen.count_negatives()
    largest = seen.largest_negatives(_TOP)

    def share(top):
        hardest = largest[:, :top] * jnp.broadcast_to(inverse, queries.shape[:1])[:sample, None]
        return _share(jax.nn.logsumexp(hardest, axis=1), log_total)

    # sum_j r_ij^2, the inverse of how many negatives there are in effect.
    squares = _share(seen.log_negatives(jnp.asarray(temperature) / 2), 2 * log_total)
    unit = normalize(queries), normalize(documents)
    seen_unit, cosine = looked_at(*unit)
    below = seen_unit.fold_negatives(_count_below, jnp.zeros(BINS))
    mates, mate_cosine = _mates(unit[0], labels, sample, pairs)
    return Details(
        top_10_share=share(10),
        top_100_share=share(100),
        hardest_negative=largest[:, 0],
        tied=jnp.any(jnp.abs(largest - positive[:, None]) <= _TIE, axis=1).astype(jnp.float32),
        partition_bias=jnp.where(count > 0, 0.5 * (1.0 / jnp.maximum(count, 1.0) - squares), 0.0),
        modality_gap=jnp.broadcast_to(_gap(unit, seen, pairs.get("axis_name")), (sample,)),
        mates=mates,
        mate_cosine=mate_cosine,
        positive_bins=_bins((cosine[:, None] < _UPPER).astype(jnp.float32)),
        negative_bins=_bins(below),
    )


def summarize_details(details: Details) -> Summary:
    """One number a detail, and the histograms as shares [BINS].

    Args:
      details: Of the sampled queries of all devices.

    Returns:
      Arrays by name: means, of the hardest negative over queries that have one; `tolerance`, the
      mean cosine of texts of one label, NaN without any; and the histograms.
    """
    names = ("top_10_share", "top_100_share", "tied", "partition_bias", "modality_gap")
    pairs = details.mates.sum()
    some = jnp.where(pairs > 0, details.mate_cosine.sum() / jnp.maximum(pairs, 1.0), jnp.nan)
    histograms = {"positive": details.positive_bins, "negative": details.negative_bins}
    return {
        **{name: jnp.mean(getattr(details, name)) for name in names},
        "hardest_negative": _mean_of_finite(details.hardest_negative),
        "tolerance": some,
        **{
            f"histogram/{name}": bins.sum(axis=0) / jnp.maximum(bins.sum(), 1.0)
            for name, bins in histograms.items()
        },
    }


def _share(log_part, log_whole):
    """0 where there is nothing."""
    some = log_whole != -jnp.inf
    return jnp.where(some, jnp.exp(log_part - jnp.where(some, log_whole, 0.0)), 0.0)


def _mean_of_finite(values):
    """-inf where none is."""
    finite = jnp.isfinite(values)
    total = jnp.where(finite, values, 0.0).sum()
    return jnp.where(finite.any(), total / jnp.maximum(finite.sum(), 1), -jnp.inf)


def _count_below(state, tile: Pairing):
    """An edge at a time: all at once would be a hundred tiles."""

    def one(edge):
        return jnp.sum(tile.negative & (tile.similarities < edge), axis=1, dtype=jnp.float32)

    return state + lax.map(one, jnp.asarray(_UPPER)).T


def _bins(below):
    """From counts below upper edges to counts between edges."""
    return jnp.diff(below, axis=1, prepend=0.0)


def _gap(unit, seen: Contrast, axis_name: Axis):
    """Of the means over all devices."""
    queries, documents = unit
    apart = jnp.mean(queries - documents[:: seen.group_size], axis=0)
    return jnp.linalg.norm(apart if axis_name is None else lax.pmean(apart, axis_name))


def _mates(unit, labels, sample, pairs: Pairs):
    """How many other queries have each query's label, and the sum of the cosines to them."""
    if labels is None:
        return jnp.zeros(sample), jnp.zeros(sample)
    axis_name = pairs.get("axis_name")
    first = 0 if axis_name is None else lax.axis_index(axis_name) * len(unit)
    about = {"number": first + jnp.arange(len(unit)), "label": jnp.asarray(labels)}
    rows = jax.tree.map(lambda x: x[:sample], about)
    spread = {"tile": pairs.get("tile"), "axis_name": axis_name, "ring": pairs.get("ring", False)}
    each = {"rows": rows, "columns": about, "keep": _is_mate, **spread}
    return tuple(pair_sum(unit[:sample], unit, value=value, **each) for value in (one, scaled))


def _is_mate(similarities, rows, columns):
    del similarities
    same = rows["label"][:, None] == columns["label"][None, :]
    other = rows["number"][:, None] != columns["number"][None, :]
    return same & other & (rows["label"][:, None] != 0)

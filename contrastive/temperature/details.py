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
from contrastive.losses.similarity import dot, normalize
from contrastive.losses.tiles import Axis

BINS = 100
EDGES = np.linspace(-1.0, 1.0, BINS + 1, dtype=np.float32)
"""Of the bins of cosines; the last bin has its upper edge too."""

Summary: TypeAlias = dict[str, Float[Array, "..."]]

# Of each bin: rounding puts cosines beyond both ends.
_LOWER = np.append(np.float32(-np.inf), EDGES[1:-1])
_UPPER = np.append(EDGES[1:-1], np.float32(np.inf))
_TOP = 100
_SAMPLE = 1024  # queries of all devices together
_COPY = 0.99  # cosine of two documents that say the same


class Details(NamedTuple):
    """Details of the sampled queries [S]; `summarize_details` makes them a batch's.

    Attributes:
      top_10_share: Share of the ten hardest negatives in the gradient, sum of r_ij over them.
      top_100_share: Of the hundred hardest.
      hardest_negative: max_j s_ij, -inf without a negative.
      copied: 1 where a negative is nearly the positive, a cosine of 0.99 or more between the two
        documents. A guide's limit is not looked at here.
      partition_bias: (1 / K - sum_j r_ij^2) / 2, nats, negative: the bias of the log-partition of K
        negatives to second order. It is right to a third up to 0.02 in size. It cannot go below
        -0.5: at low temperatures the true bias is at least that much, and may be many times it.
      modality_gap: Distance of the mean query from the mean positive; the same of every query.
      mates: Other queries of the same label.
      mate_cosine: Sum of the cosines to them.
      positive_bins: Count of the positive's cosine in each bin [S, BINS].
      negative_bins: Counts of the negatives' [S, BINS].
      gradient_bins: Sum of |dL/ds_ij| = (1 - P_i+) r_ij / t of InfoNCE over the negatives in each
        bin of s_ij [S, BINS], a cosine where embeddings are normalised.
    """

    top_10_share: Float[Array, " S"]
    top_100_share: Float[Array, " S"]
    hardest_negative: Float[Array, " S"]
    copied: Float[Array, " S"]
    partition_bias: Float[Array, " S"]
    modality_gap: Float[Array, " S"]
    mates: Float[Array, " S"]
    mate_cosine: Float[Array, " S"]
    positive_bins: Float[Array, "S BINS"]
    negative_bins: Float[Array, "S BINS"]
    gradient_bins: Float[Array, "S BINS"]


def examine(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    labels: Int[Array, " B"] | None = None,
    **pairs: Unpack[Pairs],
) -> Details:
    """Looks closely at 1,024 queries of a batch, evenly spread over it, against all documents.

    They are the same on any number of devices that divides 1,024.

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [B * group_size, D], query-major, the positives first in each group.
      temperature: Positive scalar, or one a query [B].
      labels: Class of each query [B], 0 where it has none.
      **pairs: As in `info_nce`; of several positives the first is looked at.

    Returns:
      Details of S queries of this device, in their order, float32: min(B, 1024 / devices).

    Source:
      Wang & Liu, 2021, arXiv:2012.09740 (tolerance); Liang et al., 2022, arXiv:2203.02053 (gap).
    """
    queries, documents = lax.stop_gradient((queries, documents))
    axis_name = pairs.get("axis_name")
    chosen = _chosen(len(queries), axis_name)
    temperature = jnp.broadcast_to(jnp.asarray(temperature, jnp.float32), len(queries))[chosen]

    def looked_at(queries, documents):
        seen = _with_first(chosen, contrast(queries, documents, several=True, **pairs))
        return seen, seen.own_similarities[: len(chosen), 0]

    seen, positive = looked_at(queries, documents)
    log_total = seen.log_negatives(temperature)
    count = seen.count_negatives()
    largest = seen.largest_negatives(_TOP)

    def share(top):
        return _share(jax.nn.logsumexp(largest[:, :top] / temperature[:, None], axis=1), log_total)

    # sum_j r_ij^2, the inverse of how many negatives there are in effect.
    squares = _share(seen.log_negatives(temperature / 2), 2 * log_total)
    unit = normalize(queries), normalize(documents)
    seen_unit, cosine = looked_at(*unit)
    mates, mate_cosine = _mates(unit[0], labels, chosen, pairs)
    return Details(
        top_10_share=share(10),
        top_100_share=share(100),
        hardest_negative=largest[:, 0],
        copied=_copied(seen, seen_unit.documents),
        partition_bias=jnp.where(count > 0, 0.5 * (1.0 / jnp.maximum(count, 1.0) - squares), 0.0),
        modality_gap=jnp.broadcast_to(_gap(unit, seen, axis_name), len(chosen)),
        mates=mates,
        mate_cosine=mate_cosine,
        positive_bins=_in_bins(cosine[:, None], jnp.ones((len(chosen), 1))),
        negative_bins=seen_unit.fold_negatives(_add_count, jnp.zeros(BINS)),
        gradient_bins=_gradient_bins(seen, positive, temperature),
    )


def summarize_details(details: Details) -> Summary:
    """One number a detail, and the histograms as shares [BINS].

    Args:
      details: Of the sampled queries of all devices.

    Returns:
      Arrays by name: means, of the hardest negative over queries that have one; `tolerance`, the
      mean cosine of texts of one label, NaN without any; and the histograms.
    """
    names = ("top_10_share", "top_100_share", "copied", "partition_bias", "modality_gap")
    pairs = details.mates.sum()
    some = jnp.where(pairs > 0, details.mate_cosine.sum() / jnp.maximum(pairs, 1.0), jnp.nan)
    histograms = {
        "positive": details.positive_bins,
        "negative": details.negative_bins,
        "gradient": details.gradient_bins,
    }
    return {
        **{name: jnp.mean(getattr(details, name)) for name in names},
        "hardest_negative": _mean_of_finite(details.hardest_negative),
        "tolerance": some,
        **{f"histogram/{name}": _shares(bins.sum(axis=0)) for name, bins in histograms.items()},
    }


def _chosen(batch: int, axis_name: Axis) -> np.ndarray:
    """Which queries of this device are looked at: those of all devices are evenly spread."""
    devices = 1 if axis_name is None else lax.axis_size(axis_name)
    count = min(batch, max(_SAMPLE // devices, 1))
    return np.arange(count) * batch // count


def _with_first(chosen: np.ndarray, seen: Contrast) -> Contrast:
    """With some queries, and what goes with them, in front: these alone look at all documents."""
    order = np.append(chosen, np.setdiff1d(np.arange(len(seen.queries)), chosen))
    of_documents = (order[:, None] * seen.group_size + np.arange(seen.group_size)).ravel()

    def ordered(part, order):
        return jax.tree.map(lambda x: x[order], part)

    parts = {name: ordered(getattr(seen, name), order) for name in ("queries", "query", "limits")}
    for name in ("documents", "document"):
        parts[name] = ordered(getattr(seen, name), of_documents)
    if seen.guides is not None:
        parts["guides"] = tuple(map(ordered, seen.guides, (order, of_documents)))
    return dataclasses.replace(seen, sample=len(chosen), **parts)


def _share(log_part, log_whole):
    """0 where there is nothing."""
    some = log_whole != -jnp.inf
    return jnp.where(some, jnp.exp(log_part - jnp.where(some, log_whole, 0.0)), 0.0)


def _mean_of_finite(values):
    """-inf where none is."""
    finite = jnp.isfinite(values)
    total = jnp.where(finite, values, 0.0).sum()
    return jnp.where(finite.any(), total / jnp.maximum(finite.sum(), 1), -jnp.inf)


def _shares(bins):
    """Zeros where there is nothing, and of what is not finite: files of histograms have no null."""
    total = bins.sum()
    return jnp.where(total > 0, bins / jnp.where(total > 0, total, 1.0), 0.0)


def _in_bins(similarities, values):
    """Sums of values [b, n]. A bin at a time: all at once would be a hundred tiles."""

    def one(ends):
        inside = (similarities >= ends[0]) & (similarities < ends[1])
        return jnp.sum(jnp.where(inside, values, 0.0), axis=1)

    return lax.map(one, (jnp.asarray(_LOWER), jnp.asarray(_UPPER))).T


def _add_count(state, tile: Pairing):
    return state + _in_bins(tile.similarities, tile.negative.astype(jnp.float32))


def _gradient_bins(seen: Contrast, positive, temperature):
    start = jnp.float32(-jnp.inf), jnp.zeros(BINS)
    top, weights = seen.fold_negatives(_add_weight, start, temperature)
    total = jnp.maximum(weights.sum(axis=1, keepdims=True), 1e-30)
    # 1 - P_i+ by the odds, which keeps its digits where P_i+ is nearly 1.
    log_odds = (top - positive / temperature)[:, None] + jnp.log(total)
    return jax.nn.sigmoid(log_odds) * (weights / total) / temperature[:, None]


def _add_weight(state, tile: Pairing):
    """exp(s / t - top) in each bin, with the largest s / t so far."""
    top, weights = state
    logits = jnp.where(tile.negative, tile.similarities * tile.scale, -jnp.inf)
    new_top = jnp.maximum(top, logits.max(axis=1))
    shift = jnp.where(new_top == -jnp.inf, 0.0, new_top)
    added = _in_bins(tile.similarities, jnp.exp(logits - shift[:, None]))
    return new_top, jnp.exp(top - shift)[:, None] * weights + added


def _copied(seen: Contrast, unit_documents):
    """With the documents in a guide's place, a tile tells how near they are to the positive."""
    positives = unit_documents[:: seen.group_size]
    limits = {name: x for name, x in seen.limits.items() if name != "guide_limit"}
    beside = dataclasses.replace(seen, guides=(positives, unit_documents), limits=limits)
    return jnp.minimum(beside.sum_negatives(_is_copy), 1.0)


def _is_copy(similarities, scale, rows, columns):
    del similarities, scale
    return (dot(rows.guide, columns.guide) >= _COPY).astype(jnp.float32)


def _gap(unit, seen: Contrast, axis_name: Axis):
    """Of the means over all devices."""
    queries, documents = unit
    apart = jnp.mean(queries - documents[:: seen.group_size], axis=0)
    return jnp.linalg.norm(apart if axis_name is None else lax.pmean(apart, axis_name))


def _mates(unit, labels, chosen, pairs: Pairs):
    """How many other queries have each query's label, and the sum of the cosines to them."""
    if labels is None:
        return jnp.zeros(len(chosen)), jnp.zeros(len(chosen))
    axis_name = pairs.get("axis_name")
    first = 0 if axis_name is None else lax.axis_index(axis_name) * len(unit)
    about = {"number": first + jnp.arange(len(unit)), "label": jnp.asarray(labels)}
    rows = jax.tree.map(lambda x: x[chosen], about)
    spread = {"tile": pairs.get("tile"), "axis_name": axis_name, "ring": pairs.get("ring", False)}
    each = {"rows": rows, "columns": about, "keep": _is_mate, **spread}
    return tuple(pair_sum(unit[chosen], unit, value=value, **each) for value in (one, scaled))


def _is_mate(similarities, rows, columns):
    del similarities
    same = rows["label"][:, None] == columns["label"][None, :]
    other = rows["number"][:, None] != columns["number"][None, :]
    return same & other & (rows["label"][:, None] != 0)

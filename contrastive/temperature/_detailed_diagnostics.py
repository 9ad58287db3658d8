"""Diagnostics that cost at least as much as the loss: histograms and the largest negatives."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, TypeAlias, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from contrastive.losses._negatives.contrast import Contrast, Temperature, contrast
from contrastive.losses._negatives.masks import Pairing
from contrastive.losses._negatives.pairs import Pairs
from contrastive.losses._partition import one, pair_sum, scaled
from contrastive.losses._tiles import Axis
from contrastive.similarity import dot, normalize

__all__ = ["Details", "examine", "summarize_details"]

BINS = 100
EDGES = np.linspace(-1.0, 1.0, BINS + 1, dtype=np.float32)
"""Edges of the cosine bins; the last bin includes its upper edge."""

Summary: TypeAlias = dict[str, Float[Array, "..."]]

# Lower and upper limits of the bins; the outer ones are infinite, since rounding puts some cosines
# beyond -1 and 1.
_LOWER = np.append(np.float32(-np.inf), EDGES[1:-1])
_UPPER = np.append(EDGES[1:-1], np.float32(np.inf))
_TOP = 100
_SAMPLE = 1024  # queries in total over all devices
_COPY = 0.99  # minimum cosine of two documents that count as copies


class Details(NamedTuple):
    """Details of the sampled queries [S]; `summarize_details` reduces them over a batch.

    Attributes:
      top_10_share: Share of the ten hardest negatives in the gradient, the sum of their r_ij.
      top_100_share: Share of the hundred hardest negatives in the gradient.
      hardest_negative: max_j s_ij; -inf for a query without negatives.
      copied: 1 if a negative is almost identical to the positive, that is, if the cosine of the two
        documents is at least 0.99. A guide's limit is ignored here.
      partition_bias: (1 / K - sum_j r_ij^2) / 2, in nats, not positive: the bias of the
        log-partition of K negatives to second order. It is accurate to a third up to a magnitude of
        0.02. It cannot go below -0.5; at low temperatures the true bias is at least that large, and
        may be many times larger.
      modality_gap: Distance between the mean query and the mean positive, the same for all queries.
      mates: Number of other queries with the same label.
      mate_cosine: Sum of the cosines to them.
      positive_bins: Count of the positive's cosine in each bin [S, BINS].
      negative_bins: Counts of the negatives' cosines in each bin [S, BINS].
      gradient_bins: Sum of |dL/ds_ij| = (1 - P_i+) r_ij / t of InfoNCE over the negatives in each
        bin of s_ij [S, BINS]; s_ij is a cosine if embeddings are normalized.
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
    """Examines 1,024 queries, spread evenly over the batch, against all documents.

    The same queries are examined on any number of devices that divides 1,024.

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [B * group_size, D], query-major, the positives first in each group.
      temperature: Positive scalar, or one per query [B].
      labels: Class id of each query [B], 0 for a query without a label.
      **pairs: As in `info_nce`; of several positives only the first is examined.

    Returns:
      Details of this device's S = min(B, 1024 / devices) queries, in batch order, float32.

    Source:
      Wang & Liu, 2021, arXiv:2012.09740 (tolerance); Liang et al., 2022, arXiv:2203.02053 (gap).
    """
    queries, documents = lax.stop_gradient((queries, documents))
    axis_name = pairs.get("axis_name")
    chosen = _chosen(len(queries), axis_name)
    temperature = jnp.broadcast_to(jnp.asarray(temperature, jnp.float32), len(queries))[chosen]

    def looked_at(queries, documents):
        batch = _with_first(chosen, contrast(queries, documents, several=True, **pairs))
        return batch, batch.own_similarities[: len(chosen), 0]

    batch, positive = looked_at(queries, documents)
    log_total = batch.log_negatives(temperature)
    count = batch.count_negatives()
    largest = batch.largest_negatives(_TOP)

    def share(top):
        return _share(jax.nn.logsumexp(largest[:, :top] / temperature[:, None], axis=1), log_total)

    # sum_j r_ij^2, the inverse of the effective number of negatives.
    squares = _share(batch.log_negatives(temperature / 2), 2 * log_total)
    unit = normalize(queries), normalize(documents)
    unit_batch, cosine = looked_at(*unit)
    mates, mate_cosine = _mates(unit[0], labels, chosen, pairs)
    return Details(
        top_10_share=share(10),
        top_100_share=share(100),
        hardest_negative=largest[:, 0],
        copied=_copied(batch, unit_batch.documents),
        partition_bias=jnp.where(count > 0, 0.5 * (1.0 / jnp.maximum(count, 1.0) - squares), 0.0),
        modality_gap=jnp.broadcast_to(_gap(unit, batch, axis_name), len(chosen)),
        mates=mates,
        mate_cosine=mate_cosine,
        positive_bins=_in_bins(cosine[:, None], jnp.ones((len(chosen), 1))),
        negative_bins=unit_batch.fold_negatives(_add_count, jnp.zeros(BINS)),
        gradient_bins=_gradient_bins(batch, positive, temperature),
    )


def summarize_details(details: Details) -> Summary:
    """Reduces each detail to one number, and histograms to shares [BINS].

    Args:
      details: Details of the sampled queries of all devices.

    Returns:
      Arrays by name: means (that of the hardest negative is over queries that have one),
      `tolerance` (the mean cosine of texts with the same label, NaN if there are none), and the
      histograms.
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
    """Returns this device's share of queries to examine, spread evenly over the batch."""
    devices = 1 if axis_name is None else lax.axis_size(axis_name)
    count = min(batch, max(_SAMPLE // devices, 1))
    return np.arange(count) * batch // count


def _with_first(chosen: np.ndarray, batch: Contrast) -> Contrast:
    """Moves the chosen queries to the front and compares only them with all documents."""
    order = np.append(chosen, np.setdiff1d(np.arange(len(batch.queries)), chosen))
    of_documents = (order[:, None] * batch.group_size + np.arange(batch.group_size)).ravel()

    def ordered(part, order):
        return jax.tree.map(lambda x: x[order], part)

    parts = {name: ordered(getattr(batch, name), order) for name in ("queries", "query", "limits")}
    for name in ("documents", "document"):
        parts[name] = ordered(getattr(batch, name), of_documents)
    if batch.guides is not None:
        parts["guides"] = tuple(map(ordered, batch.guides, (order, of_documents)))
    return dataclasses.replace(batch, sample=len(chosen), **parts)


def _share(log_part, log_whole):
    """exp(log_part - log_whole), or 0 if the whole is empty."""
    some = log_whole != -jnp.inf
    return jnp.where(some, jnp.exp(log_part - jnp.where(some, log_whole, 0.0)), 0.0)


def _mean_of_finite(values):
    """Mean of the finite values, or -inf if there are none."""
    finite = jnp.isfinite(values)
    total = jnp.where(finite, values, 0.0).sum()
    return jnp.where(finite.any(), total / jnp.maximum(finite.sum(), 1), -jnp.inf)


def _shares(bins):
    """Normalizes bins to shares; zeros if empty or not finite, as histogram files have no null."""
    total = bins.sum()
    return jnp.where(total > 0, bins / jnp.where(total > 0, total, 1.0), 0.0)


def _in_bins(similarities, values):
    """Sums values [b, n] in each bin, one bin at a time to avoid a hundred copies of the tile."""

    def one(ends):
        inside = (similarities >= ends[0]) & (similarities < ends[1])
        return jnp.sum(jnp.where(inside, values, 0.0), axis=1)

    return lax.map(one, (jnp.asarray(_LOWER), jnp.asarray(_UPPER))).T


def _add_count(state, tile: Pairing):
    return state + _in_bins(tile.similarities, tile.negative.astype(jnp.float32))


def _gradient_bins(batch: Contrast, positive, temperature):
    start = jnp.float32(-jnp.inf), jnp.zeros(BINS)
    top, weights = batch.fold_negatives(_add_weight, start, temperature)
    total = jnp.maximum(weights.sum(axis=1, keepdims=True), 1e-30)
    # Computing 1 - P_i+ from the odds keeps precision when P_i+ is nearly 1.
    log_odds = (top - positive / temperature)[:, None] + jnp.log(total)
    return jax.nn.sigmoid(log_odds) * (weights / total) / temperature[:, None]


def _add_weight(state, tile: Pairing):
    """Accumulates exp(s / t - top) in each bin, with top the largest s / t so far."""
    top, weights = state
    logits = jnp.where(tile.negative, tile.similarities * tile.scale, -jnp.inf)
    new_top = jnp.maximum(top, logits.max(axis=1))
    shift = jnp.where(new_top == -jnp.inf, 0.0, new_top)
    added = _in_bins(tile.similarities, jnp.exp(logits - shift[:, None]))
    return new_top, jnp.exp(top - shift)[:, None] * weights + added


def _copied(batch: Contrast, unit_documents):
    """Detects copies of the positive by using the documents themselves as a guide."""
    positives = unit_documents[:: batch.group_size]
    limits = {name: x for name, x in batch.limits.items() if name != "guide_limit"}
    beside = dataclasses.replace(batch, guides=(positives, unit_documents), limits=limits)
    return jnp.minimum(beside.sum_negatives(_is_copy), 1.0)


def _is_copy(similarities, scale, rows, columns):
    del similarities, scale
    return (dot(rows.guide, columns.guide) >= _COPY).astype(jnp.float32)


def _gap(unit, batch: Contrast, axis_name: Axis):
    """Distance between the mean query and the mean positive over all devices."""
    queries, documents = unit
    apart = jnp.mean(queries - documents[:: batch.group_size], axis=0)
    return jnp.linalg.norm(apart if axis_name is None else lax.pmean(apart, axis_name))


def _mates(unit, labels, chosen, pairs: Pairs):
    """Counts the other queries with each query's label, and sums the cosines to them."""
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

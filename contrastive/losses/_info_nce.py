"""InfoNCE, in any combination of directions."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, Unpack

from pydantic import Field, NonNegativeFloat

from contrastive.lazy import jax, jnp, lax
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives import masks
from contrastive.losses._negatives.contrast import Contrast, Temperature, contrast
from contrastive.losses._negatives.masks import Direction, TextInfo
from contrastive.losses._negatives.pairs import Pairs
from contrastive.losses._partition import (
    check_temperature,
    log_add,
    scaled,
)

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = [
    "ALL_IN_ONE",
    "FORWARD",
    "SYMMETRIC",
    "TWO_VIEWS",
    "InfoNCE",
    "info_nce",
]

Directions: TypeAlias = Sequence[Sequence[Direction]]
FORWARD: Directions = (("query_to_document",),)
# CLIP, and Jina's training on pairs: one softmax in each direction.
SYMMETRIC: Directions = (("query_to_document",), ("document_to_query",))
# SimCLR: each text of the two views against all others.
TWO_VIEWS: Directions = (
    ("query_to_document", "query_to_query"),
    ("document_to_query", "document_to_document"),
)
# GTE: one softmax over everything.
ALL_IN_ONE: Directions = (
    ("query_to_document", "query_to_query", "document_to_query", "document_to_document"),
)
_DIRECTIONS = {
    "forward": FORWARD,
    "symmetric": SYMMETRIC,
    "two_views": TWO_VIEWS,
    "all_in_one": ALL_IN_ONE,
}


class InfoNCE(Loss):
    """Softmax cross-entropy of the positive against the negatives."""

    directions: Literal["forward", "symmetric", "two_views", "all_in_one"] = "forward"
    """What is compared: forward, queries with documents; symmetric, also documents with queries
    (CLIP, Jina); two_views, each text with all others (SimCLR); all_in_one, everything in one
    softmax (GTE)."""
    margin: NonNegativeFloat = 0.0
    """Margin subtracted from the positive's similarity."""
    hardness: NonNegativeFloat = 0.0
    """Weight each negative by exp(hardness * similarity): 5 in EmbeddingGemma, 9 in LLaVE."""
    harder: Literal["all", "in_batch", "hard"] = "all"
    """Negatives that `hardness` applies to: all, those of other queries (in_batch), or the query's
    own hard negatives (hard, as in EmbeddingGemma)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fraction of the target that is spread evenly over all documents."""

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        return info_nce(
            inputs.queries,
            inputs.documents,
            temperature=inputs.temperature,
            directions=_DIRECTIONS[self.directions],
            margin=self.margin,
            hardness=self.hardness,
            harder=self.harder,
            label_smoothing=self.label_smoothing,
            **inputs.pairs,
        )

    @property
    def compares_queries(self) -> bool:
        return self.directions != "forward"

    def why_not_softmax(self) -> str:
        changed = [name for name in ("hardness", "label_smoothing") if getattr(self, name)]
        return f"{changed[0]} changes the gradient weights of info_nce" if changed else ""

    def why_not_info_nce(self) -> str:
        if why := self.why_not_softmax():
            return why
        if self.directions not in ("forward", "symmetric"):
            return f"directions {self.directions} adds other pairs to the same softmax"
        return "margin changes the gradient weights of info_nce" if self.margin else ""


def info_nce(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    directions: Directions = FORWARD,
    margin: float = 0.0,
    hardness: float = 0.0,
    harder: Literal["all", "in_batch", "hard"] = "all",
    label_smoothing: float = 0.0,
    inside: bool = False,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """InfoNCE: softmax cross-entropy of the positive against the negatives.

    loss_i = -log( exp(s_i+ / t) / (exp(s_i+ / t) + sum_j- exp(s_ij / t)) )
           = softplus( log sum_j- exp(s_ij / t) - s_i+ / t )

    with s_ij = q_i . d_j. The second form keeps full relative precision when the loss is small.
    All documents are negatives except the query's own positives and the false negatives that the
    ids reveal: copies of a positive, other known positives, and positives of the same query in
    other rows.

    >>> import jax.numpy as jnp
    >>> q, d = jnp.array([[1., 0.], [0., 1.]]), jnp.array([[1., 0.], [0., 1.]])
    >>> info_nce(q, d, temperature=1.0)  # log(1 + exp(0 - 1))
    Array([0.3132617, 0.3132617], dtype=float32)

    Args:
      queries: Embeddings [B, D]; normalize them for cosines.
      documents: Embeddings [B * group_size, D], query-major, the positives first in each group.
      temperature: Positive scalar, or one per query [B].
      directions: What to compare: `FORWARD`, `SYMMETRIC`, `TWO_VIEWS`, `ALL_IN_ONE`, or your own.
        Each inner sequence lists the directions that share one softmax; the loss is the mean over
        these softmaxes.
      margin: Margin subtracted from the positive's similarity.
      hardness: Exponent a of the factor exp(a s_ij), without gradient, by which negatives are
        multiplied in the softmax. It applies only to queries against documents.
      harder: Negatives that `hardness` applies to: "all", other queries' documents ("in_batch"), or
        the query's own hard negatives ("hard").
      label_smoothing: Fraction of the target that is spread evenly over all documents kept.
      inside: With several positives, whether to sum them inside the logarithm, as in SupCon's L_in,
        instead of averaging one loss per positive.
      **pairs: Structure of the batch and text ids, see `Pairs`.

    Returns:
      One loss per query [B], float32; 0 for a query whose negatives were all masked.

    Raises:
      ValueError: If shapes do not match, no negatives are possible, or a temperature is not
        positive.

    Source:
      van den Oord et al., 2018, arXiv:1807.03748; temperature: Wu et al., 2018, arXiv:1805.01978;
      hardness: Lan et al., 2025, arXiv:2503.04812, and Schechter Vera et al., 2025,
      arXiv:2509.20354; margin: Wang et al., 2018, arXiv:1801.09414.
    """
    check_temperature(temperature)
    _check_choices(directions, harder)
    batch = contrast(queries, documents, several=True, **pairs)
    losses = [
        _one_softmax(
            batch,
            temperature,
            softmax,
            hardness=(hardness, harder),
            margin=margin,
            smoothing=label_smoothing,
            inside=inside,
        )
        for softmax in directions
    ]
    return jnp.mean(jnp.stack(losses), axis=0)


def _check_choices(directions: Directions, harder: str) -> None:
    if harder not in _HARDER:
        raise ValueError(f"harder is {harder!r}; it must be one of {', '.join(_HARDER)}")
    if isinstance(directions, str) or any(
        isinstance(softmax, str) or not set(softmax) <= set(masks.DIRECTIONS)
        for softmax in directions
    ):
        raise ValueError(
            f"directions is {directions!r}; it must be FORWARD, SYMMETRIC, TWO_VIEWS, ALL_IN_ONE, "
            f"or tuples of {', '.join(masks.DIRECTIONS)}"
        )


def _one_softmax(batch: Contrast, temperature, directions, *, hardness, margin, smoothing, inside):
    forth, back = (name in directions for name in ("query_to_document", "document_to_query"))
    if not forth and not back:
        raise ValueError(
            f"a softmax over {', '.join(directions)} contains no positive; add query_to_document "
            "or document_to_query"
        )
    strength, harder = hardness
    reweighted = not isinstance(strength, int | float) or strength != 0
    logits = {
        "logit": _HARDER[harder] if reweighted else None,
        "given": {"hardness": strength} if reweighted else None,
    }
    temperature = jnp.asarray(temperature, jnp.float32)
    # Only query_to_document sees hard negatives, so only it applies the hardness weights.
    negatives = [
        batch.log_negatives(temperature, direction=name, **(logits if name == _FIRST else {}))
        for name in directions
    ]
    positive = (batch.own_similarities - margin) / temperature[..., None]
    against = functools.reduce(log_add, negatives)
    # The pair occurs in both directions: log(2 e^p + e^n) - p = log 2 + softplus(n - log 2 - p).
    twice = math.log(2.0) if forth and back else 0.0
    loss = twice + cross_entropy(against - twice, positive, batch.own_valid, inside=inside)
    if isinstance(smoothing, int | float) and smoothing == 0:
        return loss
    return loss + smoothing * (
        positive[:, 0] - _mean_logit(batch, directions, temperature, positive)
    )


_FIRST = "query_to_document"


def cross_entropy(
    log_negatives: Float[Array, " B"],
    positive_logits: Float[Array, "B P"],
    valid: Float[Array, "B P"],
    *,
    inside: bool = False,
) -> Float[Array, " B"]:
    """Softmax cross-entropy of each query's positives, averaged or summed inside the logarithm.

    mean_p softplus(log_negatives - logit_p), or softplus(log_negatives - log sum_p exp(logit_p))

    Args:
      log_negatives: Log-sum-exp of the negatives' logits [B].
      positive_logits: Logits of each query's P positives [B, P].
      valid: Mask of the positives that exist [B, P].
      inside: Whether to sum positives inside the logarithm.

    Returns:
      One loss per query [B].
    """
    if positive_logits.shape[1] == 1:
        return jax.nn.softplus(log_negatives - positive_logits[:, 0])
    count = valid.sum(axis=1)
    if inside:
        together = jax.nn.logsumexp(jnp.where(valid, positive_logits, -jnp.inf), axis=1)
        return jax.nn.softplus(log_negatives - together)
    terms = jax.nn.softplus(log_negatives[:, None] - positive_logits)
    return jnp.where(valid, terms, 0.0).sum(axis=1) / count


def _mean_logit(batch, directions, temperature, positive):
    """Mean logit of everything in the softmax; label smoothing raises all of it equally."""
    total, count = positive[:, 0], jnp.ones(positive.shape[:1])
    for name in directions:
        total += batch.sum_negatives(scaled, temperature, direction=name)
        count += batch.count_negatives(name)
    return total / count


def _harder(similarities, scale, rows: TextInfo, chosen):
    bonus = rows.given["hardness"][:, None] * lax.stop_gradient(similarities)
    return similarities * scale + jnp.where(chosen, bonus, 0.0)


def _all_harder(similarities, scale, rows: TextInfo, columns: TextInfo):
    del columns
    return _harder(similarities, scale, rows, True)


def _in_batch_harder(similarities, scale, rows: TextInfo, columns: TextInfo):
    return _harder(similarities, scale, rows, ~masks.is_own(rows, columns))


def _own_harder(similarities, scale, rows: TextInfo, columns: TextInfo):
    return _harder(similarities, scale, rows, masks.is_own(rows, columns))


_HARDER = {"all": _all_harder, "in_batch": _in_batch_harder, "hard": _own_harder}

"""InfoNCE over the partition, in all its directions."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, Unpack

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from contrastive.losses import masks
from contrastive.losses.contrast import Contrast, Temperature, contrast
from contrastive.losses.directions import About, Direction
from contrastive.losses.pairs import Pairs
from contrastive.losses.partition import check_temperature, log_add, scaled

Directions: TypeAlias = Sequence[Sequence[Direction]]

FORWARD: Directions = (("query_to_document",),)
# CLIP's, and Jina's pairs: a softmax each way.
SYMMETRIC: Directions = (("query_to_document",), ("document_to_query",))
# SimCLR's two views: each text against all others.
TWO_VIEWS: Directions = (
    ("query_to_document", "query_to_query"),
    ("document_to_query", "document_to_document"),
)
# GTE's: one softmax over everything.
ALL_IN_ONE: Directions = (
    ("query_to_document", "query_to_query", "document_to_query", "document_to_document"),
)


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
    """InfoNCE, the softmax cross-entropy of the positive against the negatives.

    loss_i = -log( exp(s_i+ / t) / (exp(s_i+ / t) + sum_j- exp(s_ij / t)) )
           = softplus( log sum_j- exp(s_ij / t) - s_i+ / t )

    with s_ij = q_i . d_j. The second form keeps every digit of a small loss. Negatives are all
    documents but the query's own positives and those that the ids show to be false negatives: a
    positive's text again, another known positive, the positive of the same query in another row.

    >>> import jax.numpy as jnp
    >>> q, d = jnp.array([[1., 0.], [0., 1.]]), jnp.array([[1., 0.], [0., 1.]])
    >>> info_nce(q, d, temperature=1.0)  # log(1 + exp(0 - 1))
    Array([0.3132617, 0.3132617], dtype=float32)

    Args:
      queries: Embeddings [B, D]; normalise them for cosines.
      documents: Embeddings [B * group_size, D], query-major, the positives first in each group.
      temperature: Positive scalar, or one per query [B].
      directions: What is compared with what. The loss is the mean over the outer sequence of one
        softmax each, and a softmax is over all directions of an inner one: `FORWARD`, `SYMMETRIC`,
        `TWO_VIEWS`, `ALL_IN_ONE`, or others.
      margin: Taken off the positive's similarity.
      hardness: a in exp(a s_ij), which multiplies a negative in the softmax, without gradient. Of
        queries against documents alone.
      harder: Which negatives: all, other queries' documents, or the query's own hard negatives.
      label_smoothing: Share of the target that is spread over all kept documents.
      inside: Of several positives: whether their sum is one term, as in SupCon's L_in; else each is
        a term of its own, and they are averaged.
      **pairs: What is known of the texts, see `Pairs`.

    Returns:
      One loss a query [B], float32; 0 where every negative was masked.

    Raises:
      ValueError: For shapes that do not fit, no possible negative, or a temperature <= 0.

    Source:
      van den Oord et al., 2018, arXiv:1807.03748; temperature: Wu et al., 2018, arXiv:1805.01978;
      hardness: Lan et al., 2025, arXiv:2503.04812, and Schechter Vera et al., 2025,
      arXiv:2509.20354; margin: Wang et al., 2018, arXiv:1801.09414.
    """
    check_temperature(temperature)
    seen = contrast(queries, documents, several=True, **pairs)
    losses = [
        _one_softmax(
            seen,
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


def clip(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """Symmetric InfoNCE: the mean of queries against documents and documents against queries.

    Hard negatives count in the first direction alone, as in Jina Embeddings.

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: As in `info_nce`.
      **pairs: As in `info_nce`.

    Returns:
      One loss a query [B], float32.

    Source:
      Radford et al., 2021, arXiv:2103.00020; Günther et al., 2023, arXiv:2310.19923.
    """
    return info_nce(queries, documents, temperature=temperature, directions=SYMMETRIC, **pairs)


def gte(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """GTE's improved contrastive loss: one softmax over all four directions.

    Z_i = sum_j (e^(q_i.d_j/t) + e^(q_j.d_i/t)) + sum_j/=i (e^(q_i.q_j/t) + e^(d_j.d_i/t))

    The positive pair is in it twice, so that the loss is log 2 at least.

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: As in `info_nce`.
      **pairs: As in `info_nce`.

    Returns:
      One loss a query [B], float32.

    Source:
      Li et al., 2023, arXiv:2308.03281.
    """
    return info_nce(queries, documents, temperature=temperature, directions=ALL_IN_ONE, **pairs)


def nt_xent(
    first: Float[Array, "B D"],
    second: Float[Array, "B D"],
    *,
    temperature: Temperature,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """SimCLR's loss of two views: each of the 2 B texts against the 2 B - 1 others.

    Args:
      first: One view [B, D].
      second: The other [B, D].
      temperature: As in `info_nce`.
      **pairs: As in `info_nce`.

    Returns:
      One loss a pair [B], the mean of its two, float32.

    Source:
      Chen et al., 2020, arXiv:2002.05709.
    """
    return info_nce(first, second, temperature=temperature, directions=TWO_VIEWS, **pairs)


def _one_softmax(seen: Contrast, temperature, directions, *, hardness, margin, smoothing, inside):
    forth, back = (name in directions for name in ("query_to_document", "document_to_query"))
    if not forth and not back:
        raise ValueError(
            f"a softmax over {', '.join(directions)} holds no positive; add query_to_document or "
            "document_to_query"
        )
    strength, harder = hardness
    reweighted = not isinstance(strength, int | float) or strength != 0
    logits = {
        "logit": _HARDER[harder] if reweighted else None,
        "given": {"hardness": strength} if reweighted else None,
    }
    temperature = jnp.asarray(temperature, jnp.float32)
    # Hard negatives are known to query_to_document alone, and so is what makes them harder.
    negatives = [
        seen.log_negatives(temperature, direction=name, **(logits if name == _FIRST else {}))
        for name in directions
    ]
    positive = (seen.own_similarities - margin) / temperature[..., None]
    against = functools.reduce(log_add, negatives)
    # Where the pair itself is in both: log(2 e^p + e^n) - p = log 2 + softplus(n - log 2 - p).
    twice = math.log(2.0) if forth and back else 0.0
    loss = twice + cross_entropy(against - twice, positive, seen.own_valid, inside=inside)
    if isinstance(smoothing, int | float) and smoothing == 0:
        return loss
    return loss + smoothing * (
        positive[:, 0] - _mean_logit(seen, directions, temperature, positive)
    )


_FIRST = "query_to_document"


def cross_entropy(
    log_negatives: Float[Array, " B"],
    positive_logits: Float[Array, "B P"],
    valid: Float[Array, "B P"],
    *,
    inside: bool = False,
) -> Float[Array, " B"]:
    """Softmax cross-entropy of each query's positives, one at a time or together.

    mean_p softplus(log_negatives - logit_p), or softplus(log_negatives - log sum_p exp(logit_p))

    Args:
      log_negatives: Log-sum-exp of the negatives' logits [B].
      positive_logits: Of P positives [B, P].
      valid: Which of them there are [B, P].
      inside: Whether positives are summed inside the logarithm.

    Returns:
      One loss a query [B].
    """
    if positive_logits.shape[1] == 1:
        return jax.nn.softplus(log_negatives - positive_logits[:, 0])
    count = valid.sum(axis=1)
    if inside:
        together = jax.nn.logsumexp(jnp.where(valid, positive_logits, -jnp.inf), axis=1)
        return jax.nn.softplus(log_negatives - together)
    terms = jax.nn.softplus(log_negatives[:, None] - positive_logits)
    return jnp.where(valid, terms, 0.0).sum(axis=1) / count


def _mean_logit(seen, directions, temperature, positive):
    """Mean over everything the softmax is over; label smoothing draws all of it up alike."""
    total, count = positive[:, 0], jnp.ones(positive.shape[:1])
    for name in directions:
        total += seen.sum_negatives(scaled, temperature, direction=name)
        count += seen.count_negatives(name)
    return total / count


def _harder(similarities, scale, rows: About, chosen):
    bonus = rows.given["hardness"][:, None] * lax.stop_gradient(similarities)
    return similarities * scale + jnp.where(chosen, bonus, 0.0)


def _all_harder(similarities, scale, rows: About, columns: About):
    del columns
    return _harder(similarities, scale, rows, True)


def _in_batch_harder(similarities, scale, rows: About, columns: About):
    return _harder(similarities, scale, rows, ~masks.is_own(rows.query, columns.document))


def _own_harder(similarities, scale, rows: About, columns: About):
    return _harder(similarities, scale, rows, masks.is_own(rows.query, columns.document))


_HARDER = {"all": _all_harder, "in_batch": _in_batch_harder, "hard": _own_harder}

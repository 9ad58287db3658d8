"""InfoNCE's relatives: each a few lines over the partition of its negatives."""

from __future__ import annotations

from typing import Unpack

import jax.core
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from contrastive.losses.contrast import Temperature, contrast
from contrastive.losses.directions import About
from contrastive.losses.pairs import Pairs
from contrastive.losses.partition import check_temperature
from contrastive.losses.tiles import Axis


def decoupled(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """DCL: InfoNCE without the positive in the softmax's denominator.

    loss_i = log sum_j- exp(s_ij / t) - s_i+ / t

    Its gradient does not fade as the positive wins, which small batches need most. It has no lower
    bound.

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: As in `info_nce`.
      **pairs: As in `info_nce`.

    Returns:
      One loss a query [B], float32; 0 where there is no negative.

    Source:
      Yeh et al., 2021, arXiv:2110.06848.
    """
    seen = contrast(queries, documents, **pairs)
    return _difference(seen.log_negatives(temperature), seen.positive / temperature)


def decoupled_weighted(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    sigma: float = 0.5,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """DCLW: DCL with positives that lie far apart weighted up.

    loss_i = log sum_j- exp(s_ij / t) - w_i s_i+ / t
    w_i = 2 - exp(s_i+ / sigma) / mean_k exp(s_k+ / sigma)

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: As in `info_nce`.
      sigma: Of the weights; the mean in them is over the whole batch.
      **pairs: As in `info_nce`.

    Returns:
      One loss a query [B], float32; 0 where there is no negative.

    Source:
      Yeh et al., 2021, arXiv:2110.06848.
    """
    check_temperature(sigma, "sigma")
    seen = contrast(queries, documents, **pairs)
    axis_name = pairs.get("axis_name")
    top = lax.stop_gradient(seen.positive.max())
    top = top if axis_name is None else lax.pmax(top, axis_name)
    share = jnp.exp((seen.positive - top) / sigma)
    weight = 2.0 - share / batch_mean(share, axis_name)
    return _difference(seen.log_negatives(temperature), weight * seen.positive / temperature)


def hardest(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    top: int,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """HardContrastive: InfoNCE against the `top` most similar negatives alone.

    Negatives as similar as the last of them, to 1e-6, count too.

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: As in `info_nce`.
      top: How many negatives, at least 1.
      **pairs: As in `info_nce`.

    Returns:
      One loss a query [B], float32; 0 where there is no negative.

    Source:
      Wang & Liu, 2021, arXiv:2012.09740.
    """
    if top < 1:
        raise ValueError(f"top is {top}; the softmax needs 1 negative at least")
    check_temperature(temperature)
    seen = contrast(queries, documents, **pairs)
    least = seen.largest_negatives(top)[:, -1]
    least = least - 1e-6 * jnp.abs(least)
    negatives = seen.log_negatives(temperature, logit=_at_least, given={"least": least})
    return jax.nn.softplus(negatives - seen.positive / temperature)


def dual_temperature(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    ratio: float = 10.0,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """InfoNCE at one temperature, queries weighted as at another.

    loss_i = sg( (1 - p_i(ratio t)) / (1 - p_i(t)) ) (-log p_i(t)), p_i the positive's probability

    The low temperature decides among a query's negatives, the high one among queries.

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: t, as in `info_nce`.
      ratio: Of the other temperature to it.
      **pairs: As in `info_nce`.

    Returns:
      One loss a query [B], float32; 0 where there is no negative.

    Source:
      Zhang et al., 2022, arXiv:2203.17248.
    """
    check_temperature(temperature)
    check_temperature(ratio, "ratio")
    seen = contrast(queries, documents, **pairs)
    other = jnp.asarray(temperature) * ratio
    odds = seen.log_negatives(temperature) - seen.positive / temperature
    other_odds = seen.log_negatives(other) - seen.positive / other
    return jax.nn.sigmoid(lax.stop_gradient(other_odds)) * _unfading(odds)


def artanh(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature = 1.0,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """InfoNCE on artanh(s), which takes cosines to all of the real line: no temperature to choose.

    loss_i = softplus( log sum_j- exp(artanh(s_ij) / t) - artanh(s_i+) / t )

    Args:
      queries: Unit vectors [B, D].
      documents: Unit vectors, as in `info_nce`.
      temperature: 1 is the plain artanh; 0.5 the log-odds of (1 + s) / 2.
      **pairs: As in `info_nce`.

    Returns:
      One loss a query [B], float32; 0 where there is no negative.

    Source:
      Kim & Kim, 2025, arXiv:2501.17683.
    """
    check_temperature(temperature)
    seen = contrast(queries, documents, **pairs)
    negatives = seen.log_negatives(temperature, logit=_artanh_logit)
    return jax.nn.softplus(negatives - _artanh(seen.positive) / temperature)


def model_aware(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: float | Float[Array, ""],
    alpha: float = 0.5,
    alignment: float = 0.0,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """MACL: a temperature that rises as positives align, and hardness that does not fade.

    t' = t (1 + alpha (mean_i s_i+ - alignment)), loss_i = sg(1 / (1 - p_i)) (-log p_i) at t'

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: t, a positive scalar.
      alpha: How much it follows the alignment of the whole batch, which has no gradient.
      alignment: At which t' = t.
      **pairs: As in `info_nce`.

    Returns:
      One loss a query [B], float32; 0 where there is no negative.

    Source:
      Huang et al., 2023, arXiv:2207.07874.
    """
    check_temperature(temperature)
    seen = contrast(queries, documents, **pairs)
    aligned = batch_mean(lax.stop_gradient(seen.positive), pairs.get("axis_name"))
    _check_factor(alpha, alignment)
    temperature = temperature * (1.0 + alpha * (aligned - alignment))
    return _unfading(seen.log_negatives(temperature) - seen.positive / temperature)


def _check_factor(alpha, alignment) -> None:
    """Refuses what would make the temperature of unit vectors 0 or negative."""
    if any(isinstance(x, jax.core.Tracer) for x in (alpha, alignment)):
        return
    least = min(1.0 + alpha * (cosine - alignment) for cosine in (-1.0, 1.0))
    if least <= 0:
        raise ValueError(
            f"alpha {alpha:g} with alignment {alignment:g} can multiply the temperature by "
            f"{least:g}; it must stay positive for cosines from -1 to 1: lower alpha"
        )


def batch_mean(values: Float[Array, " B"], axis_name: Axis) -> Float[Array, ""]:
    """Mean over the queries of all devices."""
    mean = values.mean()
    return mean if axis_name is None else lax.pmean(mean, axis_name)


def _difference(negatives, positive):
    """0, with zero gradient, where there is no negative; NaN stays NaN."""
    some = negatives != -jnp.inf
    return jnp.where(some, jnp.where(some, negatives, 0.0) - positive, 0.0)


def _unfading(odds):
    """softplus(x) / sigmoid(x) with slope 1; where there is no negative as `_difference`."""
    some = odds != -jnp.inf
    odds = jnp.where(some, odds, 0.0)
    # Below -30 the ratio is 1 to float32's last digit, and further down it would be 0 / 0.
    held = lax.stop_gradient(jnp.maximum(odds, -30.0))
    ratio = jax.nn.softplus(held) / jax.nn.sigmoid(held)
    return jnp.where(some, ratio + (odds - lax.stop_gradient(odds)), 0.0)


def _at_least(similarities, scale, rows: About, columns):
    del columns
    return jnp.where(similarities < rows.given["least"][:, None], -jnp.inf, similarities * scale)


def _artanh_logit(similarities, scale, rows, columns):
    del rows, columns
    return _artanh(similarities) * scale


def _artanh(similarities):
    """With a finite value and slope at 1, where float32 says that two texts are the same."""
    return jnp.arctanh(jnp.clip(similarities, -1 + 1e-6, 1 - 1e-6))

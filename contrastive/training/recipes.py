"""From the config of a loss to the function that is minimised."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from contrastive import config, losses
from contrastive.losses.pairs import Pairs


class Given(NamedTuple):
    """What losses are given besides embeddings, each taking what it needs.

    Attributes:
      temperature: Of this step, or one a query.
      bias: SigLIP's.
      scores: Of each query's own documents [B, G], a teacher's or relevance.
      labels: Class of each query.
      log_average: SogCLR's, of each query and width.
    """

    temperature: Float[Array, ""] | Float[Array, " B"]
    bias: Float[Array, ""] | None = None
    scores: Float[Array, "B G"] | None = None
    labels: Int[Array, " B"] | None = None
    log_average: Float[Array, "B W"] | None = None


class Remembered(NamedTuple):
    """Losses of the queries, and the averages that are to be remembered of them.

    Attributes:
      losses: One a query.
      log_average: SogCLR's, of each query and width; None of other losses.
    """

    losses: Float[Array, " B"]
    log_average: Float[Array, "B W"] | None


Loss: TypeAlias = Callable[
    [Float[Array, "B D"], Float[Array, "N D"], Given, Pairs], Float[Array, " B"]
]
RememberingLoss: TypeAlias = Callable[
    [Float[Array, "B D"], Float[Array, "N D"], Given, Pairs], Remembered
]

_DIRECTIONS = {
    "forward": losses.FORWARD,
    "symmetric": losses.SYMMETRIC,
    "two_views": losses.TWO_VIEWS,
    "all_in_one": losses.ALL_IN_ONE,
}


def make_loss(wanted: config.Loss, *, renormalize: bool = True) -> RememberingLoss:
    """The loss a config describes, its teacher, regulariser and widths included.

    Args:
      wanted: The config.
      renormalize: Whether shortened embeddings are scaled to unit length.

    Returns:
      A function of queries [B, D], documents [B * G, D], what is given, and what is known of pairs.
    """
    if isinstance(wanted.function, config.SogCLR):
        return _sogclr(wanted.function, wanted, renormalize)
    loss = _forgetful(wanted, wanted.function, renormalize)
    return lambda *args: Remembered(loss(*args), None)


def _sogclr(function: config.SogCLR, wanted: config.Loss, renormalize: bool) -> RememberingLoss:
    """Every width has an average of its own."""
    options = _options(function)

    def called(queries, documents, given, pairs):
        def at(number, width):
            short = functools.partial(losses.prefix, width=width, renormalize=renormalize)
            average = given.log_average[:, number]
            shared = {"temperature": given.temperature, **options, **pairs}
            return losses.sogclr(short(queries), short(documents), average, **shared)

        widths = wanted.widths or queries.shape[1:]
        weights = wanted.width_weights or [1.0 / len(widths)] * len(widths)
        found = [at(number, width) for number, width in enumerate(widths)]
        terms = [weight * each.losses for weight, each in zip(weights, found, strict=True)]
        return Remembered(
            functools.reduce(operator.add, terms),
            jnp.stack([each.log_average for each in found], axis=1),
        )

    return called


def _forgetful(wanted: config.Loss, function: config.Forgetful, renormalize: bool) -> Loss:
    loss = _function(function)
    if wanted.distill is not None:
        loss = _distilled(loss, wanted.distill)
    if wanted.spread_out is not None:
        loss = _with_spread_out(loss, wanted.spread_out)
    if wanted.widths:
        weights = wanted.width_weights or None
        loss = losses.matryoshka(
            loss, widths=wanted.widths, weights=weights, renormalize=renormalize
        )
    return loss


def _function(wanted: config.Forgetful) -> Loss:
    match wanted:
        case config.InfoNCE():
            directions = _DIRECTIONS[wanted.directions]
            return _of_temperature(losses.info_nce, wanted, directions=directions)
        case config.Decoupled(sigma=None):
            return _of_temperature(losses.decoupled)
        case config.Decoupled():
            return _of_temperature(losses.decoupled_weighted, wanted)
        case config.HardNegative():
            return _of_temperature(losses.hard_negative, wanted)
        case config.Hardest():
            return _of_temperature(losses.hardest, wanted)
        case config.DualTemperature():
            return _of_temperature(losses.dual_temperature, wanted)
        case config.Artanh():
            return _of_pairs(losses.artanh, wanted)
        case config.ModelAware():
            return _of_temperature(losses.model_aware, wanted)
        case config.SupCon():
            return functools.partial(_sup_con, wanted.inside)
        case config.SigLIP():
            return _siglip
        case config.Triplet():
            return _of_pairs(losses.triplet, wanted)
        case config.AlignUniform():
            return _of_pairs(losses.align_uniform, wanted)
        case config.MarginMSE():
            return _margin_mse
        case config.Listwise():
            return functools.partial(_listwise, wanted.target)
        case config.CoSENT():
            return functools.partial(_cosent, losses.angle if wanted.angle else losses.cosent)


def _options(wanted: config.Config | None) -> dict[str, Any]:
    return {name: value for name, value in wanted or () if name != "kind"}


def _of_temperature(loss: Callable[..., Any], wanted: Any = None, **more: Any) -> Loss:
    options = _options(wanted) | more

    def called(queries, documents, given, pairs):
        return loss(queries, documents, temperature=given.temperature, **options, **pairs)

    return called


def _of_pairs(loss: Callable[..., Any], wanted: Any) -> Loss:
    def called(queries, documents, given, pairs):
        del given
        return loss(queries, documents, **_options(wanted), **pairs)

    return called


def _siglip(queries, documents, given, pairs):
    options = {"temperature": given.temperature, "bias": given.bias}
    return losses.siglip(queries, documents, **options, **pairs)


def _sup_con(inside, queries, documents, given, pairs):
    """A query and its document are two texts of one class; the loss is the mean of theirs."""
    spread = {name: pairs[name] for name in ("tile", "axis_name", "ring")}
    temperature = given.temperature
    if jnp.ndim(temperature):
        temperature = jnp.tile(temperature, 2)
    found = losses.sup_con(
        jnp.concatenate([queries, documents]),
        jnp.tile(given.labels, 2),
        temperature=temperature,
        inside=inside,
        **spread,
    )
    return found.reshape(2, -1).mean(axis=0)


def _margin_mse(queries, documents, given, pairs):
    return losses.margin_mse(queries, documents, given.scores, **_own(pairs))


def _listwise(target, queries, documents, given, pairs):
    options = {"temperature": given.temperature, "target": target, **_own(pairs)}
    return losses.listwise(queries, documents, given.scores, **options)


def _cosent(loss, queries, documents, given, pairs):
    """Every document with its query is a pair; the loss is the batch's, once for each query."""
    group_size = given.scores.shape[1]
    pools = pairs.get("document_pools")
    found = loss(
        jnp.repeat(queries, group_size, axis=0),
        documents,
        given.scores.reshape(-1),
        temperature=given.temperature,
        valid=None if pools is None else pools >= 0,
        axis_name=pairs.get("axis_name"),
    )
    return found[::group_size]


def _own(pairs: Pairs) -> dict[str, Any]:
    """What a loss of each query's own documents takes of all that is known of pairs."""
    return {"document_pools": pairs.get("document_pools")}


def _distilled(hard: Loss, teacher: config.Distill) -> Loss:
    def called(queries, documents, given, pairs):
        scores = given.scores
        options = {
            "temperature": given.temperature,
            "teacher_temperature": teacher.temperature,
        }
        if teacher.kind == "m3":
            found = losses.distill_m3(queries, documents, scores, **options, **pairs)
            return teacher.weight * found
        soft = losses.distill_kl(queries, documents, scores, **options, **_own(pairs))
        return hard(queries, documents, given, pairs) + teacher.weight * soft

    return called


def _with_spread_out(loss: Loss, wanted: config.SpreadOut) -> Loss:
    weights = {"mean_weight": wanted.mean, "second_moment_weight": wanted.second_moment}

    def called(queries, documents, given, pairs):
        spread = losses.spread_out(queries, documents, **weights, **pairs)
        return loss(queries, documents, given, pairs) + wanted.weight * spread

    return called

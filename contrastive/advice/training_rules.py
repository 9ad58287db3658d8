"""Rules about problems other than the temperature: learning rate, data and short runs."""

from __future__ import annotations

import math

from contrastive.advice.observed import Finding, Observed, at, temperature_advice

_CHANGE = 0.05  # share of the first loss, or accuracy: a change beyond noise
_FALLEN = 0.2  # accuracy
_GOOD = 0.9  # accuracy that leaves little to gain
_COPIED = 0.25  # share of the queries with a near-duplicate of the positive among the negatives
_ALIKE = 0.99  # mean cosine of collapsed embeddings
_CROWDED = 0.9  # mean cosine of negatives above which all documents look like duplicates
_COARSE = 1e5  # logits of this size have a float32 resolution of 0.01
_EARLY = 20  # steps before which metrics reflect the initial encoder rather than training


def explain_away(run: Observed) -> Finding | None:
    """Returns a finding about a problem that must be solved before judging the temperature.

    Args:
      run: The logged data of the run.

    Returns:
      The finding of the first rule that applies, or None if none does.
    """
    return (
        _not_finite(run)
        or _too_early(run)
        or _risen(run)
        or _unlearned(run)
        or _collapsed(run)
        or _duplicates(run)
        or _not_learning(run)
    )


def _not_finite(run: Observed) -> Finding | None:
    if run.diverged_at is None:
        return None
    seen = f"step {run.diverged_at}: the loss, its gradient or the update is not finite"
    logit = run.last.get("largest_logit", 0.0)
    # Without normalization, large logits may come from long embeddings, not the temperature.
    if run.config.normalize and logit > _COARSE:
        return Finding(
            "low_temperature",
            f"{seen}, and {at(run)} logits are as large as {logit:.3g}: float32 is too coarse for "
            "their differences",
            temperature_advice(run, up=True, to="0.02 to 0.1"),
        )
    return Finding("learning_rate", seen, _slower(run, "the loss is finite at any temperature"))


def _slower(run: Observed, reason: str) -> str:
    return (
        f"lower optimizer.learning_rate (now {run.config.optimizer.learning_rate:g}), first by a "
        f"factor of ten, or increase warmup_steps. The temperature is not the cause: {reason}"
    )


def _too_early(run: Observed) -> Finding | None:
    has_diagnostics = {"effective_negatives", "saturated"} <= run.last.keys()
    if run.step >= _EARLY and has_diagnostics:
        return None
    seen = f"step {run.step} is the last logged step"
    return Finding("too_early", seen, f"try again after step {_EARLY}, with diagnostics logged")


def _risen(run: Observed) -> Finding | None:
    if len(run.comparable) < 2 or not _has_moved(run):
        return None
    if run.lowest <= run.start + _CHANGE * abs(run.start) + 0.02:
        return None
    reason = "only losses at comparable temperatures are compared"
    return Finding("learning_rate", f"the loss rose from {_losses(run)}", _slower(run, reason))


def _has_moved(run: Observed) -> bool:
    """Returns whether the gradient norm has changed; otherwise a rise in loss may be noise."""
    first, last = (run.comparable[n].get("grad_norm") or 0.0 for n in (0, -1))
    return not 0.5 < last / max(first, 1e-30) < 2.0


def _unlearned(run: Observed) -> Finding | None:
    """Detects training that lowers accuracy, also if losses are flat or not comparable."""
    before, accuracy = run.first.get("accuracy", 0.0), run.accuracy
    # Three standard deviations of the difference between one batch and the mean of a few.
    noise = 1.6 / math.sqrt(run.config.batch_size)
    ranks = run.config.loss.function.uses_negatives
    if not ranks or run.sources_take_turns or before - accuracy < max(_FALLEN, noise):
        return None
    seen = f"accuracy fell from {before:.0%} initially to {accuracy:.0%}"
    return Finding("learning_rate", seen, _slower(run, "accuracy does not depend on it"))


def _collapsed(run: Observed) -> Finding | None:
    alike = min(run.last.get("positive_cosine", 0.0), run.last.get("negative_cosine", 0.0))
    before = run.first.get("negative_cosine", 0.0)
    # The embeddings of some pretrained encoders are nearly equal before training.
    by_training = 1 - alike < (1 - before) / 2
    if not (run.config.normalize and alike > _ALIKE and run.accuracy < 0.5 and by_training):
        return None
    return Finding(
        "learning_rate",
        f"the embeddings have collapsed: the mean cosine is {alike:.4f} or more, and that of "
        f"negatives was {before:.4f} initially",
        _slower(run, "the loss pushes embeddings apart at any temperature"),
    )


def _duplicates(run: Observed) -> Finding | None:
    copied = run.last.get("copied", 0.0)
    crowded = run.last.get("negative_cosine", 0.0) > _CROWDED
    affected = run.config.loss.function.uses_negatives
    if not (run.config.normalize and affected and copied >= _COPIED) or crowded:
        return None
    return Finding(
        "duplicates",
        f"{copied:.0%} of the queries have a negative that nearly duplicates their positive, with "
        f"a cosine above 0.99, and {run.last.get('accuracy', math.nan):.0%} rank their positive "
        "first",
        "remove from the negatives texts that differ from the positive only in case, whitespace "
        "or punctuation, and texts that answer the query as well, or set "
        "loss.relative_to_positive to 0.95; the temperature only scales the damage",
    )


def _not_learning(run: Observed) -> Finding | None:
    before, accuracy = run.first.get("accuracy", 0.0), run.accuracy
    if run.compares:
        fallen = run.lowest < run.start - _CHANGE * abs(run.start)
        learned = fallen or accuracy - before > _CHANGE
    else:
        learned = accuracy > before
    if learned or accuracy >= _GOOD:
        return None
    losses = f"the loss went from {_losses(run)}, and " if run.compares else ""
    return Finding(
        "not_learning",
        f"{losses}accuracy went from {before:.1%} to {accuracy:.1%}",
        f"raise optimizer.learning_rate (now {run.config.optimizer.learning_rate:g}), train "
        "longer, or check that the positives answer their queries",
    )


def _losses(run: Observed) -> str:
    first, last = run.comparable[0], run.comparable[-1]
    where = f", both at temperature {run.temperature:.3g}" if run.is_scheduled else ""
    return (
        f"{first['loss']:.3g} at step {first['step']} to {last['loss']:.3g} at step "
        f"{last['step']}{where}"
    )


def raised(run: Observed) -> Finding | None:
    """Returns a finding if a run raised its temperature after steps that were not finite.

    Args:
      run: The logged data of the run.

    Returns:
      The finding, or None if the temperature was not raised.
    """
    if not run.raised:
        return None
    count, to = len(run.raised), run.raised[-1]
    often = "once" if count == 1 else f"{count} times"
    seen = (
        f"the temperature was raised {often}, from {run.raised_from:.3g} to {to:.3g}, after steps "
        "that were not finite"
    )
    rate = f"optimizer.learning_rate (now {run.config.optimizer.learning_rate:g})"
    if run.diverged_at is not None:
        seen = f"{seen}, but the run still diverged"
        return Finding("raised", seen, f"lower {rate} instead of changing the temperature")
    return Finding("raised", seen, f"start at loss.temperature={to:.3g}, or lower {rate}")

"""Rules about what is not the temperature's doing: the learning rate, the data, too short a run."""

from __future__ import annotations

import math

from contrastive.config.function import WITHOUT_NEGATIVES
from contrastive.lab.advice.observed import Finding, Observed, at, dial

_CHANGE = 0.05  # share of the first loss, or accuracy: what noise does not do
_FALLEN = 0.2  # accuracy
_GOOD = 0.9  # accuracy that leaves little to gain
_COPIED = 0.25  # share of the queries with nearly their positive among the negatives
_ALIKE = 0.99  # mean cosine of what should be apart
_CROWDED = 0.9  # mean cosine of negatives beyond which documents are near, copies or not
_COARSE = 1e5  # logits whose last digit in float32 is 0.01
_EARLY = 20  # steps, until which an encoder shows where it started and not what it was taught


def explain_away(run: Observed) -> Finding | None:
    """What makes a run's temperature not worth a look.

    Args:
      run: What is known of it.

    Returns:
      The first of these rules that applies; None where none does.
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
    # Only where embeddings have unit length is it the temperature that makes logits large.
    if run.config.normalize and logit > _COARSE:
        return Finding(
            "low_temperature",
            f"{seen}, and {at(run)} logits are as large as {logit:.3g}: float32 has no digits left "
            "for their differences",
            dial(run, up=True, to="0.02 to 0.1"),
        )
    return Finding("learning_rate", seen, _slower(run, "the loss is finite at any"))


def _slower(run: Observed, why: str) -> str:
    return (
        f"lower optimizer.learning_rate, by ten to begin with "
        f"({run.config.optimizer.learning_rate:g} now), or lengthen warmup_steps. The temperature "
        f"is not the cause: {why}"
    )


def _too_early(run: Observed) -> Finding | None:
    looked = {"effective_negatives", "saturated"} <= run.last.keys()
    if run.step >= _EARLY and looked:
        return None
    seen = f"step {run.step} is the last of which anything was logged"
    return Finding("too_early", seen, f"ask again after step {_EARLY}, with diagnostics logged")


def _risen(run: Observed) -> Finding | None:
    if len(run.comparable) < 2 or not _has_moved(run):
        return None
    if run.lowest <= run.start + _CHANGE * abs(run.start) + 0.02:
        return None
    why = "losses at one temperature are compared"
    return Finding("learning_rate", f"the loss rose from {_losses(run)}", _slower(run, why))


def _has_moved(run: Observed) -> bool:
    """Whether the gradient is another than at first: without it a loss rises by its noise."""
    first, last = (run.comparable[n].get("grad_norm") or 0.0 for n in (0, -1))
    return not 0.5 < last / max(first, 1e-30) < 2.0


def _unlearned(run: Observed) -> Finding | None:
    """What shows also where the temperature is too high for the loss to, or no loss compares."""
    before, accuracy = run.first.get("accuracy", 0.0), run.accuracy
    noise = 1.6 / math.sqrt(run.config.batch_size)  # three deviations of a batch's from a mean's
    ranks = not isinstance(run.config.loss.function, WITHOUT_NEGATIVES)
    if not ranks or run.sources_take_turns or before - accuracy < max(_FALLEN, noise):
        return None
    seen = f"accuracy fell from {before:.0%} at first to {accuracy:.0%}"
    return Finding("learning_rate", seen, _slower(run, "it has no part in accuracy"))


def _collapsed(run: Observed) -> Finding | None:
    alike = min(run.last.get("positive_cosine", 0.0), run.last.get("negative_cosine", 0.0))
    before = run.first.get("negative_cosine", 0.0)
    # Some pretrained encoders start with everything alike: training has not brought them there.
    brought_there = 1 - alike < (1 - before) / 2
    if not (run.config.normalize and alike > _ALIKE and run.accuracy < 0.5 and brought_there):
        return None
    return Finding(
        "learning_rate",
        f"all embeddings are alike: the mean cosine of negatives is {alike:.4f}, and was "
        f"{before:.4f} at first",
        _slower(run, "at any the loss pushes embeddings apart"),
    )


def _duplicates(run: Observed) -> Finding | None:
    copied = run.last.get("copied", 0.0)
    crowded = run.last.get("negative_cosine", 0.0) > _CROWDED
    spoilt = not isinstance(run.config.loss.function, WITHOUT_NEGATIVES)
    if not (run.config.normalize and spoilt and copied >= _COPIED) or crowded:
        return None
    return Finding(
        "duplicates",
        f"{copied:.0%} of the queries have a negative that is nearly their positive, by a cosine "
        f"above 0.99, and {run.last.get('accuracy', math.nan):.0%} rank their positive first",
        "remove copies that differ in case, spaces or marks, and texts that answer as well, from "
        "the negatives, or set loss.relative_to_positive to 0.95; temperature only decides how "
        "much they spoil",
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
        f"raise optimizer.learning_rate ({run.config.optimizer.learning_rate:g} now), train "
        "longer, or look whether positives answer their queries",
    )


def _losses(run: Observed) -> str:
    first, last = run.comparable[0], run.comparable[-1]
    where = f", both at temperature {run.temperature:.3g}" if run.is_scheduled else ""
    return (
        f"{first['loss']:.3g} at step {first['step']} to {last['loss']:.3g} at step "
        f"{last['step']}{where}"
    )


def raised(run: Observed) -> Finding | None:
    """That a run went on at a higher temperature after steps that were not finite.

    Args:
      run: What is known of it.

    Returns:
      How often and from what to what; None of one that did not.
    """
    if not run.raised:
        return None
    count, to = len(run.raised), run.raised[-1]
    often = "once" if count == 1 else f"{count} times"
    seen = (
        f"the temperature was raised {often}, from {run.raised_from:.3g} to {to:.3g}, after steps "
        "that were not finite"
    )
    rate = f"optimizer.learning_rate ({run.config.optimizer.learning_rate:g} now)"
    if run.diverged_at is not None:
        return Finding("raised", f"{seen}, to no avail", f"look at {rate}, not at the temperature")
    return Finding("raised", seen, f"start at loss.temperature={to:.3g}, or lower {rate}")

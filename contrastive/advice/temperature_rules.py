"""Rules about the temperature of a run.

The thresholds come from small runs that were made to fail; tests repeat these runs.
"""

from __future__ import annotations

import math

from contrastive.advice.observed import Finding, Observed, at, temperature_advice

_FLAT_SHARE = 0.8  # effective share of the negatives; 0.36 at the quickstart's best temperature
_TOP_10_SHARE, _TOP_1_SHARE = 0.85, 0.6  # shares of the gradient on the hardest negatives
_SATURATED_SHARE = 0.5  # share of the queries
_FEWEST_FOR_TOP_1, _FEWEST_FOR_TOP_10 = 10, 100  # negatives
_NARROW_COSINE = 0.4  # mean cosine of negatives
_HEALTHY_LOGIT_GAP = (
    10.0  # positive minus mean negative similarity in healthy runs, in temperatures
)


def judge(run: Observed) -> Finding | None:
    """Returns a finding about the temperature of a run.

    Args:
      run: The logged data of the run.

    Returns:
      The finding of the first rule that applies, or None if no change is needed.
    """
    if not run.config.loss.function.has_temperature:
        return _without_temperature(run)
    return (
        _not_normalized(run)
        or _low(run)
        or _high(run)
        or _at_limit(run)
        or _few_negatives(run)
        or _unseen(run)
    )


def _without_temperature(run: Observed) -> Finding:
    kind, losses = run.config.loss.function.short_name(), [row["loss"] for row in run.steps]
    seen = f"{kind} has no temperature; the loss went from {losses[0]:.3g} to {losses[-1]:.3g}"
    return Finding("no_temperature", seen, "nothing to change")


def _not_normalized(run: Observed) -> Finding | None:
    if run.config.normalize:
        return None
    positive, negative = (run.last.get(f"{x}_cosine", math.nan) for x in ("positive", "negative"))
    start = (positive - negative) / _HEALTHY_LOGIT_GAP
    begin = f"; otherwise begin at {start:.2g}, a tenth of this difference"
    return Finding(
        "not_normalized",
        "embeddings are not normalized, so their length acts as a temperature too: positives "
        f"score {positive:.3g} and negatives {negative:.3g} on average",
        f"set normalize=True with a temperature of 0.02 to 0.1{begin if start > 0 else ''}",
    )


def _low(run: Observed) -> Finding | None:
    who, share, limit = "one", run.last.get("top_negative_share", 0.0), _TOP_1_SHARE
    if run.negatives >= _FEWEST_FOR_TOP_10 and run.latest_details:
        who, share, limit = "ten", run.latest_details["top_10_share"], _TOP_10_SHARE
    saturated = run.last.get("saturated", 0.0)
    if run.negatives < _FEWEST_FOR_TOP_1 or share < limit or saturated < _SATURATED_SHARE:
        return None
    higher = temperature_advice(run, up=True, to=_some(run, 2, 5))
    return Finding(
        "low_temperature",
        f"{at(run)} {share:.0%} of the gradient falls on {who} of {run.negatives:,} negatives, and "
        f"{saturated:.0%} of the queries have almost no gradient",
        f"{higher}; or mask false negatives (loss.above_positive=0.1, loss.guide), which low "
        f"temperatures weight the most{_phase(run)}",
    )


def _high(run: Observed) -> Finding | None:
    share = run.last.get("effective_negatives", 0.0) / run.negatives
    if run.negatives < _FEWEST_FOR_TOP_1 or share < _FLAT_SHARE:
        return None
    return Finding(
        "high_temperature",
        f"{at(run)} the softmax is flat: effectively {share:.0%} of the {run.negatives:,} "
        "negatives share the gradient equally, however easy they are",
        f"{temperature_advice(run, up=False, to=_some(run, 1 / 2, 1 / 5))}{_phase(run)}",
    )


def _some(run: Observed, *factors: float) -> str:
    return " or ".join(f"{run.temperature * factor:.1g}" for factor in factors)


def _phase(run: Observed) -> str:
    return "; this covers only the current phase of the schedule" if run.is_scheduled else ""


def _at_limit(run: Observed) -> Finding | None:
    if run.limit is None:
        return None
    if run.is_at_lower_limit:
        reason = "the training loss prefers lower temperatures than retrieval does"
    else:
        reason = "the training loss prefers a higher temperature, or it has not left its start"
    return Finding(
        "at_limit",
        f"the learned temperature is at its {run.limit}, {run.temperature:.3g}",
        f"{reason}: compare with fixed temperatures (contrastive sweep) before moving the limit",
    )


def _few_negatives(run: Observed) -> Finding | None:
    if run.negatives >= _FEWEST_FOR_TOP_1:
        return None
    return Finding(
        "few_negatives",
        f"{at(run)} {run.last.get('effective_negatives', 0):.1f} of a query's {run.negatives} "
        f"negatives share the gradient, and one has {run.last.get('top_negative_share', 0):.0%} of "
        "it: with so few negatives, low and high temperatures look the same",
        "compare temperatures on held-out data (contrastive sweep)",
    )


def _unseen(run: Observed) -> Finding | None:
    """Only the detailed diagnostics show the share of ten negatives and near-duplicates."""
    if run.latest_details:
        return None
    return Finding(
        "too_early",
        f"{_state(run)}; but the hardest negatives have not been measured yet",
        "try again after the last step, or set detail_steps",
    )


def narrow(run: Observed) -> Finding | None:
    """Returns a finding if cosines lie in a narrow range, which needs no change.

    Args:
      run: The logged data of the run.

    Returns:
      The finding, or None if the range is not narrow.
    """
    mean = run.last.get("negative_cosine", 0.0)
    if not run.config.normalize or mean < _NARROW_COSINE:
        return None
    return Finding(
        "narrow_range",
        f"the mean cosine is {mean:.2f} for negatives and "
        f"{run.last.get('positive_cosine', math.nan):.2f} for positives: a narrow range, which is "
        "typical of low temperatures",
        "harmless for ranking, which depends only on the order; but choose thresholds on your own "
        "data, because a cosine of 0.5 has no meaning by itself",
    )


def healthy(run: Observed) -> Finding:
    """Returns a finding with the main numbers of a run that needs no change.

    Args:
      run: The logged data of the run.

    Returns:
      The finding.
    """
    return Finding("healthy", _state(run), "nothing to change")


def _state(run: Observed) -> str:
    loss = run.config.loss.function
    gradient = "the gradient"
    if loss.why_not_softmax():
        gradient = f"the gradient of InfoNCE, which {loss.short_name()} weights differently"
    return (
        f"{at(run)} {run.last.get('effective_negatives', 0):.0f} of {run.negatives:,} negatives "
        f"share {gradient}, {run.last.get('accuracy', math.nan):.0%} of the queries rank their "
        f"positive first, and {run.last.get('saturated', math.nan):.0%} have nothing left to learn"
    )

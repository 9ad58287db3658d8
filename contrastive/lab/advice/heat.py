"""Rules about the temperature of a run that nothing else explains.

The limits are those of small runs that were made to fail, which tests repeat.
"""

from __future__ import annotations

import math

from contrastive.config.function import WITHOUT_TEMPERATURE
from contrastive.lab.advice.observed import Finding, Observed, at, dial

_FLAT = 0.8  # share of the negatives that count in effect; 0.36 at the quickstart's best
_HANDFUL, _ONE = 0.85, 0.6  # of the gradient, on ten negatives, or on a single one
_SATURATED = 0.5  # share of the queries
_SOME, _MANY = 10, 100  # negatives: of fewer neither one nor ten are a handful
_NARROW = 0.4  # mean cosine of negatives
_SPREAD = 10.0  # positive above the mean negative, in temperatures, of healthy runs


def judge(run: Observed) -> Finding | None:
    """What a run shows of its temperature.

    Args:
      run: What is known of it.

    Returns:
      The first of these rules that applies; None where nothing needs to change.
    """
    if isinstance(run.config.loss.function, WITHOUT_TEMPERATURE):
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
    kind, losses = run.config.loss.function.kind, [row["loss"] for row in run.steps]
    seen = f"{kind} has no temperature; the loss went from {losses[0]:.3g} to {losses[-1]:.3g}"
    return Finding("no_temperature", seen, "nothing to change here")


def _not_normalized(run: Observed) -> Finding | None:
    if run.config.normalize:
        return None
    positive, negative = (run.last.get(f"{x}_cosine", math.nan) for x in ("positive", "negative"))
    start = (positive - negative) / _SPREAD
    begin = f"; or else begin at {start:.2g}, a tenth of how far they are apart"
    return Finding(
        "not_normalized",
        "embeddings are not normalised, so that their length is a temperature too: positives "
        f"score {positive:.3g} and negatives {negative:.3g} on average",
        f"set normalize=True with a temperature of 0.02 to 0.1{begin if start > 0 else ''}",
    )


def _low(run: Observed) -> Finding | None:
    who, share, limit = "one", run.last.get("top_negative_share", 0.0), _ONE
    if run.negatives >= _MANY and run.look:
        who, share, limit = "ten", run.look["top_10_share"], _HANDFUL
    saturated = run.last.get("saturated", 0.0)
    if run.negatives < _SOME or share < limit or saturated < _SATURATED:
        return None
    higher = dial(run, up=True, to=_some(run, 2, 5))
    return Finding(
        "low_temperature",
        f"{at(run)} {share:.0%} of the gradient is on {who} of {run.negatives:,} negatives, and "
        f"{saturated:.0%} of the queries have all but none",
        f"{higher}; or leave out false negatives (loss.above_positive=0.1, loss.guide), which are "
        f"the first to carry it{_phase(run)}",
    )


def _high(run: Observed) -> Finding | None:
    share = run.last.get("effective_negatives", 0.0) / run.negatives
    if run.negatives < _SOME or share < _FLAT:
        return None
    return Finding(
        "high_temperature",
        f"{at(run)} the softmax is flat: {share:.0%} of the {run.negatives:,} negatives count "
        "alike, however easy they are",
        f"{dial(run, up=False, to=_some(run, 1 / 2, 1 / 5))}{_phase(run)}",
    )


def _some(run: Observed, *factors: float) -> str:
    return " or ".join(f"{run.temperature * factor:.1g}" for factor in factors)


def _phase(run: Observed) -> str:
    return "; no other phase of the schedule was judged" if run.is_scheduled else ""


def _at_limit(run: Observed) -> Finding | None:
    if run.limit is None:
        return None
    why = {
        "minimum": "the training loss prefers lower temperatures than retrieval does",
        "maximum": "the training loss asks for a higher one, or has not left its start",
    }
    return Finding(
        "at_limit",
        f"the learned temperature is at its {run.limit}, {run.temperature:.3g}",
        f"{why[run.limit]}: compare with fixed ones (contrastive sweep) before moving the limit",
    )


def _few_negatives(run: Observed) -> Finding | None:
    if run.negatives >= _SOME:
        return None
    return Finding(
        "few_negatives",
        f"{at(run)} {run.last.get('effective_negatives', 0):.1f} of a query's {run.negatives} "
        f"negatives share the gradient, and one has {run.last.get('top_negative_share', 0):.0%} of "
        "it: so few do not show a low temperature from a high one",
        "compare temperatures on held-out data (contrastive sweep)",
    )


def _unseen(run: Observed) -> Finding | None:
    """Without a closer look nothing is known of ten negatives, nor of copies."""
    if run.look:
        return None
    return Finding(
        "too_early",
        f"{_state(run)}; but there was no closer look at the hardest negatives yet",
        "ask again after the last step, or set examine_steps",
    )


def narrow(run: Observed) -> Finding | None:
    """That cosines are in a narrow range, which asks for no change.

    Args:
      run: What is known of it.

    Returns:
      Where they are; None where the range is not narrow.
    """
    mean = run.last.get("negative_cosine", 0.0)
    if not run.config.normalize or mean < _NARROW:
        return None
    return Finding(
        "narrow_range",
        f"cosines of negatives are {mean:.2f} on average, of positives "
        f"{run.last.get('positive_cosine', math.nan):.2f}: a narrow range, as low temperatures "
        "leave it",
        "harmless for ranking, which only the order decides; but choose thresholds on your own "
        "data: 0.5 says nothing here",
    )


def healthy(run: Observed) -> Finding:
    """What a run shows that needs no change.

    Args:
      run: What is known of it.

    Returns:
      Its numbers.
    """
    return Finding("healthy", _state(run), "nothing to change")


def _state(run: Observed) -> str:
    return (
        f"{at(run)} {run.last.get('effective_negatives', 0):.0f} of {run.negatives:,} negatives "
        f"share the gradient, {run.last.get('accuracy', math.nan):.0%} of the queries rank their "
        f"positive first, and {run.last.get('saturated', math.nan):.0%} have nothing left to learn"
    )

"""The rule of thumb about temperature as code: what a run shows, and what to do about it.

The limits are those of runs of the quickstart that were made to fail, which tests repeat.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from contrastive.config import Experiment, Learned
from contrastive.config.function import WITHOUT_TEMPERATURE
from contrastive.errors import FolderError
from contrastive.training.workdir import load_config
from contrastive.training.writers import read_metrics

_RISEN = 1.05  # of the first loss: below a healthy learning rate's noise it does not go
_LEARNED = 0.05  # share of the first loss, or accuracy, that is gained at least
_FLAT = 0.8  # share of the negatives that count in effect; 0.36 at the quickstart's best
_HANDFUL = 0.85  # of the gradient, on ten negatives
_SATURATED = 0.5  # share of the queries
_TIED = 0.25  # share of the queries with a negative that scores as the positive does
_ALIKE = 0.99  # mean cosine of what should be apart
_NARROW = 0.4  # mean cosine of negatives
_COARSE = 1e5  # logits whose last digit in float32 is 0.01
_EARLY = 20  # steps, until which an encoder shows where it started and not what it was taught
_SPREAD = 10.0  # positive above the mean negative, in temperatures, of healthy runs


class Finding(NamedTuple):
    """One thing that a run shows.

    Attributes:
      cause: learning_rate, not_learning, duplicates, not_normalized, low_temperature,
        high_temperature, at_limit, narrow_range, no_temperature, too_early or healthy.
      seen: What was measured, with numbers.
      advice: What to change, or why nothing needs to.
    """

    cause: str
    seen: str
    advice: str


@dataclasses.dataclass(frozen=True)
class Observed:
    """What is known of a run.

    Attributes:
      config: Its settings.
      losses: Of each logged step, None where that, its gradient or its update was not finite.
      first: Metrics of the first logged step.
      last: The newest value of each metric.
    """

    config: Experiment
    losses: list[float | None]
    first: Mapping[str, float]
    last: Mapping[str, float]

    @property
    def negatives(self) -> int:
        """How many negatives a query has, before any is masked."""
        loss, group_size = self.config.loss, self.config.data.group_size
        queries = self.config.batch_size // loss.shards if loss.sees_other_documents else 1
        return max(queries * group_size - 1, 1)

    @property
    def temperature(self) -> float:
        """The newest."""
        return self.last.get("temperature", self.config.loss.temperature)


def advise(workdir: Path) -> list[Finding]:
    """What a finished, running or diverged run shows, the most important first.

    Args:
      workdir: Of `contrastive train` or `finetune`.

    Returns:
      Findings; one that says `healthy` where nothing needs to change.

    Raises:
      FolderError: If it is not the folder of a run, or nothing was logged yet.
    """
    return findings(observe(workdir))


def observe(workdir: Path) -> Observed:
    """Reads a run's config and metrics.

    Raises:
      FolderError: As `advise`.
    """
    config = load_config(workdir)
    rows: list[dict[str, Any]] = read_metrics(workdir / "metrics.jsonl")
    steps = [row for row in rows if "loss" in row]
    if not steps:
        raise FolderError(f"{workdir / 'metrics.jsonl'} holds no step yet; ask again later")
    last: dict[str, float] = {}
    for row in rows:
        last |= {name: value for name, value in row.items() if value is not None}
    losses = [None if row.get("finite") == 0 else row["loss"] for row in steps]
    return Observed(config, losses, steps[0], last)


def findings(run: Observed) -> list[Finding]:
    """The rules, in the order in which one explains away those after it.

    Args:
      run: What is known of it.

    Returns:
      Findings, the most important first.
    """
    if wrong := _learning_rate(run) or _too_early(run) or _not_learning(run) or _duplicates(run):
        return [wrong]
    if isinstance(run.config.loss.function, WITHOUT_TEMPERATURE):
        return [_without_temperature(run)]
    heat = _not_normalized(run) or _low(run) or _high(run) or _at_limit(run)
    found = [finding for finding in (heat, _narrow(run)) if finding]
    return found if heat else [_healthy(run), *found]


def _learning_rate(run: Observed) -> Finding | None:
    """Non-finite, risen or collapsed: these losses are finite as long as logits have digits."""
    rate = run.config.optimizer.learning_rate
    advice = (
        f"lower optimizer.learning_rate, by ten to begin with ({rate:g} now), or lengthen "
        "warmup_steps. The temperature is not the cause: the loss is finite at any"
    )
    known = [loss for loss in run.losses if loss is not None]
    logit = run.last.get("largest_logit", 0.0)
    if len(known) < len(run.losses) and logit > _COARSE:
        return Finding(
            "low_temperature",
            f"step {_step_of(run)} is not finite, and logits are as large as {logit:.3g} at "
            f"temperature {run.temperature:.3g}: float32 has no digits left for their differences",
            "raise loss.temperature; 0.02 to 0.1 for normalised embeddings",
        )
    if len(known) < len(run.losses):
        seen = f"step {_step_of(run)}: the loss, its gradient or the update is not finite"
        return Finding("learning_rate", seen, advice)
    if len(known) > 1 and max(known[1:]) > _RISEN * known[0] + 0.02 and _has_moved(run):
        seen = f"the loss rose from {known[0]:.3g} at first to {max(known[1:]):.3g}"
        return Finding("learning_rate", f"{seen}; it is {known[-1]:.3g} now", advice)
    alike = min(run.last.get("positive_cosine", 0), run.last.get("negative_cosine", 0))
    if run.config.normalize and alike > _ALIKE and run.last.get("accuracy", 1) < 0.5:
        seen = f"all embeddings are alike: the mean cosine of negatives is {alike:.4f}"
        return Finding("learning_rate", seen, advice)
    return None


def _has_moved(run: Observed) -> bool:
    """Whether the gradient is another than at first: without it a loss rises by its noise."""
    first, last = run.first.get("grad_norm") or 0.0, run.last.get("grad_norm", 0.0)
    return not 0.5 < last / max(first, 1e-30) < 2.0


def _step_of(run: Observed) -> int:
    return int(run.last["step"])


def _too_early(run: Observed) -> Finding | None:
    step, looked = _step_of(run), {"effective_negatives", "saturated"} <= run.last.keys()
    if step >= _EARLY and looked:
        return None
    seen = f"step {step} is the last of which anything was logged"
    return Finding("too_early", seen, f"ask again after step {_EARLY}, with diagnostics logged")


def _not_learning(run: Observed) -> Finding | None:
    known = [loss for loss in run.losses if loss is not None]
    gained = run.last.get("accuracy", 0) - run.first.get("accuracy", 0)
    if len(known) < 2 or known[-1] < (1 - _LEARNED) * known[0] or gained > _LEARNED:
        return None
    return Finding(
        "not_learning",
        f"in {_step_of(run)} steps the loss went from {known[0]:.3g} to {known[-1]:.3g} and "
        f"accuracy from {run.first.get('accuracy', 0):.1%} to {run.last.get('accuracy', 0):.1%}",
        f"raise optimizer.learning_rate ({run.config.optimizer.learning_rate:g} now), train "
        "longer, or look whether positives answer their queries",
    )


def _duplicates(run: Observed) -> Finding | None:
    tied, accuracy = run.last.get("tied", 0.0), run.last.get("accuracy", 1.0)
    if not run.config.normalize or tied < _TIED or accuracy > 0.6:
        return None
    return Finding(
        "duplicates",
        f"for {tied:.0%} of the queries a negative scores as the positive does, and only "
        f"{accuracy:.0%} rank it first: the positive's text, or nearly, is among the negatives",
        "remove copies that differ in case, spaces or marks from the negatives, or set "
        "loss.relative_to_positive to 0.95; temperature only decides how much they spoil",
    )


def _without_temperature(run: Observed) -> Finding:
    kind = run.config.loss.function.kind
    seen = f"{kind} has no temperature; the loss went from {run.losses[0]:.3g} to "
    return Finding("no_temperature", f"{seen}{run.losses[-1]:.3g}", "nothing to change here")


def _not_normalized(run: Observed) -> Finding | None:
    if run.config.normalize:
        return None
    apart = run.last.get("positive_cosine", 0.0) - run.last.get("negative_cosine", 0.0)
    start = max(apart, 1e-6) / _SPREAD
    return Finding(
        "not_normalized",
        "embeddings are not normalised, so that their length is a temperature too: positives "
        f"score {run.last.get('positive_cosine', math.nan):.3g} and negatives "
        f"{run.last.get('negative_cosine', math.nan):.3g} on average",
        f"set normalize=True with a temperature of 0.02 to 0.1; or else begin at {start:.2g}, a "
        "tenth of how far they are apart",
    )


def _low(run: Observed) -> Finding | None:
    handful, saturated = run.last.get("top_10_share"), run.last.get("saturated", 0.0)
    if handful is None or run.negatives < 100 or handful < _HANDFUL or saturated < _SATURATED:
        return None
    return Finding(
        "low_temperature",
        f"at temperature {run.temperature:.3g} ten of {run.negatives:,} negatives carry "
        f"{handful:.0%} of the gradient, and {saturated:.0%} of the queries have all but none",
        f"raise loss.temperature, to {_round(2 * run.temperature)} or "
        f"{_round(5 * run.temperature)}; or leave out false negatives (loss.above_positive=0.1, "
        "loss.guide), which are the first to be among the ten",
    )


def _high(run: Observed) -> Finding | None:
    share = run.last.get("effective_negatives", 0.0) / run.negatives
    if share < _FLAT or run.negatives < 10:
        return None
    return Finding(
        "high_temperature",
        f"at temperature {run.temperature:.3g} the softmax is flat: {share:.0%} of the "
        f"{run.negatives:,} negatives count alike, however easy they are",
        f"lower loss.temperature, to {_round(run.temperature / 2)} or "
        f"{_round(run.temperature / 5)}",
    )


def _at_limit(run: Observed) -> Finding | None:
    policy = run.config.loss.policy
    if not isinstance(policy, Learned):
        return None
    for name, limit in (("minimum", policy.minimum), ("maximum", policy.maximum)):
        if abs(math.log(run.temperature / limit)) < 0.01:
            return Finding(
                "at_limit",
                f"the learned temperature is at its {name}, {limit:g}",
                "the training loss prefers lower temperatures than retrieval does: compare with "
                "fixed ones (contrastive sweep) before moving the limit",
            )
    return None


def _narrow(run: Observed) -> Finding | None:
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


def _healthy(run: Observed) -> Finding:
    return Finding(
        "healthy",
        f"at temperature {run.temperature:.3g} {run.last.get('effective_negatives', 0):.0f} of "
        f"{run.negatives:,} negatives share the gradient, "
        f"{run.last.get('accuracy', math.nan):.0%} of the queries rank their positive first, and "
        f"{run.last.get('saturated', math.nan):.0%} have nothing left to learn",
        "nothing to change",
    )


def _round(value: float) -> str:
    return f"{value:.1g}"

"""Logs of runs with numbers that are known, for the adviser."""

import dataclasses

from contrastive import config
from contrastive.advice.advisor import findings
from contrastive.advice.observed import Observed

START = {"step": 1, "loss": 4.0, "accuracy": 0.1, "grad_norm": 1.0, "negative_cosine": 0.3}
HEALTHY = {
    "step": 90,
    "loss": 0.2,
    "temperature": 0.02,
    "accuracy": 0.98,
    "effective_negatives": 60.0,
    "saturated": 0.1,
    "top_negative_share": 0.2,
    "top_10_share": 0.5,
    "copied": 0.0,
    "grad_norm": 0.1,
}
FLAT = {"effective_negatives": 250.0}
"""What a temperature that is too high shows, of 255 negatives."""
PEAKED = {"top_10_share": 0.95, "saturated": 0.9}
"""And one that is too low."""
OSCILLATING = config.Oscillating(other=1.0, period=100)
LEARNED = config.Learned()


def observed(first=None, changes=None, diverged_at=None, **last):
    """A run of two lines: healthy but for what is said."""
    start = {"temperature": last.get("temperature", 0.02), **START, **(first or {})}
    settings = config.Experiment(name="x", batch_size=256).replace(**(changes or {}))
    return Observed(settings, [start, HEALTHY | last], diverged_at)


def of_losses(losses, temperatures=None, changes=None, **last):
    """A run with these losses every ten steps, a gradient that moves, and a loss that may not."""
    temperatures = temperatures or [0.02] * len(losses)
    rows = [
        {**HEALTHY, "step": 10 * n + 1, "loss": loss, "temperature": t, **last}
        for n, (loss, t) in enumerate(zip(losses, temperatures, strict=True))
    ]
    rows[0] |= {"grad_norm": 1.0}
    run = observed(changes={"loss.temperature": temperatures[0], **(changes or {})})
    return dataclasses.replace(run, log=rows)


def causes(run):
    return [finding.cause for finding in findings(run)]

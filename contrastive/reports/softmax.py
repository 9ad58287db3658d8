"""Decides which losses the report's figures of weights and gradients apply to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from contrastive.reports.study import Study, labeled
from contrastive.training.experiment import Experiment


def why_no_weights(experiment: Experiment) -> str:
    """Returns why the gradient does not weight the negatives of a query by exp(s / t).

    Args:
      experiment: The config of a setting.

    Returns:
      The reason, or an empty string if it does.
    """
    if not experiment.normalize:
        return "embeddings are not normalized, so similarities are not cosines"
    return experiment.loss.function.why_not_softmax()


def why_no_gradient(experiment: Experiment) -> str:
    """Returns why the gradient of a setting is not (1 - P_i+) r_ij / t as in the histograms.

    Args:
      experiment: The config of a setting.

    Returns:
      The reason, or an empty string if it is.
    """
    return why_no_weights(experiment) or experiment.loss.function.why_not_info_nce()


def left_out(studies: Sequence[Study], why: Callable[[Experiment], str], what: str) -> list[str]:
    """Describes the settings that a figure leaves out.

    Args:
      studies: The studies.
      why: Returns the reason to leave out a setting, or an empty string.
      what: What the figure shows.

    Returns:
      One sentence per reason.
    """
    settings = labeled(studies)
    by_reason: dict[str, list[str]] = {}
    for label, _, setting in settings:
        if reason := why(setting.config):
            by_reason.setdefault(reason, []).append(label)
    excluded = []
    for reason, labels in by_reason.items():
        which = "" if len(labels) == len(settings) else f" for {', '.join(labels)}"
        excluded.append(f"{what} is not shown{which}: {reason}.")
    return excluded

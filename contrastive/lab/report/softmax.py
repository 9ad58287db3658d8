"""Of which losses the report's pictures of the gradient are true, and why not of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from contrastive import config
from contrastive.lab.report.study import Study, labelled

# Within one query their negatives weigh as exp(s / t), whatever else scales the query.
_EXPONENTIAL = (config.InfoNCE, config.Decoupled, config.DualTemperature, config.SogCLR)


def why_no_weights(experiment: config.Experiment) -> str:
    """Why a query's negatives do not weigh as exp(s / t) in its gradient.

    Args:
      experiment: Of a setting.

    Returns:
      The reason; nothing where they do.
    """
    loss = experiment.loss
    if not experiment.normalize:
        return "embeddings are not normalised, and similarities no cosines"
    if loss.distill is not None and loss.distill.kind == "m3":
        return "a teacher's scores take the place of InfoNCE (distill.kind m3)"
    if not isinstance(loss.function, _EXPONENTIAL):
        return f"{loss.function.kind} weighs negatives in another way than InfoNCE"
    return _changed_by(loss.function, ("hardness", "label_smoothing"))


def why_no_gradient(experiment: config.Experiment) -> str:
    """Why the gradient of a setting is not (1 - P_i+) r_ij / t, as the histograms have it.

    Args:
      experiment: Of a setting.

    Returns:
      The reason; nothing where it is.
    """
    function = experiment.loss.function
    if reason := why_no_weights(experiment):
        return reason
    if not isinstance(function, config.InfoNCE):
        return f"{function.kind} weighs queries in another way than InfoNCE"
    if function.directions not in ("forward", "symmetric"):
        return f"directions {function.directions} puts other pairs into the same softmax"
    return _changed_by(function, ("margin",))


def left_out(
    studies: Sequence[Study], why: Callable[[config.Experiment], str], what: str
) -> list[str]:
    """Which settings a picture leaves out, a sentence a reason.

    Args:
      studies: All.
      why: The reason of a setting; nothing where it is drawn.
      what: The picture.

    Returns:
      Sentences.
    """
    found = labelled(studies)
    by_reason: dict[str, list[str]] = {}
    for label, _, setting in found:
        if reason := why(setting.config):
            by_reason.setdefault(reason, []).append(label)
    return [
        f"{what} is not drawn{'' if len(labels) == len(found) else ' of ' + ', '.join(labels)}: "
        f"{reason}."
        for reason, labels in by_reason.items()
    ]


def _changed_by(function: config.Function, names: Sequence[str]) -> str:
    used = [name for name in names if getattr(function, name, 0.0)]
    return f"{used[0]} changes the weights of {function.kind}" if used else ""

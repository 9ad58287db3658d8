"""What the README.md of an exported model says about its run."""

from __future__ import annotations

from pathlib import Path

from contrastive.interop.model_card import Training
from contrastive.losses._loss import Loss, Sum
from contrastive.sources._source import Source
from contrastive.training.experiment import Experiment


def training_facts(config: Experiment, examples: int, steps: int) -> Training:
    """Returns what a model card says about a run.

    Args:
      config: Config of the run.
      examples: Number of training examples.
      steps: Number of steps after which the exported parameters were taken.

    Returns:
      The facts, without scores.
    """
    return Training(
        name=config.name,
        base_model=getattr(config.model, "name", None) if config.model.is_pretrained else None,
        losses=_losses(config.loss.function),
        data=tuple(name for part in config.data.parts for name in _names(part.source)),
        examples=examples,
        steps=steps,
        batch_size=config.batch_size,
        learning_rate=config.optimizer.learning_rate,
        split=config.final_split,
        selected=not config.final_evaluators and config.selection is not None,
    )


def _losses(loss: Loss) -> dict[str, float]:
    if isinstance(loss, Sum):
        return {term.loss.short_name(): term.weight for term in loss.terms}
    return {loss.short_name(): 1.0}


def _names(source: Source) -> list[str]:
    """Returns names of a source without its folders, which are of no use to others."""
    path = getattr(source, "path", None)
    paths = (path,) if isinstance(path, str) else path or ()
    return [Path(name).name for name in paths] or [source.short_name()]

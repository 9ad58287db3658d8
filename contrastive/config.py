"""Configs for experiment files.

In addition to the configs below, this module exports all built-in parts: losses, temperature
policies, encoders, sources, evaluators and writers.
"""

from typing import Any

from contrastive.data.config import Data as Data
from contrastive.data.config import Mixture as Mixture
from contrastive.data.config import MixturePart as MixturePart
from contrastive.data.config import Pretrained as Pretrained
from contrastive.data.config import WordPiece as WordPiece
from contrastive.interop.guide import Guide as Guide
from contrastive.losses._loss import Loss
from contrastive.models._model import Model
from contrastive.settings import Config as Config
from contrastive.sources._source import Source
from contrastive.tasks._evaluator import Evaluator
from contrastive.temperature.policies._policy import Policy
from contrastive.training.experiment import Experiment as Experiment
from contrastive.training.objective import Objective as Objective
from contrastive.training.optimizer import Optimizer as Optimizer
from contrastive.writers._writer import Writer

BASES = (Loss, Policy, Model, Source, Evaluator, Writer)
"""Base classes of parts."""

_RENAMED = {"Part": "MixturePart"}


def _parts() -> dict[str, type[Any]]:
    return {
        part.__name__: part
        for base in BASES
        for part in base.known().values()
        if part.is_built_in()
    }


def __getattr__(name: str) -> Any:
    if name == "__all__":  # requested by `from contrastive.config import *`
        return __dir__()
    if name in _RENAMED:
        raise AttributeError(f"contrastive.config.{name} is now called {_RENAMED[name]}")
    if name.startswith("_") or name not in _parts():
        raise AttributeError(f"module 'contrastive.config' has no attribute {name!r}")
    return _parts()[name]


def __dir__() -> list[str]:
    configs = {n for n, x in globals().items() if isinstance(x, type) and issubclass(x, Config)}
    return sorted({*configs, *_parts()} - {base.__name__ for base in BASES})

"""Contrastive training of embedding models in JAX, with temperature as its first-class subject."""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from typing import Any as _Any

    from contrastive.api import advise as advise
    from contrastive.api import evaluate as evaluate
    from contrastive.api import report as report
    from contrastive.api import sweep as sweep
    from contrastive.api import train as train
    from contrastive.encoder import Encoder as Encoder
    from contrastive.runs import Report as Report
    from contrastive.runs import Run as Run
    from contrastive.runs import SweepTable as SweepTable
    from contrastive.runs import load_run as load_run
    from contrastive.runs import load_sweep as load_sweep
    from contrastive.tables import Scores as Scores
    from contrastive.tables import Table as Table
    from contrastive.training.build import BuiltRun as BuiltRun
    from contrastive.training.build import build as build
    from contrastive.training.experiment import Experiment as Experiment
    from contrastive.training.step import TrainState as TrainState
    from contrastive.types import Batch as Batch
    from contrastive.types import Tokens as Tokens

    __version__: str

# Imported on first use, so that `--help` does not wait for JAX.
_NAMES = {
    "contrastive.api": ("advise", "evaluate", "report", "sweep", "train"),
    "contrastive.encoder": ("Encoder",),
    "contrastive.runs": ("Report", "Run", "SweepTable", "load_run", "load_sweep"),
    "contrastive.tables": ("Scores", "Table"),
    "contrastive.training.build": ("BuiltRun", "build"),
    "contrastive.training.experiment": ("Experiment",),
    "contrastive.training.step": ("TrainState",),
    "contrastive.types": ("Batch", "Tokens"),
}
_ROOMS = (
    *("config", "errors", "losses", "models", "papers", "similarity", "sources", "tasks"),
    *("temperature", "writers"),
)
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> _Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("contrastive")
    if name in _ROOMS:
        return _importlib.import_module(f"contrastive.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'contrastive' has no attribute {name!r}")
    return getattr(_importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*_HOMES, *_ROOMS, "__version__"})

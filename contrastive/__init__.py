"""Contrastive training of embedding models in JAX, with temperature as a first-class thing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contrastive.config import Experiment as Experiment
    from contrastive.losses import cosine as cosine
    from contrastive.losses import info_nce as info_nce
    from contrastive.losses import log_partition as log_partition
    from contrastive.losses import normalize as normalize
    from contrastive.temperature import diagnose as diagnose
    from contrastive.temperature import summarize as summarize
    from contrastive.training.runner import run as run

# Imported when first used: the command line must not wait for JAX to say --help.
_HOMES = {
    "Experiment": "contrastive.config",
    "cosine": "contrastive.losses",
    "diagnose": "contrastive.temperature",
    "info_nce": "contrastive.losses",
    "log_partition": "contrastive.losses",
    "normalize": "contrastive.losses",
    "run": "contrastive.training.runner",
    "summarize": "contrastive.temperature",
}


_ROOMS = ("losses", "temperature")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"contrastive.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'contrastive' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_ROOMS})

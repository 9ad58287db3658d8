"""Writes metrics to Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from contrastive.lazy import optional
from contrastive.writers._writer import OpenWriter, Writer

__all__ = ["WandB"]


class WandB(Writer):
    """Logs to Weights & Biases; a resumed run of the same folder continues the same W&B run."""

    project: str | None = None
    """Name of the project; None uses the one set in the environment."""

    kind: ClassVar[str] = "wandb"

    def open(self, workdir: Path, name: str, resume_step: int) -> OpenWriter:
        del resume_step
        wandb = optional("wandb", "wandb")
        id_file = workdir / "wandb_id.txt"
        if not id_file.exists():
            id_file.write_text(wandb.util.generate_id())
        options = {"dir": workdir, "name": name, "project": self.project}
        return _Run(wandb.init(**options, id=id_file.read_text(), resume="allow"))


class _Run:
    def __init__(self, run: Any):
        self._run = run

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()

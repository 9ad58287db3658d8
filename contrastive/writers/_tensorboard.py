"""Writes metrics to TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from contrastive.lazy import optional
from contrastive.writers._writer import OpenWriter, Writer

__all__ = ["TensorBoard"]


class TensorBoard(Writer):
    """Writes TensorBoard event files to the folder tensorboard/ of the run."""

    kind: ClassVar[str] = "tensorboard"

    def open(self, workdir: Path, name: str, resume_step: int) -> OpenWriter:
        writer = optional("tensorboardX", "tensorboard").SummaryWriter
        folder = str(workdir / "tensorboard")
        return _EventFiles(writer(folder, purge_step=resume_step + 1))


class _EventFiles:
    def __init__(self, writer: Any):
        self._writer = writer

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()

"""Base class of metrics writers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from contrastive.parts import KIND, Part

__all__ = ["OpenWriter", "Writer"]


class OpenWriter(Protocol):
    """Receives the metrics of one run while it trains."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records the metrics of a step."""
        ...

    def close(self) -> None:
        """Flushes what is buffered, and closes the writer."""
        ...


class Writer(Part):
    """Base class of metrics writers, which send metrics to a service or to files.

    A subclass implements `open`:

        class Print(contrastive.writers.Writer):
            '''Prints the loss.'''

            def open(self, workdir, name, resume_step):
                return PrintedLoss()
    """

    package: ClassVar[str] = "contrastive.writers"

    def open(self, workdir: Path, name: str, resume_step: int) -> OpenWriter:
        """Opens the writer for one run.

        Args:
          workdir: Folder of the run.
          name: Name of the run.
          resume_step: Step from which the run resumes; later steps are logged again.

        Returns:
          The open writer, to which the metrics are written.

        Raises:
          ConfigError: If a package is missing; the message names the extra that installs it.
        """
        raise self._not_implemented("open")

    @classmethod
    def convert(cls, value: Any) -> Any:
        """Accepts the kind of a writer, such as `tensorboard`, which gives its default settings."""
        return {KIND: value} if isinstance(value, str) else value

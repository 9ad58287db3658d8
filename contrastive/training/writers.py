"""Where metrics go."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from contrastive.errors import ConfigError


class Writer(Protocol):
    """Takes metrics as they come."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records numbers of a step."""
        ...

    def close(self) -> None:
        """Makes sure that everything is kept."""
        ...


class JsonLines:
    """One line a logged step. A resumed run drops what was logged after its checkpoint.

    Args:
      path: The file.
      resume_step: Last step whose lines are kept.
    """

    def __init__(self, path: Path, resume_step: int):
        kept = [json.dumps(row) + "\n" for row in read_metrics(path) if row["step"] <= resume_step]
        partial = path.with_suffix(".partial")
        partial.write_text("".join(kept), encoding="utf-8")
        os.replace(partial, path)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 closed by close()

    def write(self, step: int, metrics: Mapping[str, float | list[float]]) -> None:
        # JSON has no NaN and no infinity; of lists there are none that are not finite.
        finite = {
            name: value if isinstance(value, list) or math.isfinite(value) else None
            for name, value in metrics.items()
        }
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics file; a last line cut short by a kill is left out."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return rows


class TensorBoard:
    """TensorBoard event files.

    Args:
      folder: Where to.
      resume_step: Steps after it are logged again.

    Raises:
      ConfigError: If tensorboardX is not installed.
    """

    def __init__(self, folder: Path, resume_step: int):
        try:
            from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ConfigError(
                'writers: tensorboard needs pip install "contrastive[tensorboard]"'
            ) from None
        self._writer = SummaryWriter(str(folder), purge_step=resume_step + 1)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WandB:
    """Weights & Biases.

    Args:
      folder: Where its files go; a resumed run in the same folder is the same run there.
      name: Of the run.

    Raises:
      ConfigError: If wandb is not installed.
    """

    def __init__(self, folder: Path, name: str):
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ConfigError('writers: wandb needs pip install "contrastive[wandb]"') from None
        id_file = folder / "wandb_id.txt"
        if not id_file.exists():
            id_file.write_text(wandb.util.generate_id())
        run_id = id_file.read_text()
        self._run = wandb.init(dir=folder, name=name, id=run_id, resume="allow")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


def open_writers(names: Sequence[str], workdir: Path, run: str, resume_step: int) -> list[Writer]:
    """The JSON-lines writer, and those asked for.

    Args:
      names: Any of `tensorboard` and `wandb`.
      workdir: The run's folder.
      run: Name of the run.
      resume_step: Step the run goes on from.

    Returns:
      Writers; close them at the end.
    """
    writers: list[Writer] = [JsonLines(workdir / "metrics.jsonl", resume_step)]
    if "tensorboard" in names:
        writers.append(TensorBoard(workdir / "tensorboard", resume_step))
    if "wandb" in names:
        writers.append(WandB(workdir, run))
    return writers

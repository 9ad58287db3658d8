"""Trains, evaluates and exports an experiment."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import jax

from contrastive.devices import distributed
from contrastive.devices.agreement import agree
from contrastive.devices.compilation import keep_compiled_programs
from contrastive.settings import flatten
from contrastive.training.build import build
from contrastive.training.checkpoints import Checkpoints
from contrastive.training.experiment import Experiment
from contrastive.training.loop import Loop
from contrastive.training.results import Results, finished, versions, write_results
from contrastive.training.runs import SingleRun
from contrastive.training.workdir import check, check_inputs, claimed

# Settings of JAX that change numbers or programs.
_JAX_SETTINGS = (
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_enable_x64",
    "jax_threefry_partitionable",
)


def train_experiment(
    config: Experiment,
    workdir: Path,
    *,
    model_folder: Path | None = None,
    overwrite: bool = False,
) -> Results | None:
    """Trains, evaluates and exports a run; resumes where an earlier call in the folder stopped.

    Args:
      config: Config of the run.
      workdir: Folder of the run; local, or shared by all processes.
      model_folder: Folder for the trained model; `model/` in `workdir` by default.
      overwrite: Whether to remove a run with another config or other inputs from the folder.

    Returns:
      The results, or None if the run was asked to stop before its end.

    Raises:
      DataError: If the data cannot be used; raised before training.
      FolderError: If the folder belongs to another config.
      DivergedError: If the loss or the gradient is not finite.
      SaveError: If a checkpoint cannot be written.
    """
    distributed.initialize()
    with distributed.announcing_failures():
        return _train(config, workdir, model_folder or workdir / "model", overwrite)


def _train(config: Experiment, workdir: Path, folder: Path, overwrite: bool) -> Results | None:
    agree("settings", _settings(config, workdir, folder, overwrite))
    keep_compiled_programs()
    check(workdir, config, overwrite=overwrite)  # before spending minutes on the data
    built = build(config)
    agree("data and models", built.inputs)
    if distributed.is_first():
        for notice in built.notices:
            print(f"contrastive: {notice}", file=sys.stderr)
    distributed.barrier("checked")  # all processes check the folder before one of them writes
    with contextlib.ExitStack() as stack:
        if distributed.is_first():
            stack.enter_context(claimed(workdir, config, built.inputs, overwrite=overwrite))
        distributed.barrier("claimed")
        check_inputs(workdir, built.inputs)
        if (results := finished(workdir, folder)) is not None:
            return results
        checkpoints = Checkpoints(workdir / "checkpoints", config.keep_checkpoints)
        stack.enter_context(checkpoints)
        run = SingleRun(config, built)
        loop = Loop(run, built.feed, built.evaluators, built.encoder, checkpoints, workdir)
        trained = loop.run()
        if not trained.finished:
            return None
        best = run.best(checkpoints, trained.state, trained.progress)
        return write_results(config, built, trained, best, workdir, folder)


def _settings(config: Experiment, workdir: Path, folder: Path, overwrite: bool) -> dict[str, Any]:
    """Returns what must be the same on all processes, and is known before the data is read."""
    packages = {f"the version of {name}": version for name, version in versions().items()}
    return {
        **flatten(config.model_dump(mode="json")),
        **packages,
        **{name: jax.config.values[name] for name in _JAX_SETTINGS},
        "the folder of the run": str(workdir.absolute()),
        "the folder of the model": str(folder.absolute()),
        "whether to overwrite": overwrite,
        "the number of processes": distributed.expected_processes(),
    }

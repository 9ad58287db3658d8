"""Trains, evaluates and exports an experiment."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from contrastive.devices import distributed
from contrastive.devices.compilation import keep_compiled_programs
from contrastive.training.build import build
from contrastive.training.checkpoints import Checkpoints
from contrastive.training.experiment import Experiment
from contrastive.training.loop import Loop
from contrastive.training.results import Results, finished, write_results
from contrastive.training.runs import SingleRun
from contrastive.training.workdir import check, check_inputs, claimed


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
    keep_compiled_programs()
    check(workdir, config, overwrite=overwrite)  # before spending minutes on the data
    built = build(config)
    if distributed.is_first():
        for notice in built.notices:
            print(f"contrastive: {notice}", file=sys.stderr)
    distributed.barrier("checked")  # all processes check the folder before one of them writes
    with contextlib.ExitStack() as stack:
        if distributed.is_first():
            stack.enter_context(claimed(workdir, config, built.inputs, overwrite=overwrite))
        distributed.barrier("claimed")
        check_inputs(workdir, built.inputs)
        folder = model_folder or workdir / "model"
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

"""The experiment runner: config in; trained, evaluated and exported model out."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import jax.numpy as jnp
from tqdm import tqdm

from contrastive.config import Experiment
from contrastive.evaluation.retrieval import evaluate
from contrastive.training import distributed
from contrastive.training.assemble import Parts, assemble
from contrastive.training.checkpoint import Checkpoints, Progress
from contrastive.training.compilation import keep_compiled_programs
from contrastive.training.finish import Results, finish
from contrastive.training.interrupt import Interrupt
from contrastive.training.log import Log
from contrastive.training.step import TrainState
from contrastive.training.workdir import check, check_inputs, claimed


def run(
    config: Experiment,
    workdir: Path,
    *,
    model_folder: Path | None = None,
    overwrite: bool = False,
) -> Results | None:
    """Trains, evaluates and exports; goes on where an earlier call in the folder stopped.

    Args:
      config: The run.
      workdir: Its folder; local, or shared by all processes.
      model_folder: Where the trained model goes; `model/` in its folder unless given.
      overwrite: Whether a run with another config, or other inputs, is removed from the folder.

    Returns:
      The results, or None when the run was asked to stop before its end.

    Raises:
      DataError: For data that cannot be used, before training.
      FolderError: For a folder that belongs to another config.
      DivergedError: If the loss or the gradient stops being finite.
      SaveError: If a checkpoint cannot be written.
    """
    distributed.initialize()
    keep_compiled_programs()
    check(workdir, config, overwrite=overwrite)  # before minutes go into data
    parts = assemble(config)
    if distributed.is_first():
        for notice in parts.notices:
            print(f"contrastive: {notice}", file=sys.stderr)
    distributed.barrier("checked")  # every process has looked before one writes
    with contextlib.ExitStack() as stack:
        if distributed.is_first():
            stack.enter_context(claimed(workdir, config, parts.inputs, overwrite=overwrite))
        distributed.barrier("claimed")
        check_inputs(workdir, parts.inputs)
        checkpoints = Checkpoints(workdir / "checkpoints", config.keep_checkpoints)
        stack.enter_context(checkpoints)
        state, progress, log = _train(config, parts, checkpoints, workdir)
        if int(state.step) < config.steps and not _is_over(config, progress):
            return None
        best = checkpoints.restore_best(state, progress)
        return finish(
            config, parts, best, progress, log, workdir, model_folder or workdir / "model"
        )


def _train(
    config: Experiment, parts: Parts, checkpoints: Checkpoints, workdir: Path
) -> tuple[TrainState, Progress, Log]:
    feed = parts.feed
    resumed = checkpoints.resume(parts.like)
    if resumed is None:
        # The first batch comes first: from then on others are made while programs compile.
        fed = feed.take(stop=False)
        state, progress = parts.init(), Progress()
    else:
        state, position, progress = resumed
        feed.seek(position)
        fed = feed.take(stop=False)
    step = int(state.step)
    log = Log(config, workdir, step, feed)
    with log, _bar(config, step) as bar, Interrupt() as interrupt:
        while step < config.steps and not fed.stop and not _is_over(config, progress):
            log_now = step == 0 or _due(step + 1, config.log_steps, config.steps)
            state, metrics = parts.train_step(state, fed.batch, jnp.asarray(log_now))
            step += 1
            log.note(step, metrics, fed.padding)
            # The next batch is made while the devices compute. From here on feed.position is the
            # place before that batch, which is the one that belongs to this state.
            fed = feed.take(interrupt.asked)
            if log_now:
                bar.set_postfix(log.write())
            if parts.validation and _due(step, config.eval_steps, config.steps):
                log.pause()
                scores = evaluate(parts.encoder, state.params["encoder"], parts.validation)
                scores = distributed.from_first(scores)
                log.write_scores(step, scores)
                progress = progress.after(scores[config.metric], step)
                if progress.best_step == step:
                    checkpoints.save_best(state)
                log.resume()
            over = step == config.steps or _is_over(config, progress)
            if over or _due(step, config.examine_steps, config.steps):
                log.pause()
                log.write_summary(step, parts.examine(state, fed.batch))
                log.resume()
            if _due(step, config.save_steps, config.steps):
                log.pause()
                checkpoints.save(state, feed.position, progress)
                log.resume()
            bar.update()
        log.pause()
        checkpoints.save(state, feed.position, progress)
        checkpoints.wait()
    return state, progress, log


def _due(step: int, every: int | None, last: int) -> bool:
    return step == last or (every is not None and step % every == 0)


def _is_over(config: Experiment, progress: Progress) -> bool:
    return config.patience is not None and progress.worse >= config.patience


def _bar(config: Experiment, step: int) -> tqdm:
    return tqdm(
        total=config.steps,
        initial=step,
        desc=config.name,
        unit=" steps",
        mininterval=0.1 if sys.stderr.isatty() else 10.0,
        disable=not distributed.is_first(),
    )

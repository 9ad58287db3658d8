"""The experiment runner: config in; trained, evaluated and exported model out."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
from tqdm import tqdm

from contrastive.config import Experiment
from contrastive.errors import DivergedError
from contrastive.evaluation.retrieval import evaluate
from contrastive.temperature.policies import Fixed, Learned
from contrastive.training import distributed
from contrastive.training.assemble import Parts, assemble
from contrastive.training.checkpoint import Checkpoints, Progress
from contrastive.training.compilation import keep_compiled_programs
from contrastive.training.feed import Fed
from contrastive.training.finish import Results, finish
from contrastive.training.interrupt import Interrupt
from contrastive.training.log import Log
from contrastive.training.step import TrainState
from contrastive.training.workdir import check, check_inputs, claimed

_MOST_RAISED = 3
_RAISED_BY = 2.0


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


class _Begun(NamedTuple):
    """Where training begins, or goes on.

    Attributes:
      state: Before the next step.
      progress: Of the evaluations.
      fed: The batch of that step.
      hotter: Whether the temperature was raised at this step.
    """

    state: TrainState
    progress: Progress
    fed: Fed
    hotter: bool = False


def _train(
    config: Experiment, parts: Parts, checkpoints: Checkpoints, workdir: Path
) -> tuple[TrainState, Progress, Log]:
    """To the end; after a step that is not finite again from before it, where a config says so."""
    begun = _begin(config, parts, checkpoints)
    while True:
        try:
            return _loop(config, parts, checkpoints, workdir, begun)
        except DivergedError as error:
            if config.on_divergence == "stop" or begun.progress.raised == _MOST_RAISED:
                raise
            begun = _begin_hotter(config, parts, checkpoints, error)


def _begin(config: Experiment, parts: Parts, checkpoints: Checkpoints) -> _Begun:
    """From the latest checkpoint, or the beginning; at the temperature it was raised to since."""
    resumed = checkpoints.resume(parts.like)
    if resumed is None:
        parts.feed.restart()
        # The first batch comes first: from then on others are made while programs compile.
        fed = parts.feed.take(stop=False)
        begun = _Begun(parts.init(), Progress(), fed)
    else:
        state, position, progress = resumed
        parts.feed.seek(position)
        begun = _Begun(state, progress, parts.feed.take(stop=False))
    times = checkpoints.raised()
    return _hotter(config, parts, begun, times) if times > begun.progress.raised else begun


def _begin_hotter(
    config: Experiment, parts: Parts, checkpoints: Checkpoints, error: DivergedError
) -> _Begun:
    """As `_begin`, at a temperature above the one that diverged; known to a run that is resumed."""
    checkpoints.wait()
    failed = _begin(config, parts, checkpoints)
    times = failed.progress.raised + 1
    begun = _hotter(config, parts, failed, times)
    before, after = (_temperature(config, parts, x.state) for x in (failed, begun))
    if after == before:  # the same steps would come to the same end
        raise DivergedError(
            f"{error} The temperature was not raised: it is at its maximum, {before:.4g}."
        ) from error
    checkpoints.save_raised(times)
    if distributed.is_first():
        print(
            f"contrastive: {str(error).split(';')[0]}. Going on from step "
            f"{int(begun.state.step)} at temperature {after:.4g}, raised for the {times}. time of "
            f"{_MOST_RAISED} at most",
            file=sys.stderr,
        )
    return begun


def _hotter(config: Experiment, parts: Parts, begun: _Begun, times: int) -> _Begun:
    """Raised so often in all; the checkpoint may know of some of the times already."""
    factor = _RAISED_BY ** (times - begun.progress.raised)
    policy = parts.program.objective(config).policy
    assert isinstance(policy, Fixed | Learned)
    params = begun.state.params
    params = {**params, "temperature": policy.scaled(params["temperature"], factor)}
    state = dataclasses.replace(begun.state, params=params)
    progress = dataclasses.replace(begun.progress, raised=times)
    return begun._replace(state=state, progress=progress, hotter=True)


def _loop(
    config: Experiment,
    parts: Parts,
    checkpoints: Checkpoints,
    workdir: Path,
    begun: _Begun,
) -> tuple[TrainState, Progress, Log]:
    feed = parts.feed
    state, progress, fed, hotter = begun
    step = int(state.step)
    log = Log(config, workdir, step, feed)
    with log, _bar(config, step) as bar, Interrupt() as interrupt:
        if hotter:
            log.write_raised(step, _temperature(config, parts, state))
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


def _temperature(config: Experiment, parts: Parts, state: TrainState) -> float:
    objective = parts.program.objective(config)
    return float(objective.scalars(state.params, state.step, state.memory)["temperature"])


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

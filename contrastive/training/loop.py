"""The training loop, which runs and sweeps share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import PyTree
from tqdm import tqdm

from contrastive.data.batches import Feed
from contrastive.devices import distributed
from contrastive.encoder import Encoder
from contrastive.errors import ConfigError, DivergedError
from contrastive.tasks._suite import Scores, Suite, flat
from contrastive.training.checkpoints import Checkpoints
from contrastive.training.divergence import Place, go_on_after, known_raises, write_raise
from contrastive.training.interrupt import Interrupt
from contrastive.training.log import Log
from contrastive.training.progress import Progress
from contrastive.training.runs import Runs


class Trained(NamedTuple):
    """Result of the training loop.

    Attributes:
      step: Number of updates made.
      state: State after these updates.
      progress: Progress of the evaluations.
      finished: Whether training is complete; otherwise it was asked to stop.
      seconds: Seconds of training in this session, excluding evaluations and checkpoints.
      waited: The part of `seconds` that was spent waiting for data.
    """

    step: int
    state: PyTree
    progress: Progress
    finished: bool
    seconds: float
    waited: float


class Loop:
    """Trains from the latest checkpoint, or from the beginning, to the end or an interrupt.

    Args:
      runs: The runs to train.
      feed: Batches.
      evaluators: Evaluators that select the best parameters.
      encoder: Encoder for the evaluators.
      checkpoints: Checkpoints of the runs.
      workdir: Folder that metrics are written to.
    """

    def __init__(
        self,
        runs: Runs,
        feed: Feed,
        evaluators: Suite,
        encoder: Encoder,
        checkpoints: Checkpoints,
        workdir: Path,
    ):
        self._runs = runs
        self._config = runs.experiment
        self._feed = feed
        self._evaluators = evaluators
        self._encoder = encoder
        self._checkpoints = checkpoints
        self._workdir = workdir

    def run(self) -> Trained:
        """Trains, and saves a checkpoint where it stops.

        Returns:
          The result.

        Raises:
          DivergedError: If a loss or gradient is not finite and training cannot continue.
          SaveError: If a checkpoint cannot be written.
        """
        place = known_raises(self._runs, self._checkpoints, self._resume())
        while True:
            result = self._train(place)
            if isinstance(result, Trained):
                return result
            place = go_on_after(result, self._runs, self._checkpoints, self._resume)

    def _resume(self) -> Place:
        """Restores the latest checkpoint, or starts from the beginning."""
        runs, feed = self._runs, self._feed
        restored = self._checkpoints.resume(runs.like())
        if restored is None:
            feed.restart()
            # Take the first batch before init, so that more are prepared while programs compile.
            batch = feed.take(stop=False)
            return Place(0, runs.init(), Progress.start(runs.count), batch)
        if distributed.is_first():
            print(
                f"contrastive: resuming at step {restored.step} of {self._config.steps}",
                file=sys.stderr,
            )
        feed.seek(restored.position)
        state = runs.restored(restored.state)
        runs.resume_best(self._checkpoints, restored.progress)
        batch = feed.take(stop=False)
        return Place(restored.step, state, restored.progress, batch)

    def _train(self, place: Place) -> Trained | DivergedError:
        config, runs, feed = self._config, self._runs, self._feed
        step, state, progress, batch, _ = place
        first = step
        log = Log(runs, self._workdir, step, feed)
        with log, self._bar(step) as bar, Interrupt() as interrupt:
            if place.raised:
                write_raise(log, runs, self._workdir, step, state)
            if step > progress.evaluated_step and self._evaluates_at(step):
                # The evaluation of this checkpoint failed in an earlier session.
                with log.paused():
                    progress = self._evaluate_or_save(step, state, progress, log)
            while step < config.steps and not batch.stop and not self._is_over(progress):
                log_now = step == 0 or self._due(step + 1, config.log_steps)
                state, metrics = runs.step(state, batch.batch, log_now)
                if step == first:
                    bar.set_postfix_str("", refresh=False)  # it is compiled
                step += 1
                distributed.at_step(step)
                sound = log.note(step, metrics, batch)
                # The next batch is prepared while the devices compute. From here on, feed.position
                # is the position before that batch, which belongs to this state.
                batch = feed.take(interrupt.asked)
                evaluate = self._evaluates_at(step)
                save = self._due(step, config.save_steps)
                detail = self._due(step, config.detail_steps)
                if sound and (log_now or evaluate or save or detail):
                    sound = log.is_sound()
                if not sound:
                    return log.diverged()
                if log_now:
                    bar.set_postfix(log.write(state))
                if evaluate or save or detail:
                    with log.paused():
                        if evaluate:
                            progress = self._evaluate_or_save(step, state, progress, log)
                        if detail or self._is_over(progress):
                            log.write_details(step, runs.describe(state, batch.batch), state)
                        if save:
                            self._save(step, state, progress)
                bar.update()
            if not log.is_sound():
                return log.diverged()
            log.pause()
            self._save(step, state, progress)
            self._checkpoints.wait()
        finished = step == config.steps or self._is_over(progress)
        return Trained(step, state, progress, finished, log.seconds, log.waited)

    def _evaluates_at(self, step: int) -> bool:
        return step > 0 and bool(self._evaluators) and self._due(step, self._config.eval_steps)

    def _evaluate_or_save(self, step: int, state: PyTree, progress: Progress, log: Log) -> Progress:
        """Evaluates; if an evaluator fails, the state is saved first, so that no step is lost."""
        try:
            return self._evaluate(step, state, progress, log)
        except Exception:
            self._save(step, state, progress)
            self._checkpoints.wait()
            raise

    def _evaluate(self, step: int, state: PyTree, progress: Progress, log: Log) -> Progress:
        """Scores every run, and saves the parameters of those that improved."""
        runs = self._runs
        scores: list[Scores | None] = [None] * runs.count
        for place in runs.alive(state):
            encoder = self._encoder.with_params(runs.encoder_params(state, place))
            scores[place] = distributed.from_first_nested(self._evaluators.scores(encoder))
        log.write_scores(step, [None if own is None else flat(own) for own in scores])
        values = [None if own is None else selected(own, self._config.selection) for own in scores]
        progress, improved = progress.after(values, step, self._config.patience)
        if any(improved):
            runs.save_best(self._checkpoints, step, state, improved)
        if distributed.is_first():
            tqdm.write(evaluation_line(step, values, progress, self._config.selection), sys.stderr)
        return progress

    def _save(self, step: int, state: PyTree, progress: Progress) -> None:
        self._checkpoints.save(step, self._runs.to_save(state), self._feed.position, progress)

    def _due(self, step: int, every: int | None) -> bool:
        return step == self._config.steps or (every is not None and step % every == 0)

    def _is_over(self, progress: Progress) -> bool:
        return progress.is_over(self._config.patience)

    def _bar(self, step: int) -> tqdm:
        runs = f", {self._runs.count} runs" if self._runs.count > 1 else ""
        # To say disable=False would overrule the environment's TQDM_DISABLE.
        hidden: dict[str, Any] = {} if distributed.is_first() else {"disable": True}
        return tqdm(
            total=self._config.steps,
            initial=step,
            desc=f"{self._config.name}{runs}",
            unit=" steps",
            postfix="compiling",  # until the first step was called
            mininterval=0.1 if sys.stderr.isatty() else 10.0,
            **hidden,
        )


def evaluation_line(
    step: int,
    values: Sequence[float | None],
    progress: Progress,
    selection: tuple[str, str] | None,
) -> str:
    """Describes an evaluation in one line.

    >>> progress = Progress(best=(0.75,), best_step=(10,), worse=(1,))
    >>> evaluation_line(20, [0.5], progress, ("dev", "nDCG@10"))
    'step 20: dev/nDCG@10 0.5000, best 0.7500 at step 10'

    Args:
      step: Step of the evaluation.
      values: The metric of each run that selects its best checkpoint; None if it was not evaluated.
      progress: Progress after the evaluation.
      selection: Evaluator and metric.
    """
    name = "/".join(selection or ())
    known = [value for value in values if value is not None]
    if not known:
        return f"step {step}: every run has diverged"
    if len(values) > 1:
        return f"step {step}: {name} {min(known):.4f} to {max(known):.4f}, {len(known)} runs"
    (best,), (best_step,) = progress.best, progress.best_step
    so_far = "" if best is None else f", best {best:.4f} at step {best_step}"
    return f"step {step}: {name} {known[0]:.4f}{so_far}"


def selected(scores: Scores, selection: tuple[str, str] | None) -> float:
    """Returns the value of the metric that selects the best checkpoint.

    Raises:
      ConfigError: If the evaluator has no such metric; the message names those that it has.
    """
    assert selection is not None
    evaluator, metric = selection
    if metric not in scores[evaluator]:
        raise ConfigError(
            f"is {evaluator}/{metric}, but {evaluator} has the metrics "
            f"{', '.join(scores[evaluator])}",
            field="select_best",
        )
    return scores[evaluator][metric]

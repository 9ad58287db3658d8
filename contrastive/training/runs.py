"""The interface that the training loop trains: one run, or several as one program."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from contrastive.training.build import BuiltRun
from contrastive.training.checkpoints import Checkpoints
from contrastive.training.experiment import Experiment
from contrastive.training.progress import Progress
from contrastive.training.step import Metrics, TrainState
from contrastive.types import Batch, Params


class Runs(Protocol):
    """One or more runs that take their steps together.

    Attributes:
      experiment: Config that the runs have in common.
      count: Number of runs.
    """

    experiment: Experiment
    count: int

    def init(self) -> PyTree:
        """Returns the initial state."""
        ...

    def step(self, state: PyTree, batch: Batch, diagnosing: bool) -> tuple[PyTree, Metrics]:
        """Takes a training step; donates the state."""
        ...

    def describe(self, state: PyTree, batch: Batch) -> Mapping[str, Any]:
        """Computes detailed diagnostics for the batch of the next step."""
        ...

    def is_sound(self, metrics: Metrics) -> bool:
        """Returns whether training can continue after a step with these metrics; waits for it."""
        ...

    def alive(self, state: PyTree) -> Sequence[int]:
        """Returns the indices of the runs that have not diverged."""
        ...

    def encoder_params(self, state: PyTree, place: int) -> Params:
        """Returns the encoder parameters of the run with an index."""
        ...

    def rows(
        self, values: Mapping[str, Any], state: PyTree
    ) -> Iterable[tuple[dict[str, Any], dict[str, Any]]]:
        """Splits metrics by run; yields the fields that identify a run in logs, and its values."""
        ...

    def names(self) -> Sequence[dict[str, Any]]:
        """Returns the fields that identify each run in logs; none for a single run."""
        ...

    def ended(self, state: PyTree) -> Mapping[int, tuple[int, dict[str, Any]]]:
        """Returns the runs that diverged, by index: the step, and the fields that identify them."""
        ...

    def like(self) -> PyTree:
        """Returns the structure that a saved state is restored to."""
        ...

    def to_save(self, state: PyTree) -> PyTree:
        """Converts the state to the saved form, which does not depend on the devices."""
        ...

    def restored(self, saved: PyTree) -> PyTree:
        """The inverse of `to_save`."""
        ...

    def save_best(
        self, checkpoints: Checkpoints, step: int, state: PyTree, improved: Sequence[bool]
    ) -> None:
        """Saves the parameters of the runs that improved."""
        ...

    def resume_best(self, checkpoints: Checkpoints, progress: Progress) -> None:
        """Restores the best parameters when training is resumed, if they are kept in memory."""
        ...


class SingleRun:
    """A single run.

    Args:
      experiment: Config of the run.
      built: Components of the run.
    """

    count = 1

    def __init__(self, experiment: Experiment, built: BuiltRun):
        self.experiment = experiment
        self._built = built
        self._batch_loss = built.functions.batch_loss(experiment)

    def init(self) -> TrainState:
        return self._built.init()

    def step(self, state: TrainState, batch: Batch, diagnosing: bool) -> tuple[TrainState, Metrics]:
        return self._built.train_step(state, batch, jnp.asarray(diagnosing))

    def describe(self, state: TrainState, batch: Batch) -> Mapping[str, Any]:
        return self._built.describe(state, batch)

    def is_sound(self, metrics: Metrics) -> bool:
        return bool(metrics["finite"])

    def alive(self, state: TrainState) -> Sequence[int]:
        del state
        return (0,)

    def encoder_params(self, state: TrainState, place: int) -> Params:
        del place
        return state.params["encoder"]

    def rows(
        self, values: Mapping[str, Any], state: TrainState
    ) -> Iterable[tuple[dict[str, Any], dict[str, Any]]]:
        del state
        yield {}, {name: np.asarray(x) for name, x in values.items() if name != "finite"}

    def names(self) -> Sequence[dict[str, Any]]:
        return ({},)

    def ended(self, state: TrainState) -> Mapping[int, tuple[int, dict[str, Any]]]:
        del state
        return {}

    def like(self) -> TrainState:
        return self._built.like

    def to_save(self, state: TrainState) -> TrainState:
        return state

    def restored(self, saved: TrainState) -> TrainState:
        return saved

    def save_best(
        self,
        checkpoints: Checkpoints,
        step: int,
        state: TrainState,
        improved: Sequence[bool],
    ) -> None:
        del improved
        checkpoints.save_best(step, state.params)

    def resume_best(self, checkpoints: Checkpoints, progress: Progress) -> None:
        """Does nothing: the best parameters are not kept in memory, as they may be large."""

    def temperature(self, state: TrainState) -> float:
        scalars = self._batch_loss.scalars(state.params, state.step, state.memory)
        return float(scalars["temperature"])

    def with_higher_temperature(self, state: TrainState, factor: float) -> TrainState:
        policy = self.experiment.loss.policy
        temperature = policy.scaled(state.params["temperature"], factor)
        return dataclasses.replace(state, params={**state.params, "temperature": temperature})

    def best(self, checkpoints: Checkpoints, state: TrainState, progress: Progress) -> Params:
        """Returns the best parameters; those of the state if nothing was evaluated."""
        if not progress.saved_step:
            return state.params
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, state.params)
        return checkpoints.restore_best(like, progress)

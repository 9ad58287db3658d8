"""Runs of a sweep as one program: the step of a single run, vmapped over states and settings."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from contrastive.devices.compilation import step_options
from contrastive.models.linen.embedder import init_params
from contrastive.sweeps.grid import Axes, Member
from contrastive.training.checkpoints import Checkpoints
from contrastive.training.experiment import Experiment
from contrastive.training.progress import Progress
from contrastive.training.run_functions import RunFunctions
from contrastive.training.step import Metrics, TrainState
from contrastive.types import Batch, Params

_MEMBERS = "members"
_TRACED = ("loss.", "optimizer.")
# A step computes 1 - b; with a traced float32 b, its relative error is 1e-3 at b = 0.99999.
_NOT_TRACED = ("optimizer.b1", "optimizer.b2")


class States(NamedTuple):
    """The states of M runs; the leading dimension of each array is M.

    Attributes:
      train: The training states.
      ended: The step at which each run diverged, or 0 [M].
    """

    train: TrainState
    ended: Int[Array, " M"]


class VmappedRuns:
    """Runs that differ only in numbers, for the training loop.

    Args:
      functions: The pure functions of the runs.
      experiment: The experiment that the runs share.
      members: The runs.
      traced: The fields in which the runs differ.
      mesh: The devices that the runs are distributed over; each run is on one device.
    """

    def __init__(
        self,
        functions: RunFunctions,
        experiment: Experiment,
        members: Sequence[Member],
        traced: Sequence[str],
        mesh: Mesh,
    ):
        self.experiment = experiment
        self.members = members
        self.count = len(members)
        self._functions = functions
        self._traced = tuple(traced)
        self._mesh = mesh
        self._best: PyTree = None
        self._steps: dict[bool, Any] = {}

    def init(self) -> States:
        """Returns the states before the first step."""
        start, module = self._functions.start, self._functions.embedder.module

        def begin(values, seed, params):
            encoder = init_params(module, jax.random.key(seed)) if params is None else params
            experiment = self.experiment.replace_unvalidated(values)
            return States(self._functions.init(experiment, encoder, seed), jnp.int32(0))

        mapped = jax.vmap(begin, in_axes=(0, 0, None))
        seeds = self._divided(np.array([member.init_seed for member in self.members], np.int32))
        return jax.jit(mapped, out_shardings=self._own)(self._values, seeds, start.params)

    def step(self, state: States, batch: Batch, diagnosing: bool) -> tuple[States, Metrics]:
        """Takes a step of every run; a run whose step is not finite keeps its previous state."""
        compiled = self._step(diagnosing)
        return compiled(self._values, state, self._shared(batch), self._guide_params)

    def describe(self, state: States, batch: Batch) -> Mapping[str, Any]:
        return self._described(self._values, state, self._shared(batch))

    def is_sound(self, metrics: Metrics) -> bool:
        """Returns True: if a run diverges, only that run stops."""
        del metrics
        return True

    def alive(self, state: States) -> Sequence[int]:
        ended = np.asarray(state.ended)
        return [place for place in range(self.count) if not ended[place]]

    def encoder_params(self, state: States, place: int) -> Params:
        return self._one(state.train.params["encoder"], place)

    def names(self) -> Sequence[dict[str, Any]]:
        return [{"member": member.number} for member in self.members]

    def rows(
        self, values: Mapping[str, Any], state: States
    ) -> Iterable[tuple[dict[str, Any], dict[str, Any]]]:
        on_host = {name: np.asarray(x) for name, x in values.items() if name != "finite"}
        names = self.names()
        for place in self.alive(state):
            yield names[place], {name: x[place] for name, x in on_host.items()}

    def ended(self, state: States) -> Mapping[int, tuple[int, dict[str, Any]]]:
        ended, names = np.asarray(state.ended), self.names()
        return {
            place: (int(ended[place]), names[place]) for place in range(self.count) if ended[place]
        }

    def like(self) -> PyTree:
        return self._on_host_like(jax.eval_shape(self.init))

    def to_save(self, state: States) -> PyTree:
        """Returns the arrays of the runs, without the padding that fills up the devices."""
        return jax.tree.map(lambda x: np.asarray(x)[: self.count], state)

    def restored(self, saved: PyTree) -> States:
        return jax.tree.map(self._divided, States(*saved))

    def save_best(
        self, checkpoints: Checkpoints, step: int, state: States, improved: Sequence[bool]
    ) -> None:
        encoders = state.train.params["encoder"]
        # Copies the parameters, because the next step donates the states.
        previous = jax.tree.map(jnp.copy, encoders) if self._best is None else self._best
        better = self._divided(np.array(improved))
        self._best = _choose(better, encoders, previous)
        checkpoints.save_best(step, self.to_save(self._best))

    def resume_best(self, checkpoints: Checkpoints, progress: Progress) -> None:
        if progress.saved_step:
            self._best = jax.tree.map(self._divided, self.best(checkpoints, progress))

    def best(self, checkpoints: Checkpoints, progress: Progress) -> PyTree:
        """Returns the best encoder parameters of all runs, on the host."""
        states = jax.eval_shape(self.init)
        like = self._on_host_like(states.train.params["encoder"])
        return checkpoints.restore_best(like, progress)

    def memory(self, batch: Batch, *, copies: int = 0) -> int:
        """Returns the bytes per device that a step needs, as reported by the compiler.

        Args:
          batch: Any batch.
          copies: Number of additional copies of the encoders' parameters.
        """
        states = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._own),
            jax.eval_shape(self.init),
        )
        lowered = self._step(True).lower(
            self._values, states, self._shared(batch), self._guide_params
        )
        planned = lowered.compile().memory_analysis()
        assert planned is not None
        leaves = jax.tree.leaves(states.train.params["encoder"])
        encoders = sum(x.size * x.dtype.itemsize for x in leaves)
        return (
            copies * encoders // self._mesh.size
            + planned.argument_size_in_bytes
            + planned.temp_size_in_bytes
            + planned.output_size_in_bytes
            - planned.alias_size_in_bytes
        )

    def _step(self, diagnosing: bool) -> Any:
        if diagnosing not in self._steps:
            self._steps[diagnosing] = self._compiled(diagnosing)
        return self._steps[diagnosing]

    def _compiled(self, diagnosing: bool) -> Any:
        def one(values, states, batch, guide_params):
            step = self._functions.step(self.experiment.replace_unvalidated(values), None)
            state, metrics = step(states.train, batch, diagnosing, guide_params)
            ending = (metrics["finite"] == 0) & (states.ended == 0)
            # The step count is part of the state, so it stops when a run ends.
            ended = jnp.where(ending, states.train.step + 1, states.ended)
            state = jax.tree.map(lambda a, b: jnp.where(ended > 0, b, a), state, states.train)
            return States(state, ended), metrics

        return jax.jit(
            jax.vmap(one, in_axes=(0, 0, None, None)),
            donate_argnums=1,
            out_shardings=self._own,
            compiler_options=step_options(),
        )

    @functools.cached_property
    def _described(self) -> Any:
        def one(values, states, batch):
            experiment = self.experiment.replace_unvalidated(values)
            return self._functions.describe(experiment, None)(states.train, batch)

        return jax.jit(jax.vmap(one, in_axes=(0, 0, None)), out_shardings=self._own)

    @property
    def _guide_params(self) -> Params | None:
        guide = self._functions.guide
        return None if guide is None else self._shared(guide.params)

    @property
    def _own(self) -> NamedSharding:
        """The sharding of per-run arrays."""
        return NamedSharding(self._mesh, PartitionSpec(_MEMBERS))

    def _shared(self, tree: PyTree) -> PyTree:
        """Replicates what all runs share on every device."""
        if self._mesh.size == 1:
            return tree
        return jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec()))

    @property
    def _values(self) -> dict[str, jax.Array]:
        return {
            name: self._divided(np.array([m.values[name] for m in self.members], np.float32))
            for name in self._traced
        }

    def _divided(self, of_each: np.ndarray) -> jax.Array:
        """Distributes per-run values, repeating the last one until the devices are full."""
        missing = -len(of_each) % self._mesh.size
        if missing:
            of_each = np.concatenate([of_each, np.repeat(of_each[-1:], missing, axis=0)])
        return jax.device_put(of_each, self._own)

    def _on_host_like(self, shapes: PyTree) -> PyTree:
        return jax.tree.map(lambda x: np.empty((self.count, *x.shape[1:]), x.dtype), shapes)

    def _one(self, stacked: PyTree, place: int) -> PyTree:
        """Returns the arrays of one run, on the first device."""
        return jax.device_put(jax.tree.map(lambda x: x[place], stacked), jax.devices()[0])


@jax.jit
def _choose(better: Array, new: PyTree, old: PyTree) -> PyTree:
    def choose(a, b):
        return jnp.where(better.reshape(-1, *[1] * (b.ndim - 1)), a, b)

    return jax.tree.map(choose, new, old)


def member_mesh() -> Mesh:
    """Returns a mesh of all devices to distribute runs over."""
    return jax.make_mesh((jax.device_count(),), (_MEMBERS,), axis_types=(AxisType.Auto,))


def traced_axes(base: Experiment, axes: Axes) -> list[str]:
    """Returns the swept fields that can differ within one program.

    The other fields determine shapes, data or the program itself, so that each of their values
    needs a separate program.

    Args:
      base: The experiment that the runs share.
      axes: The swept fields.

    Returns:
      A subset of the swept fields, in order.
    """
    return [
        name
        for name in axes
        if name.startswith(_TRACED) and name not in _NOT_TRACED and isinstance(base.at(name), float)
    ]

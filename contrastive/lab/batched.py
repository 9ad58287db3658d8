"""All runs of a sweep as one program: a run's own step, mapped over states and settings."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from contrastive.config import Experiment
from contrastive.lab.grid import Axes, Member
from contrastive.models.embedder import init_params
from contrastive.temperature.details import Summary
from contrastive.training.compilation import step_options
from contrastive.training.program import Program
from contrastive.training.step import Metrics, TrainState
from contrastive.types import Batch, Params

_MEMBERS = "members"


class States(NamedTuple):
    """All runs, each array with a first dimension of runs.

    Attributes:
      train: Their states.
      ended: The step of each that was not finite; 0 of those that go on.
    """

    train: TrainState
    ended: Int[Array, " M"]


_TRACED = ("loss.", "optimizer.")
# A step needs 1 - b, which for a traced b is rounded twice: by 1e-3 of itself at 0.99999.
_NOT_TRACED = ("optimizer.b1", "optimizer.b2")


@dataclasses.dataclass(frozen=True)
class Batched:
    """Some runs that differ in numbers alone.

    Attributes:
      program: Their pure functions.
      base: What they share.
      members: The runs.
      traced: The fields they differ in.
      mesh: Devices among which they are divided; each run is on one of them.
    """

    program: Program
    base: Experiment
    members: Sequence[Member]
    traced: tuple[str, ...]
    mesh: Mesh

    def init(self) -> States:
        """States before the first step."""
        start, module = self.program.start, self.program.embedder.module

        def begin(values, seed, params):
            encoder = init_params(module, jax.random.key(seed)) if params is None else params
            state = self.program.init(self.base.unchecked(values), encoder, seed)
            return States(state, jnp.int32(0))

        mapped = jax.vmap(begin, in_axes=(0, 0, None))
        seeds = self.divided(np.array([member.init_seed for member in self.members], np.int32))
        return jax.jit(mapped, out_shardings=self.own)(self._values, seeds, start.params)

    def step(self, *, diagnosing: bool) -> Callable[[States, Batch], tuple[States, Metrics]]:
        """Takes a step of every run; one that is not finite stays as it was before it."""
        compiled, guide_params = self._compiled(diagnosing), self._guide_params
        return lambda states, batch: compiled(
            self._values, states, self.shared_by_all(batch), guide_params
        )

    def examine(self, states: States, batch: Batch) -> Summary:
        """A closer look at every run's batch, each array with a first dimension of runs."""
        return self._examination(self._values, states, self.shared_by_all(batch))

    @functools.cached_property
    def _examination(self) -> Any:
        def one(values, states, batch):
            examination = self.program.examination(self.base.unchecked(values), None)
            return examination(states.train, batch)

        return jax.jit(jax.vmap(one, in_axes=(0, 0, None)), out_shardings=self.own)

    def memory(self, batch: Batch, *, copies: int = 0) -> int:
        """Bytes that a step takes of each device, by the compiler's own account.

        Args:
          batch: Any.
          copies: Of the encoders' parameters, kept besides.
        """
        compiled = self._compiled(diagnosing=True)
        states = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.own),
            jax.eval_shape(self.init),
        )
        lowered = compiled.lower(
            self._values, states, self.shared_by_all(batch), self._guide_params
        )
        planned = lowered.compile().memory_analysis()
        assert planned is not None
        leaves = jax.tree.leaves(states.train.params["encoder"])
        encoders = sum(x.size * x.dtype.itemsize for x in leaves)
        return (
            copies * encoders // self.mesh.size
            + planned.argument_size_in_bytes
            + planned.temp_size_in_bytes
            + planned.output_size_in_bytes
            - planned.alias_size_in_bytes
        )

    def _compiled(self, diagnosing: bool) -> Any:
        def one(values, states, batch, guide_params):
            step = self.program.step(self.base.unchecked(values), None)
            state, metrics = step(states.train, batch, diagnosing, guide_params)
            ending = (metrics["finite"] == 0) & (states.ended == 0)
            # The number of the step is the state's: one that has ended counts no further.
            ended = jnp.where(ending, states.train.step + 1, states.ended)
            state = jax.tree.map(lambda a, b: jnp.where(ended > 0, b, a), state, states.train)
            return States(state, ended), metrics

        return jax.jit(
            jax.vmap(one, in_axes=(0, 0, None, None)),
            donate_argnums=1,
            out_shardings=self.own,
            compiler_options=step_options(),
        )

    @property
    def _guide_params(self) -> Params | None:
        guide = self.program.guide
        return None if guide is None else self.shared_by_all(guide.params)

    @property
    def own(self) -> NamedSharding:
        """Where what each run has of its own lives."""
        return NamedSharding(self.mesh, PartitionSpec(_MEMBERS))

    def shared_by_all(self, tree: PyTree) -> PyTree:
        """Puts what all runs share on every device."""
        if self.mesh.size == 1:
            return tree
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    @property
    def _values(self) -> dict[str, jax.Array]:
        return {
            name: self.divided(np.array([m.values[name] for m in self.members], np.float32))
            for name in self.traced
        }

    def divided(self, of_each: np.ndarray) -> jax.Array:
        """Something of each run, the last again until the devices have equally many."""
        missing = -len(of_each) % self.mesh.size
        if missing:
            of_each = np.concatenate([of_each, np.repeat(of_each[-1:], missing, axis=0)])
        return jax.device_put(of_each, self.own)


def member_mesh() -> Mesh:
    """All devices, for runs to be divided among."""
    return jax.make_mesh((jax.device_count(),), (_MEMBERS,), axis_types=(AxisType.Auto,))


def traced_axes(base: Experiment, axes: Axes) -> list[str]:
    """The fields that can differ within one program.

    Others decide shapes, data or the program itself: each of their values is a program of its own.

    Args:
      base: What the runs share.
      axes: Swept fields.

    Returns:
      Some of the axes, in order.
    """
    return [
        name
        for name in axes
        if name.startswith(_TRACED) and name not in _NOT_TRACED and _are_real(base, name)
    ]


def _are_real(base: Experiment, name: str) -> bool:
    return isinstance(base.at(name), float)

"""Pure functions of a run: the initial state, a step, and detailed diagnostics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int

from contrastive.errors import ConfigError
from contrastive.interop.initial_model import InitialModel, LoadedGuide
from contrastive.models.linen.embedder import Embedder
from contrastive.training.batch_loss import BatchLoss
from contrastive.training.details import Describe, make_detailed_diagnostics
from contrastive.training.experiment import Experiment
from contrastive.training.optimizer import make_optimizer
from contrastive.training.step import Metrics, TrainState, init_state, make_train_step
from contrastive.types import Params


@dataclasses.dataclass(frozen=True)
class RunFunctions:
    """Pure functions of a config for given data.

    The floating-point settings of the loss and the optimizer may be traced.

    Attributes:
      start: Initial parameters by seed.
      embedder: Maps tokens to embeddings.
      group_size: Maximum number of documents per query, over all sources.
      examples: Number of training examples.
      guide: A frozen encoder; None without one.
    """

    start: InitialModel
    embedder: Embedder
    group_size: int
    examples: int
    guide: LoadedGuide | None

    def batch_loss(self, experiment: Experiment) -> BatchLoss:
        """Returns the objective for batches of this data.

        Raises:
          ConfigError: If settings do not fit the embeddings or the groups.
        """
        return make_batch_loss(experiment, self.group_size, self.embedder.module.width)

    def init(
        self, experiment: Experiment, encoder: Params, seed: Int[Array, ""] | int
    ) -> TrainState:
        """Returns the initial state for given initial parameters of the encoder."""
        optimizer = _optimizer(experiment)
        return init_state(encoder, self.batch_loss(experiment), optimizer, seed, self.examples)

    def step(
        self, experiment: Experiment, mesh: Mesh | None
    ) -> Callable[..., tuple[TrainState, Metrics]]:
        """Returns the training step; see `make_train_step`."""
        optimizer = _optimizer(experiment)
        guide = self.guide and self.guide.embedder
        return make_train_step(
            self.embedder,
            self.batch_loss(experiment),
            optimizer,
            mesh,
            guide,
            experiment.optimizer.frozen,
        )

    def describe(self, experiment: Experiment, mesh: Mesh | None) -> Describe:
        """Returns the detailed diagnostics; see `make_detailed_diagnostics`."""
        return make_detailed_diagnostics(self.embedder, self.batch_loss(experiment), mesh)


def _optimizer(experiment: Experiment) -> optax.GradientTransformation:
    policy = experiment.loss.policy
    scalars_rate = getattr(policy, "learning_rate", None) if policy.is_learned else None
    return make_optimizer(experiment.optimizer, experiment.steps, scalars_rate)


def make_batch_loss(experiment: Experiment, group_size: int, width: int) -> BatchLoss:
    """Binds an experiment's objective to its data and encoder.

    Args:
      experiment: The experiment.
      group_size: Maximum number of documents per query, over all sources.
      width: Width of the embeddings.

    Returns:
      The objective for batches.

    Raises:
      ConfigError: If a Matryoshka dimension exceeds the width of the embeddings, or the group size
        does not fit the loss.
    """
    objective, loss = experiment.loss, experiment.loss.function
    name = loss.short_name()
    if too_wide := [d for d in objective.matryoshka_dims if d > width]:
        raise ConfigError(
            f"contains {', '.join(map(str, too_wide))}, but embeddings have width {width}; remove "
            "larger dimensions",
            field="loss.matryoshka_dims",
        )
    if group_size < loss.smallest_group:
        raise ConfigError(
            f"is {group_size}, but {name} compares the documents of a query; set it to at least "
            f"{loss.smallest_group}",
            field="data.group_size",
        )
    if loss.largest_group is not None and group_size > loss.largest_group:
        raise ConfigError(
            f"is {group_size}, but {name} takes at most {loss.largest_group} documents per query; "
            f"set it to {loss.largest_group}",
            field="data.group_size",
        )
    return BatchLoss(
        objective,
        steps=experiment.steps,
        group_size=group_size,
        renormalize=experiment.normalize,
        source_temperatures=any(part.temperature is not None for part in experiment.data.parts),
    )

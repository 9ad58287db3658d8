"""A config's pure functions: the first state, and a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int

from contrastive import config
from contrastive.errors import ConfigError
from contrastive.interop.opening import Guide, Start
from contrastive.models.embedder import Embedder
from contrastive.temperature.policies import Fixed, Individual, Learned, Policy
from contrastive.temperature.schedules import Linear, Oscillating, WarmDown
from contrastive.training.examination import Examine, make_examination
from contrastive.training.objective import Objective
from contrastive.training.optimizer import make_optimizer
from contrastive.training.step import Metrics, TrainState, init_state, make_train_step
from contrastive.types import Params


@dataclasses.dataclass(frozen=True)
class Program:
    """What a config becomes for given data; numbers of its loss and optimizer may be traced.

    Attributes:
      start: First parameters, by seed.
      embedder: Tokens to embeddings.
      group_size: Most documents a query, of any source.
      examples: That are trained on.
      guide: A frozen encoder, None without one.
    """

    start: Start
    embedder: Embedder
    group_size: int
    examples: int
    guide: Guide | None

    def objective(self, experiment: config.Experiment) -> Objective:
        """What is minimised.

        Raises:
          ConfigError: For settings that do not fit the embeddings or the groups.
        """
        return make_objective(experiment, self.group_size, self.embedder.module.width)

    def init(
        self, experiment: config.Experiment, encoder: Params, seed: Int[Array, ""] | int
    ) -> TrainState:
        """The state before the first step, with the encoder's first parameters."""
        optimizer = _optimizer(experiment)
        return init_state(encoder, self.objective(experiment), optimizer, seed, self.examples)

    def step(
        self, experiment: config.Experiment, mesh: Mesh | None
    ) -> Callable[..., tuple[TrainState, Metrics]]:
        """As `make_train_step` makes it."""
        optimizer = _optimizer(experiment)
        guide = self.guide and self.guide.embedder
        return make_train_step(self.embedder, self.objective(experiment), optimizer, mesh, guide)

    def examination(self, experiment: config.Experiment, mesh: Mesh | None) -> Examine:
        """As `make_examination` makes it."""
        return make_examination(self.embedder, self.objective(experiment), mesh)


def _optimizer(experiment: config.Experiment) -> optax.GradientTransformation:
    policy = experiment.loss.policy
    scalars_rate = policy.learning_rate if isinstance(policy, config.Learned) else None
    return make_optimizer(experiment.optimizer, experiment.steps, scalars_rate)


def make_objective(experiment: config.Experiment, group_size: int, width: int) -> Objective:
    """The objective a config describes.

    Args:
      experiment: The config.
      group_size: Most documents a query, of any source.
      width: Of the embeddings.

    Returns:
      The objective.

    Raises:
      ConfigError: For Matryoshka widths that the embeddings do not have, or a group size that does
        not fit the loss.
    """
    loss = experiment.loss
    wide = [d for d in loss.widths if d > width]
    if wide:
        raise ConfigError(f"loss.widths are {wide}, but embeddings have width {width}")
    if isinstance(loss.function, config.MarginMSE | config.Listwise) and group_size < 2:
        raise ConfigError(
            f"{loss.function.kind} compares the documents of a query, but group_size is 1; raise it"
        )
    if isinstance(loss.function, config.SupCon) and group_size > 1:
        raise ConfigError(
            f"sup_con takes of each query one document of its class, but group_size is "
            f"{group_size}; make it 1"
        )
    policy, own = _policy(loss, experiment.steps), _have_temperatures(experiment.data.train)
    return Objective(policy, group_size, loss, experiment.normalize, own)


def _have_temperatures(train: config.Training) -> bool:
    parts = train.parts if isinstance(train, config.Mixture) else ()
    return any(part.temperature is not None for part in parts)


def _policy(loss: config.Loss, steps: int) -> Policy | Individual:
    match loss.policy:
        case config.Fixed():
            return Fixed(loss.temperature)
        case config.Linear(last=last, steps=own):
            return Linear(loss.temperature, last, own or steps)
        case config.Oscillating(other=other, period=period):
            return Oscillating(loss.temperature, other, period)
        case config.WarmDown(start=start, steps=own):
            return WarmDown(loss.temperature, start, own)
        case config.Learned(minimum=minimum, maximum=maximum):
            return Learned(loss.temperature, minimum, maximum)
        case config.Individual(minimum=minimum, maximum=maximum, learning_rate=rate):
            return Individual(loss.temperature, minimum, maximum, rate)

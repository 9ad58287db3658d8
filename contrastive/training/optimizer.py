"""AdamW for the encoder, Adam for the temperature."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import optax
from jaxtyping import PyTree

from contrastive.config import Optimizer
from contrastive.types import Params

_FROZEN = "frozen"


def make_schedule(config: Optimizer, steps: int) -> optax.Schedule:
    """Learning rate of each step: linear warm-up, then cosine, linear or no decay to zero.

    Args:
      config: Rate, warm-up and schedule.
      steps: Steps of the run.

    Returns:
      An optax schedule.
    """
    rate, left = config.learning_rate, max(steps - config.warmup_steps, 1)
    after = {
        "cosine": optax.cosine_decay_schedule(rate, left),
        "linear": optax.linear_schedule(rate, 0.0, left),
        "constant": optax.constant_schedule(rate),
    }[config.schedule]
    if not config.warmup_steps:
        return after
    # Step 0 already learns: the ramp ends at the full rate on the step after the warm-up.
    first = rate / (config.warmup_steps + 1)
    ramp = optax.linear_schedule(first, rate, config.warmup_steps)
    return optax.join_schedules([ramp, after], [config.warmup_steps])


def make_optimizer(config: Optimizer, steps: int) -> optax.GradientTransformation:
    """The optax chain of both parts of the one parameter tree.

    Clipping and decay are the encoder's alone: the temperature's gradient grows as 1/t^2, and must
    neither shrink the encoder's nor be decayed towards nothing in particular.

    Args:
      config: The optimizer's settings.
      steps: Steps of the run.

    Returns:
      A transformation of `{"encoder": ..., "temperature": ...}`.
    """
    schedule = make_schedule(config, steps)
    b1, b2, eps = config.b1, config.b2, config.eps
    clip = optax.identity()
    if config.max_grad_norm is not None:
        clip = optax.clip_by_global_norm(config.max_grad_norm)
    adamw = optax.adamw(
        schedule, b1=b1, b2=b2, eps=eps, weight_decay=config.weight_decay, mask=decays
    )
    adam = optax.adam(schedule, b1=b1, b2=b2, eps=eps)
    branches = {"encoder": optax.chain(clip, adamw), "temperature": adam}
    return optax.partition(
        {**branches, _FROZEN: optax.set_to_zero()}, functools.partial(by_part, frozen=config.frozen)
    )


def by_part(params: Params, frozen: Sequence[str] = ()) -> PyTree[str]:
    """Labels every parameter by the branch of the tree it is on, or as frozen."""

    def label(path, _):
        names = [str(getattr(key, "key", key)) for key in path]
        return _FROZEN if any(word in name for word in frozen for name in names) else names[0]

    return jax.tree_util.tree_map_with_path(label, params)


def decays(params: Params) -> PyTree[bool]:
    """Which parameters weight decay touches: matrices, but not embedding tables."""

    def one(path, x):
        return x.ndim > 1 and not any("embedding" in str(key) for key in path)

    return jax.tree_util.tree_map_with_path(one, params)

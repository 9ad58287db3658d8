"""AdamW for the encoder, Adam for temperature and bias."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from contrastive.config import Optimizer

_FROZEN, _DECAY, _KEEP = "frozen", "decay", "keep"
_LARGEST_STACKED = 1 << 20  # elements; stacking copies, which larger parameters would feel


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


def make_optimizer(
    config: Optimizer, steps: int, scalars_rate: float | None = None
) -> optax.GradientTransformation:
    """The optax chain of both parts of the one parameter tree.

    Clipping and decay are the encoder's alone: the temperature's gradient grows as 1/t^2, and must
    neither shrink the encoder's nor be decayed towards nothing in particular. It has
    a learning rate of its own: at an encoder's 1e-5 it would not move by a percent.

    Args:
      config: The optimizer's settings.
      steps: Steps of the run.
      scalars_rate: Highest learning rate of temperature and bias; None is the encoder's.

    Returns:
      A transformation of `{"encoder": ..., "temperature": ..., "bias": ...}`, the last optional.
    """
    schedule = make_schedule(config, steps)
    b1, b2, eps = config.b1, config.b2, config.eps
    clip = optax.identity()
    if config.max_grad_norm is not None:
        clip = optax.clip_by_global_norm(config.max_grad_norm)
    adamw = optax.adamw(
        schedule, b1=b1, b2=b2, eps=eps, weight_decay=config.weight_decay, mask=_decays
    )
    rate = config.learning_rate if scalars_rate is None else scalars_rate
    of_scalars = make_schedule(config.model_copy(update={"learning_rate": rate}), steps)
    adam = optax.adam(of_scalars, b1=b1, b2=b2, eps=eps)
    branches = {"encoder": optax.chain(clip, adamw), "temperature": adam, "bias": adam}
    parts = optax.partition({**branches, _FROZEN: optax.set_to_zero()}, _parts)
    return stacked(parts, functools.partial(group_of, frozen=config.frozen))


def group_of(path: tuple[Any, ...], x: Array, frozen: Sequence[str] = ()) -> str:
    """What an optimizer does with a parameter: `part/decay`, or `part/keep` without decay.

    Args:
      path: Of the parameter; its first name is the part.
      x: The parameter.
      frozen: Words; a parameter with one in its path is of the part `frozen`.

    Returns:
      The group. Weight decay touches matrices, but not embedding tables.
    """
    names = [str(getattr(key, "key", key)) for key in path]
    part = _FROZEN if any(word in name for word in frozen for name in names) else names[0]
    table = any("embedding" in name for name in names)
    return f"{part}/{_DECAY if x.ndim > 1 and not table else _KEEP}"


def stacked(
    inner: optax.GradientTransformation, group: Callable[[tuple[Any, ...], Array], str]
) -> optax.GradientTransformation:
    """Gives an optimizer all parameters of one shape and group as one array.

    An encoder has a hundred parameters and a dozen shapes: a step is compiled in half the time.

    Args:
      inner: Takes and gives a dict, by `group/shape`, or `group/path` of a large parameter.
      group: Of a path and a parameter.

    Returns:
      A transformation of any tree.
    """

    def names(tree):
        def one(path, x):
            alone = x.size > _LARGEST_STACKED
            last = jax.tree_util.keystr(path) if alone else "x".join(map(str, x.shape)) or "scalar"
            return f"{group(path, x)}/{last}"

        return [one(path, x) for path, x in jax.tree_util.tree_leaves_with_path(tree)]

    def stack(tree):
        found: dict[str, list[Array]] = {}
        for name, x in zip(names(tree), jax.tree.leaves(tree), strict=True):
            found.setdefault(name, []).append(x)
        return {name: jnp.stack(some) for name, some in found.items()}

    def unstack(arrays, like):
        rows = {name: iter(x) for name, x in arrays.items()}
        return jax.tree.unflatten(jax.tree.structure(like), [next(rows[n]) for n in names(like)])

    def update(updates, state, params=None):
        stacked_params = None if params is None else stack(params)
        new, state = inner.update(stack(updates), state, stacked_params)
        return unstack(new, updates), state

    return optax.GradientTransformation(lambda params: inner.init(stack(params)), update)


def _parts(stacks: dict[str, Array]) -> dict[str, str]:
    return {name: name.split("/")[0] for name in stacks}


def _decays(stacks: dict[str, Array]) -> PyTree[bool]:
    def one(path, _):
        return path[0].key.split("/")[1] == _DECAY

    return jax.tree_util.tree_map_with_path(one, stacks)

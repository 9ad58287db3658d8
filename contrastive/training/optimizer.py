"""AdamW for the encoder, and Adam for the temperature and other scalars of the loss."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from contrastive.lazy import jax, jnp, lax, optax
from contrastive.settings import Config, PositiveFloat32

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree

    from contrastive.types import Params

__all__ = ["Optimizer"]

_FROZEN, _DECAY, _KEEP = "frozen", "decay", "keep"
_LARGEST_STACKED = 1 << 20  # elements; stacking copies, which would be slow for larger parameters


class Optimizer(Config):
    """AdamW with warm-up, learning rate decay and gradient clipping."""

    learning_rate: PositiveFloat32 = 1e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate decays after the warm-up: along a cosine or a line, or not."""
    final_learning_rate: NonNegativeFloat = 0.0
    """Learning rate that a cosine or a line decays to."""
    warmup_steps: NonNegativeInt = 0
    """Number of steps of linear warm-up."""
    warmup_from_zero: bool = False
    """Start the warm-up at a learning rate of zero, as transformers does, so that the first step
    changes nothing; otherwise it starts one step above."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay of matrices; never applied to biases, norms, embeddings or the
    temperature."""
    b1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay rate of the first moment."""
    b2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay rate of the second moment."""
    eps: PositiveFloat = 1e-8
    """Constant added to the denominator of the update."""
    max_grad_norm: PositiveFloat | None = 1.0
    """Maximum global norm of the encoder's gradient; None does not clip."""
    frozen: tuple[str, ...] = ()
    """Parameters to freeze: those whose path contains one of these words."""


def make_schedule(config: Optimizer, steps: int) -> optax.Schedule:
    """Creates the learning rate schedule: linear warm-up, then cosine, linear or no decay.

    Args:
      config: Learning rates, warm-up and schedule.
      steps: Number of steps of the run.

    Returns:
      An optax schedule.
    """
    rate, final = config.learning_rate, config.final_learning_rate
    left = max(steps - config.warmup_steps, 1)
    after = {
        "cosine": optax.cosine_decay_schedule(rate, left, alpha=final / rate),
        "linear": optax.linear_schedule(rate, final, left),
        "constant": optax.constant_schedule(rate),
    }[config.schedule]
    if not config.warmup_steps:
        return after
    # Either way, the ramp reaches the full rate on the step after the warm-up.
    first = 0.0 if config.warmup_from_zero else rate / (config.warmup_steps + 1)
    ramp = optax.linear_schedule(first, rate, config.warmup_steps)
    return optax.join_schedules([ramp, after], [config.warmup_steps])


def make_optimizer(
    config: Optimizer, steps: int, scalars_rate: float | None = None
) -> optax.GradientTransformation:
    """Creates the optimizer of the encoder and of the scalars of the loss.

    Clipping and weight decay apply only to the encoder. The temperature's gradient grows as 1/t^2
    and must not shrink the encoder's, and decaying the temperature toward zero has no meaning. The
    temperature has its own learning rate, as an encoder's 1e-5 would move it by less than 1%.

    Args:
      config: Optimizer settings.
      steps: Number of steps of the run.
      scalars_rate: Peak learning rate of temperature and bias; None uses the encoder's.

    Returns:
      A transformation of `{"encoder": ..., "temperature": ..., "loss": ...}`; "loss" is optional.
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
    branches = {"encoder": optax.chain(clip, adamw), "temperature": adam, "loss": adam}
    parts = optax.partition({**branches, _FROZEN: optax.set_to_zero()}, _parts)
    return stacked(parts, functools.partial(group_of, frozen=config.frozen))


def group_of(path: tuple[Any, ...], x: Array, frozen: Sequence[str] = ()) -> str:
    """Returns the optimizer group of a parameter: `part/decay`, or `part/keep` without decay.

    Args:
      path: Path of the parameter; its first name is the part.
      x: The parameter.
      frozen: Words; a parameter whose path contains one belongs to the part `frozen`.

    Returns:
      The group. Weight decay applies to matrices, but not to embedding tables.
    """
    names = _names(path)
    part = _FROZEN if _is_frozen(names, frozen) else names[0]
    table = any("embedding" in name for name in names)
    return f"{part}/{_DECAY if x.ndim > 1 and not table else _KEEP}"


def without_frozen(params: Params, frozen: Sequence[str]) -> Params:
    """Stops the gradient of frozen parameters, which then has no part in any norm.

    Args:
      params: Parameters of the encoder.
      frozen: Words; a parameter whose path contains one is frozen.

    Returns:
      The same parameters.
    """
    if not frozen:
        return params

    def stop(path, x):
        return lax.stop_gradient(x) if _is_frozen(_names(path), frozen) else x

    return jax.tree_util.tree_map_with_path(stop, params)


def _names(path: tuple[Any, ...]) -> list[str]:
    return [str(getattr(key, "key", key)) for key in path]


def _is_frozen(names: Sequence[str], frozen: Sequence[str]) -> bool:
    return any(word in name for word in frozen for name in names)


def stacked(
    inner: optax.GradientTransformation, group: Callable[[tuple[Any, ...], Array], str]
) -> optax.GradientTransformation:
    """Applies an optimizer to parameters that are stacked by shape and group.

    An encoder has about a hundred parameters but only a dozen shapes, so stacking halves the
    compilation time of a step.

    Args:
      inner: Transformation of a dict with keys `group/shape`, or `group/path` for a large
        parameter.
      group: Maps a path and a parameter to its group.

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
        by_name: dict[str, list[Array]] = {}
        for name, x in zip(names(tree), jax.tree.leaves(tree), strict=True):
            by_name.setdefault(name, []).append(x)
        return {name: jnp.stack(arrays) for name, arrays in by_name.items()}

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

"""One step of training: a pure function of state and batch."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PyTree

from contrastive.models.embedder import Embedder
from contrastive.temperature.diagnostics import summarize
from contrastive.training.mesh import mapped
from contrastive.training.objective import Memory, Objective
from contrastive.types import Batch, Params

Metrics: TypeAlias = dict[str, Float[Array, ""]]
Step: TypeAlias = Callable[["TrainState", Batch, Bool[Array, ""]], tuple["TrainState", Metrics]]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("step", "seed", "params", "opt_state", "memory"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a step changes, and all that a checkpoint must hold.

    Attributes:
      step: Updates made.
      seed: Of dropout; the randomness of a step is a function of (seed, step).
      params: `{"encoder": ..., "temperature": ...}`, and SigLIP's `"bias"`.
      opt_state: The optimizer's.
      memory: What the loss remembers of each example that is trained on; mostly nothing.
    """

    step: Int[Array, ""]
    seed: Int[Array, ""]
    params: Params
    opt_state: PyTree
    memory: Memory


def init_state(
    encoder: Params,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    seed: Int[Array, ""] | int,
    examples: int,
) -> TrainState:
    """State before the first step.

    Args:
      encoder: First parameters.
      objective: Whose temperature, bias and memory.
      optimizer: Whose state.
      seed: Of dropout.
      examples: That are trained on.

    Returns:
      The state.
    """
    params = {"encoder": encoder, **objective.init()}
    opt_state, memory = optimizer.init(params), objective.init_memory(examples)
    return TrainState(jnp.int32(0), jnp.int32(seed), params, opt_state, memory)


def make_train_step(
    embedder: Embedder,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None,
    guide: Embedder | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """The step, to be jitted, and vmapped over states for sweeps.

    The encoder is a global-view program that the compiler divides over the mesh. The loss is mapped
    explicitly, which makes its communication certain: documents are gathered once.

    Args:
      embedder: Tokens to embeddings.
      objective: Embeddings to losses.
      optimizer: Gradients to updates.
      mesh: Devices; None where others decide, as in a sweep whose runs are divided among them.
      guide: Tokens to the embeddings of a frozen encoder, which say what is a false negative.

    Returns:
      `(state, batch, diagnosing, guide_params) -> (state, metrics)`, the last None without a guide.
      An update that is not finite is not applied; `metrics["finite"]` says so. Diagnostics are
      computed where `diagnosing`, or where the update is not finite, and are NaN otherwise. Under
      vmap that would be always: where `diagnosing` is a Python bool, they are in the program or
      they are not.
    """

    def train_step(
        state: TrainState,
        batch: Batch,
        diagnosing: Bool[Array, ""] | bool,
        guide_params: Params | None = None,
    ):
        rng = jax.random.fold_in(jax.random.key(state.seed), state.step)
        seeds = jax.random.bits(rng, (2,), jnp.uint32)
        columns = objective.columns(batch)
        if guide is not None:
            assert guide_params is not None
            columns["guide_queries"] = guide.embed(guide_params, batch.queries)
            columns["guide_documents"] = guide.embed(guide_params, batch.documents)
        rows = {name: x[batch.numbers] for name, x in state.memory.items()}

        def mean_loss(params, rows):
            queries = embedder.embed(params["encoder"], batch.queries, seeds[0])
            documents = embedder.embed(params["encoder"], batch.documents, seeds[1])
            scalars = objective.scalars(params, state.step, rows)
            of_batch = mapped(objective.losses, mesh)
            losses, averages = of_batch(queries, documents, scalars, {**columns, **rows})
            return losses.mean(), (queries, documents, scalars, averages)

        gradient = jax.value_and_grad(mean_loss, argnums=(0, 1), has_aux=True)
        (loss, found), (grads, slopes) = gradient(state.params, rows)
        queries, documents, scalars, averages = found
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = objective.project(jax.tree.map(jnp.add, state.params, updates))
        finite = jnp.isfinite(loss) & _is_finite(grads) & _is_finite(params)
        renewed = objective.renewed(rows, averages, slopes)
        numbers = jnp.asarray(batch.numbers)
        memory = {n: _remember(x, numbers, renewed[n]) for n, x in state.memory.items()}
        new = TrainState(state.step + 1, state.seed, params, opt_state, memory)
        new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
        describe = functools.partial(_describe, objective, mesh)
        embeddings = queries, documents, scalars, {**columns, **rows}
        undescribed = functools.partial(_undescribed, describe)
        if isinstance(diagnosing, bool):
            described = (describe if diagnosing else undescribed)(*embeddings)
        else:
            described = jax.lax.cond(diagnosing | ~finite, describe, undescribed, *embeddings)
        metrics = {
            "loss": loss,
            **scalars,
            "grad_norm": optax.tree.norm(grads["encoder"]),
            **_norms_of_parts(grads["encoder"]),
            "finite": finite.astype(jnp.float32),
            **described,
        }
        return new, metrics

    return train_step


def _remember(
    memory: Float[Array, "E ..."], numbers: Int[Array, " B"], new: Float[Array, "B ..."]
) -> Float[Array, "E ..."]:
    """Memory with new rows; of an example that is in a batch twice, as in a mixture, the last."""
    order = jnp.argsort(numbers, stable=True)
    ordered = numbers[order]
    last = jnp.append(ordered[1:] != ordered[:-1], True)
    # A scatter to one place twice would take either.
    places = jnp.where(last, ordered, len(memory))
    return memory.at[places].set(new[order], mode="drop")


def _norms_of_parts(grads: Params) -> Metrics:
    """Gradient norm of each part of the encoder; none of an encoder of one part."""
    norms = {f"grad_norm/{name}": optax.tree.norm(part) for name, part in grads.items()}
    return norms if len(norms) > 1 else {}


def _is_finite(tree: PyTree) -> Bool[Array, ""]:
    """Through the norm, one number a parameter; beyond 1e19 it is not finite either."""
    return jnp.isfinite(optax.tree.norm(tree))


def _describe(objective: Objective, mesh: Mesh | None, *embeddings) -> Metrics:
    return summarize(mapped(objective.describe, mesh)(*embeddings))


def _undescribed(describe: Callable[..., Metrics], *embeddings) -> Metrics:
    shapes = jax.eval_shape(describe, *embeddings)
    return jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), shapes)

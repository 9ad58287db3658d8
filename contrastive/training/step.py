"""The training step, a pure function of state and batch."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PyTree

from contrastive.devices.mesh import mapped
from contrastive.models.linen.embedder import Embedder
from contrastive.temperature._diagnostics import summarize
from contrastive.training.batch_loss import BatchLoss, Memory
from contrastive.training.optimizer import without_frozen
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
    """The state of training: everything that a step changes and a checkpoint must contain.

    Attributes:
      step: Number of updates made.
      seed: Random seed of dropout; the randomness of a step is a function of (seed, step).
      params: `{"encoder": ..., "temperature": ...}`, and `"loss"` if the loss learns scalars.
      opt_state: State of the optimizer.
      memory: Per-example memory of the loss; empty for most losses.
    """

    step: Int[Array, ""]
    seed: Int[Array, ""]
    params: Params
    opt_state: PyTree
    memory: Memory


def init_state(
    encoder: Params,
    batch_loss: BatchLoss,
    optimizer: optax.GradientTransformation,
    seed: Int[Array, ""] | int,
    examples: int,
) -> TrainState:
    """Creates the initial state.

    Args:
      encoder: Initial parameters of the encoder.
      batch_loss: Objective, which creates the other parameters and the memory.
      optimizer: Optimizer.
      seed: Random seed of dropout.
      examples: Number of training examples.

    Returns:
      The state.
    """
    params = {"encoder": encoder, **batch_loss.init()}
    opt_state, memory = optimizer.init(params), batch_loss.init_memory(examples)
    return TrainState(jnp.int32(0), jnp.int32(seed), params, opt_state, memory)


def make_train_step(
    embedder: Embedder,
    batch_loss: BatchLoss,
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None,
    guide: Embedder | None = None,
    frozen: Sequence[str] = (),
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Creates the training step, ready to be jitted, or vmapped over states for sweeps.

    The encoder is a global-view program that the compiler partitions over the mesh. The loss is
    mapped explicitly to control its communication: documents are gathered once.

    Args:
      embedder: Maps tokens to embeddings.
      batch_loss: Maps embeddings to losses.
      optimizer: Maps gradients to updates.
      mesh: Devices; None if the caller decides, as in a sweep that divides its runs among them.
      guide: Maps tokens to embeddings of a frozen encoder that identifies false negatives.
      frozen: Words; a parameter of the encoder whose path contains one has no gradient.

    Returns:
      A function `(state, batch, diagnosing, guide_params) -> (state, metrics)`; `guide_params` is
      None without a guide. An update that is not finite is not applied, and `metrics["finite"]` is
      0 then. Diagnostics are computed if `diagnosing` is true or the update is not finite, and are
      NaN otherwise. Under vmap both branches would always run, so `diagnosing` may also be a
      Python bool, which decides at trace time whether the program contains them.
    """

    def train_step(
        state: TrainState,
        batch: Batch,
        diagnosing: Bool[Array, ""] | bool,
        guide_params: Params | None = None,
    ):
        rng = jax.random.fold_in(jax.random.key(state.seed), state.step)
        seeds = jax.random.bits(rng, (2,), jnp.uint32)
        columns = batch_loss.columns(batch)
        if guide is not None:
            assert guide_params is not None
            columns["guide_queries"] = guide.embed(guide_params, batch.queries)
            columns["guide_documents"] = guide.embed(guide_params, batch.documents)
        rows = {name: x[batch.numbers] for name, x in state.memory.items()}

        def mean_loss(params, rows):
            encoder = without_frozen(params["encoder"], frozen)
            queries = embedder.embed(encoder, batch.queries, seeds[0])
            documents = embedder.embed(encoder, batch.documents, seeds[1])
            scalars = batch_loss.scalars(params, state.step, rows)
            of_batch = mapped(batch_loss.losses, mesh)
            losses, memory = of_batch(queries, documents, scalars, {**columns, **rows})
            return losses.mean(), (queries, documents, scalars, memory)

        gradient = jax.value_and_grad(mean_loss, argnums=(0, 1), has_aux=True)
        (loss, embedded), (grads, slopes) = gradient(state.params, rows)
        queries, documents, scalars, memory = embedded
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = batch_loss.project(jax.tree.map(jnp.add, state.params, updates))
        finite = jnp.isfinite(loss) & _is_finite(grads) & _is_finite(params)
        updated = batch_loss.updated_memory(rows, memory, slopes)
        numbers = jnp.asarray(batch.numbers)
        remembered = {
            name: _remember(x, numbers, updated[name]) for name, x in state.memory.items()
        }
        new = TrainState(state.step + 1, state.seed, params, opt_state, remembered)
        new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
        describe = functools.partial(_describe, batch_loss, mesh)
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
    """Writes new rows to the memory; if an example occurs twice in a batch, the last one counts."""
    order = jnp.argsort(numbers, stable=True)
    ordered = numbers[order]
    last = jnp.append(ordered[1:] != ordered[:-1], True)
    # Scattering to the same place twice has no defined order.
    places = jnp.where(last, ordered, len(memory))
    return memory.at[places].set(new[order], mode="drop")


def _norms_of_parts(grads: Params) -> Metrics:
    """Computes the gradient norm of each part of the encoder; empty if there is only one part."""
    norms = {f"grad_norm/{name}": optax.tree.norm(part) for name, part in grads.items()}
    return norms if len(norms) > 1 else {}


def _is_finite(tree: PyTree) -> Bool[Array, ""]:
    """Checks the norm, one number per parameter; it also overflows for values beyond 1e19."""
    return jnp.isfinite(optax.tree.norm(tree))


def _describe(batch_loss: BatchLoss, mesh: Mesh | None, *embeddings) -> Metrics:
    return summarize(mapped(batch_loss.describe, mesh)(*embeddings))


def _undescribed(describe: Callable[..., Metrics], *embeddings) -> Metrics:
    shapes = jax.eval_shape(describe, *embeddings)
    return jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), shapes)

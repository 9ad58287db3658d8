"""From a config to everything a run is made of. Bad input is refused here, before training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
from jax.sharding import Mesh

from contrastive import config
from contrastive.data.example import Source
from contrastive.data.opening import open_source, shape_of
from contrastive.data.pipeline import batches
from contrastive.data.tokenization import Tokenizer
from contrastive.evaluation.encoder import Encoder
from contrastive.evaluation.task import Retrieval, from_examples
from contrastive.interop.model import Model
from contrastive.interop.opening import Start, open_model
from contrastive.models.embedder import Embedder, shapes_of
from contrastive.temperature.policies import Fixed, Learned, Policy
from contrastive.training.feed import Feed
from contrastive.training.mesh import make_mesh, state_sharding
from contrastive.training.optimizer import make_optimizer
from contrastive.training.step import Objective, Step, TrainState, init_state, make_train_step
from contrastive.types import Params


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a run is made of.

    Attributes:
      feed: Batches on the devices.
      inputs: Fingerprints of data and tokenizer.
      init: Makes the state before the first step.
      like: Its shapes and where they live.
      train_step: Compiled; its first argument is given up to it.
      encoder: For evaluation.
      model: All but its parameters, to be saved with them.
      validation: Task that chooses the best checkpoint, None for none.
      test: Task of the final evaluation, None for none.
    """

    feed: Feed
    inputs: dict[str, str]
    init: Callable[[], TrainState]
    like: TrainState
    train_step: Step
    encoder: Encoder
    model: Model
    validation: Retrieval | None
    test: Retrieval | None


def assemble(experiment: config.Experiment, mesh: Mesh | None = None) -> Parts:
    """Builds a run.

    Args:
      experiment: Its config.
      mesh: Devices; all of them unless given.

    Returns:
      Its parts.

    Raises:
      DataError: For data that cannot be used, with file and line.
      ValueError: For settings that do not go together.
    """
    mesh = make_mesh(experiment.fsdp) if mesh is None else mesh
    data = experiment.data
    source = open_source(data.train)
    held_out = {
        name: open_source(where)
        for name, where in (("validation", data.validation), ("test", data.test))
        if where is not None
    }
    source.check_negatives(data.group_size - 1)
    start = open_model(experiment, source)
    model = start.model
    tokenizer = Tokenizer(model.tokenizer, special_tokens=not model.is_static, names=model.names)
    assert model.pooling is not None
    embedder = Embedder(model.module, model.pooling, experiment.normalize)
    init, like, train_step = _training(experiment, start, embedder, mesh)
    return Parts(
        feed=_feed(experiment, source, tokenizer, mesh),
        inputs={
            "data.train": source.fingerprint,
            **{f"data.{name}": where.fingerprint for name, where in held_out.items()},
            "model": start.fingerprint,
        },
        init=init,
        like=like,
        train_step=train_step,
        encoder=Encoder(
            embedder,
            tokenizer,
            query_length=model.query_length,
            document_length=model.document_length,
            mesh=mesh,
            query_prompt=model.query_prompt,
            document_prompt=model.document_prompt,
            texts_per_row=data.texts_per_row,
        ),
        model=model,
        **{name: _task(held_out.get(name), name) for name in ("validation", "test")},
    )


def _task(source: Source | None, name: str) -> Retrieval | None:
    return None if source is None else from_examples(source, f"held-out {name}")


def _training(
    experiment: config.Experiment, start: Start, embedder: Embedder, mesh: Mesh
) -> tuple[Callable[[], TrainState], TrainState, Step]:
    optimizer = make_optimizer(experiment.optimizer, experiment.steps)
    objective = Objective(
        policy=make_policy(experiment.loss),
        group_size=experiment.data.group_size,
        in_batch=experiment.loss.in_batch,
        mask_false_negatives=experiment.loss.mask_false_negatives,
        tile=experiment.loss.tile,
    )

    def init(encoder: Params):
        return init_state(encoder, objective, optimizer, experiment.seed)

    shapes = jax.eval_shape(init, shapes_of(embedder.module))
    sharding = state_sharding(mesh, shapes)
    like = jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes, sharding
    )
    step = make_train_step(embedder, objective, optimizer, mesh)
    compiled = jax.jit(step, donate_argnums=0, out_shardings=(sharding, None))
    begin = jax.jit(init, out_shardings=sharding)
    return lambda: begin(start.init(experiment.seed)), like, compiled


def _feed(experiment, source, tokenizer, mesh) -> Feed:
    parts, ladder = batches(
        source,
        tokenizer,
        shape_of(experiment.data),
        batch_size=experiment.batch_size,
        group_size=experiment.data.group_size,
        seed=experiment.seed,
        process=jax.process_index(),
        processes=jax.process_count(),
        blocks=mesh.size // jax.process_count(),
        workers=experiment.data.workers,
    )
    return Feed(parts, ladder, mesh)


def make_policy(loss: config.Loss) -> Policy:
    """The policy a config describes."""
    if isinstance(loss.policy, config.Learned):
        return Learned(loss.temperature, loss.policy.minimum, loss.policy.maximum)
    return Fixed(loss.temperature)

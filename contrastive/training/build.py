"""Builds a run from its config. Invalid input is rejected here, before training."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
from jax.sharding import Mesh

from contrastive.data.batch_shapes import row_shape
from contrastive.data.batches import Feed, batches
from contrastive.data.tokens import Tokenizer
from contrastive.data.training_sources import TrainingSource, open_sources, training_sources
from contrastive.devices.compilation import step_options
from contrastive.devices.mesh import make_mesh, state_sharding
from contrastive.encoder import Encoder
from contrastive.interop.initial_model import initial_model, load_guide
from contrastive.losses._loss import Loss, Sum
from contrastive.models.linen.embedder import Embedder, shapes_of
from contrastive.sources._examples import Examples
from contrastive.tasks._suite import Suite
from contrastive.training.details import Describe
from contrastive.training.experiment import Experiment
from contrastive.training.run_functions import RunFunctions
from contrastive.training.step import Step, TrainState
from contrastive.types import Params


@dataclasses.dataclass(frozen=True)
class BuiltRun:
    """The components of a run.

    Attributes:
      feed: Batches on the devices.
      functions: Pure functions of the run.
      inputs: Fingerprints of the data, the model and the tokenizer.
      init: Creates the initial state.
      like: Shapes and shardings of the state.
      train_step: The compiled training step; it donates the state.
      describe: Compiled detailed diagnostics of the state and the batch of the next step.
      encoder: Encoder for evaluation, without parameters.
      evaluators: Evaluators that select the best checkpoint.
      final_evaluators: Evaluators that score the best checkpoint at the end.
      notices: Messages about behavior that a user may not expect.
    """

    feed: Feed
    functions: RunFunctions
    inputs: dict[str, str]
    init: Callable[[], TrainState]
    like: TrainState
    train_step: Step
    describe: Describe
    encoder: Encoder
    evaluators: Suite
    final_evaluators: Suite
    notices: tuple[str, ...]


def build(experiment: Experiment, mesh: Mesh | None = None) -> BuiltRun:
    """Builds a run.

    Args:
      experiment: Config of the run.
      mesh: Devices; all of them by default.

    Returns:
      The components of the run.

    Raises:
      DataError: If the data cannot be used; the message names file and line.
      ValueError: If settings are incompatible.
    """
    mesh = make_mesh(experiment.fsdp) if mesh is None else mesh
    data, objective = experiment.data, experiment.loss
    opened = open_sources(data)
    examples = Examples.concatenate(opened)
    evaluators = Suite(experiment.evaluators)
    final_evaluators = Suite(experiment.final_evaluators)
    start = initial_model(
        experiment.model,
        data,
        examples,
        pooling=experiment.pooling,
        normalize=experiment.normalize,
    )
    model = start.model
    sources = training_sources(
        data,
        opened,
        query_prompt=model.query_prompt,
        document_prompt=model.document_prompt,
        scores=objective.function.needs_scores,
        unscored=objective.function.accepts_unscored,
        negative_scores=not objective.function.scores_are_shares,
        labels=objective.function.needs_labels,
        in_batch=objective.sees_other_documents
        and objective.negative_groups < experiment.batch_size,
        negative_groups=objective.negative_groups,
    )
    tokenizer = Tokenizer(
        model.tokenizer, special_tokens=model.adds_special_tokens, names=model.names
    )
    assert model.pooling is not None
    embedder = Embedder(model.module, model.pooling, experiment.normalize, experiment.chunk_tokens)
    group_size = max(source.rules.group_size for source in sources)
    guide = None
    if objective.guide is not None:
        guide = load_guide(objective.guide, model, experiment.chunk_tokens)
    functions = RunFunctions(start, embedder, group_size, len(examples), guide)
    init, like, train_step = _compiled(functions, experiment, mesh)
    return BuiltRun(
        feed=_feed(experiment, sources, tokenizer, mesh),
        functions=functions,
        inputs={
            "data.train": examples.fingerprint,
            **_prefixed("evaluators", evaluators.fingerprints()),
            **_prefixed("final_evaluators", final_evaluators.fingerprints()),
            "model": start.fingerprint,
            **({} if guide is None else {"loss.guide": guide.fingerprint}),
        },
        init=init,
        like=like,
        train_step=train_step,
        describe=jax.jit(functions.describe(experiment, mesh)),
        encoder=Encoder(model, {}, mesh, texts_per_row=data.texts_per_row),
        evaluators=evaluators,
        final_evaluators=final_evaluators,
        notices=(
            *start.notices,
            *_about_teacher(objective.function, examples),
            *_about_classes(objective.function, examples),
            *(() if guide is None else guide.notices),
        ),
    )


def _prefixed(name: str, fingerprints: dict[str, str]) -> dict[str, str]:
    return {f"{name}.{key}": value for key, value in fingerprints.items()}


def _about_classes(loss: Loss, examples: Examples) -> Iterator[str]:
    """Warns if texts of one class are negatives of each other."""
    if examples.has_labeled_texts and not loss.needs_labels:
        yield (
            f"{loss.short_name()} does not use the labels of the rows, so texts of the same class "
            "are negatives of each other; sup_con makes them positives"
        )


def _about_teacher(loss: Loss, examples: Examples) -> Iterator[str]:
    """Warns if the teacher's softmax is nearly one-hot or nearly uniform."""
    losses = [term.loss for term in loss.terms] if isinstance(loss, Sum) else [loss]
    for temperature in filter(None, (getattr(x, "teacher_temperature", None) for x in losses)):
        score_range = examples.mean_score_range
        for is_wrong, shape in (
            (score_range / temperature > 20, "nearly one-hot"),
            (score_range / temperature < 1, "nearly uniform"),
        ):
            if is_wrong:
                yield (
                    f"the teacher's scores of a row span {score_range:.3g} on average, so its "
                    f"softmax at the teacher's temperature, {temperature:g}, is {shape}; try a "
                    f"teacher's temperature of {score_range / 5:.2g}"
                )


def _compiled(
    functions: RunFunctions, experiment: Experiment, mesh: Mesh
) -> tuple[Callable[[], TrainState], TrainState, Step]:
    def init(encoder: Params):
        return functions.init(experiment, encoder, experiment.first_seed)

    shapes = jax.eval_shape(init, shapes_of(functions.embedder.module))
    sharding = state_sharding(mesh, shapes)
    like = jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes, sharding
    )
    compiled = jax.jit(
        functions.step(experiment, mesh),
        donate_argnums=0,
        out_shardings=(sharding, None),
        compiler_options=step_options(),
    )
    begin = jax.jit(init, out_shardings=sharding)
    if functions.guide is not None:
        params = functions.guide.params
        placed = jax.jit(lambda x: x, out_shardings=state_sharding(mesh, params))(params)
        compiled = functools.partial(compiled, guide_params=placed)
    return lambda: begin(functions.start.init(experiment.first_seed)), like, compiled


def _feed(
    experiment: Experiment, sources: list[TrainingSource], tokenizer: Tokenizer, mesh: Mesh
) -> Feed:
    own, buckets = batches(
        sources,
        tokenizer,
        row_shape(sources, experiment.data.texts_per_row),
        batch_size=experiment.batch_size,
        homogeneous_batches=experiment.data.homogeneous_batches,
        negative_groups=experiment.loss.negative_groups,
        seed=experiment.seed,
        process=jax.process_index(),
        processes=jax.process_count(),
        blocks=mesh.size // jax.process_count(),
        workers=experiment.data.workers,
    )
    return Feed(own, buckets, mesh)

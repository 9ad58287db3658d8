"""From a config to everything a run is made of. Bad input is refused here, before training."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
from jax.sharding import Mesh

from contrastive import config
from contrastive.data.calibration import Part
from contrastive.data.concatenated import Concatenated
from contrastive.data.example import Source
from contrastive.data.groups import Rules
from contrastive.data.opening import make_parts, open_source, open_sources, shape_of
from contrastive.data.pipeline import batches
from contrastive.data.tokenization import Tokenizer
from contrastive.evaluation.encoder import Encoder
from contrastive.evaluation.task import Retrieval, from_examples
from contrastive.interop.model import Model
from contrastive.interop.opening import open_guide, open_model
from contrastive.models.embedder import Embedder, shapes_of
from contrastive.training.compilation import step_options
from contrastive.training.examination import Examine
from contrastive.training.feed import Feed
from contrastive.training.mesh import make_mesh, state_sharding
from contrastive.training.program import Program
from contrastive.training.step import Step, TrainState
from contrastive.types import Params


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a run is made of.

    Attributes:
      feed: Batches on the devices.
      program: Its pure functions.
      inputs: Fingerprints of data and tokenizer.
      init: Makes the state before the first step.
      like: Its shapes and where they live.
      train_step: Compiled; its first argument is given up to it.
      examine: Compiled; takes the state and the batch of the step to come.
      encoder: For evaluation.
      model: All but its parameters, to be saved with them.
      validation: Task that chooses the best checkpoint, None for none.
      test: Task of the final evaluation, None for none.
      notices: What a user may not expect.
    """

    feed: Feed
    program: Program
    inputs: dict[str, str]
    init: Callable[[], TrainState]
    like: TrainState
    train_step: Step
    examine: Examine
    encoder: Encoder
    model: Model
    validation: Retrieval | None
    test: Retrieval | None
    notices: tuple[str, ...]


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
    source = Concatenated(open_sources(data.train))
    held_out = {
        name: open_source(where)
        for name, where in (("validation", data.validation), ("test", data.test))
        if where is not None
    }
    start = open_model(experiment, source)
    model = start.model
    parts = make_parts(
        data,
        source.sources,
        query_prompt=model.query_prompt,
        document_prompt=model.document_prompt,
        teacher=experiment.loss.of_scores,
        negative_scores=not _are_shares(experiment.loss.function),
        labels=isinstance(experiment.loss.function, config.SupCon),
        in_batch=experiment.loss.sees_other_documents
        and experiment.loss.shards < experiment.batch_size,
    )
    tokenizer = Tokenizer(model.tokenizer, special_tokens=not model.is_static, names=model.names)
    assert model.pooling is not None
    embedder = Embedder(model.module, model.pooling, experiment.normalize, experiment.chunk_tokens)
    group_size = max(part.rules.group_size for part in parts)
    guide = None
    if experiment.loss.guide is not None:
        guide = open_guide(experiment.loss.guide, model, experiment.chunk_tokens)
    program = Program(start, embedder, group_size, len(source), guide)
    init, like, train_step = _compiled(program, experiment, mesh)
    return Parts(
        feed=_feed(experiment, parts, tokenizer, mesh),
        program=program,
        inputs={
            "data.train": source.fingerprint,
            **{f"data.{name}": where.fingerprint for name, where in held_out.items()},
            "model": start.fingerprint,
            **({} if guide is None else {"loss.guide": guide.fingerprint}),
        },
        init=init,
        like=like,
        train_step=train_step,
        examine=jax.jit(program.examination(experiment, mesh)),
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
        notices=(
            *start.notices,
            *_about_teacher(experiment.loss, source),
            *(() if guide is None else guide.notices),
        ),
        **{name: _task(held_out.get(name), name, data, model) for name in ("validation", "test")},
    )


def _are_shares(function: config.Function) -> bool:
    return isinstance(function, config.Listwise) and function.target == "share"


def _about_teacher(loss: config.Loss, source: Source) -> Iterator[str]:
    """Whether the teacher's softmax says more than its best document, and less than nothing."""
    if loss.distill is None:
        return
    spread, temperature = source.score_spread, loss.distill.temperature
    for wrong, shape in (
        (spread / temperature > 20, "all but one-hot"),
        (spread / temperature < 1, "all but uniform"),
    ):
        if wrong:
            yield (
                f"the teacher's scores of a row lie {spread:.3g} apart on average, so that at its "
                f"temperature {temperature:g} its softmax is {shape}; about {spread / 5:.2g} would "
                "tell the documents apart"
            )


def _task(source: Source | None, name: str, data: config.Data, model: Model) -> Retrieval | None:
    if source is None:
        return None
    rules = Rules(
        query_prompt=model.query_prompt,
        document_prompt=model.document_prompt,
        row_prompt=data.row_prompt,
    )
    return from_examples(source, f"held-out {name}", rules)


def _compiled(
    program: Program, experiment: config.Experiment, mesh: Mesh
) -> tuple[Callable[[], TrainState], TrainState, Step]:
    def init(encoder: Params):
        return program.init(experiment, encoder, experiment.first_seed)

    shapes = jax.eval_shape(init, shapes_of(program.embedder.module))
    sharding = state_sharding(mesh, shapes)
    like = jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes, sharding
    )
    compiled = jax.jit(
        program.step(experiment, mesh),
        donate_argnums=0,
        out_shardings=(sharding, None),
        compiler_options=step_options(),
    )
    begin = jax.jit(init, out_shardings=sharding)
    if program.guide is not None:
        params = program.guide.params
        placed = jax.jit(lambda x: x, out_shardings=state_sharding(mesh, params))(params)
        compiled = functools.partial(compiled, guide_params=placed)
    return lambda: begin(program.start.init(experiment.first_seed)), like, compiled


def _feed(
    experiment: config.Experiment, parts: list[Part], tokenizer: Tokenizer, mesh: Mesh
) -> Feed:
    train = experiment.data.train
    own, ladder = batches(
        parts,
        tokenizer,
        shape_of(parts, experiment.data.texts_per_row),
        batch_size=experiment.batch_size,
        one_source_batches=not isinstance(train, config.Mixture) or train.one_source_batches,
        shards=experiment.loss.shards,
        seed=experiment.seed,
        process=jax.process_index(),
        processes=jax.process_count(),
        blocks=mesh.size // jax.process_count(),
        workers=experiment.data.workers,
    )
    return Feed(own, ladder, mesh)

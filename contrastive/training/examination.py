"""A closer look at a batch than a step takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from jax.sharding import Mesh

from contrastive.models.embedder import Embedder
from contrastive.temperature.details import Summary, summarize_details
from contrastive.training.mesh import mapped
from contrastive.training.objective import Objective
from contrastive.training.step import TrainState
from contrastive.types import Batch

Examine: TypeAlias = Callable[[TrainState, Batch], Summary]


def make_examination(embedder: Embedder, objective: Objective, mesh: Mesh | None) -> Examine:
    """What `temperature.details` says of a batch, to be jitted.

    It is a program of its own, with an encoder pass of its own and no dropout: a step need not
    carry what is wanted a few times in a run. A guide's false negatives are not left out.

    Args:
      embedder: Tokens to embeddings.
      objective: Whose temperature and pairs.
      mesh: As of `make_train_step`.

    Returns:
      `(state, batch) -> summary`.
    """

    def examination(state: TrainState, batch: Batch) -> Summary:
        queries = embedder.embed(state.params["encoder"], batch.queries)
        documents = embedder.embed(state.params["encoder"], batch.documents)
        rows = {name: x[batch.numbers] for name, x in state.memory.items()}
        scalars = objective.scalars(state.params, state.step, rows)
        columns = {**objective.columns(batch), "labels": batch.labels, **rows}
        look = mapped(objective.examine, mesh)
        return summarize_details(look(queries, documents, scalars, columns))

    return examination

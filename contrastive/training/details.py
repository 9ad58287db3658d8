"""Detailed diagnostics of a batch, which are computed outside of the training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from jax.sharding import Mesh

from contrastive.devices.mesh import mapped
from contrastive.models.linen.embedder import Embedder
from contrastive.temperature._detailed_diagnostics import Summary, summarize_details
from contrastive.training.batch_loss import BatchLoss
from contrastive.training.step import TrainState
from contrastive.types import Batch

Describe: TypeAlias = Callable[[TrainState, Batch], Summary]


def make_detailed_diagnostics(
    embedder: Embedder, batch_loss: BatchLoss, mesh: Mesh | None
) -> Describe:
    """Creates a function that computes detailed diagnostics of a batch, ready to be jitted.

    It is a separate program with its own encoder pass and without dropout, so that the training
    step does not carry what is needed only a few times per run. False negatives that a guide finds
    are not excluded.

    Args:
      embedder: Maps tokens to embeddings.
      batch_loss: Determines the pairs and the temperature.
      mesh: Devices, as in `make_train_step`.

    Returns:
      A function `(state, batch) -> summary`.
    """

    def describe(state: TrainState, batch: Batch) -> Summary:
        queries = embedder.embed(state.params["encoder"], batch.queries)
        documents = embedder.embed(state.params["encoder"], batch.documents)
        rows = {name: x[batch.numbers] for name, x in state.memory.items()}
        scalars = batch_loss.scalars(state.params, state.step, rows)
        columns = {**batch_loss.columns(batch), "labels": batch.labels, **rows}
        look = mapped(batch_loss.describe_in_detail, mesh)
        return summarize_details(look(queries, documents, scalars, columns))

    return describe

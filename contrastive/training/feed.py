"""Batches onto the devices."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, NamedTuple

import grain
import jax
from jax.sharding import Mesh

from contrastive.data.packing import Ladder, padding_share
from contrastive.training import distributed
from contrastive.training.mesh import batch_sharding
from contrastive.types import Batch


@dataclasses.dataclass(frozen=True)
class Fed:
    """A batch on the devices, and how it came there.

    Attributes:
      batch: Global arrays.
      padding: Share of row positions, of this process, without a token.
      stop: Whether some process was asked to stop.
    """

    batch: Batch
    padding: float
    stop: bool


class _Next(NamedTuple):
    part: Batch
    position: dict[str, Any]
    agreed: distributed.Most


class Feed:
    """Takes this process's part of each batch and makes the global one.

    Args:
      parts: Data set of parts.
      ladder: Shapes of the run.
      mesh: Devices.
    """

    def __init__(self, parts: grain.IterDataset[Batch], ladder: Ladder, mesh: Mesh):
        self._iterator = iter(parts)
        self._ladder = ladder
        self._sharding = batch_sharding(mesh)
        self._next: _Next | None = None
        self._start: dict[str, Any] = self._iterator.get_state()
        self._fresh = True
        self.position: dict[str, Any] = self._start
        """Position before the batch last taken: what to save with the state before its step."""
        self.waited = 0.0
        """Seconds spent waiting for data."""

    def restart(self) -> None:
        """Goes on from the first batch."""
        if not self._fresh:  # what is on its way already need not be made twice
            self.seek(self._start)

    def seek(self, position: dict[str, Any]) -> None:
        """Goes on from a saved position."""
        self._iterator.set_state(position)
        self._next = None

    def take(self, stop: bool) -> Fed:
        """The next batch.

        Processes agree on the shape of a batch, and on stopping, while the batch before is taken:
        of several processes all stop together, one step after the first was asked to.

        Args:
          stop: Whether this process was asked to stop.

        Returns:
          The batch.
        """
        self._fresh = False
        current = self._next or self._prepare(stop)
        self.position = current.position
        rung, stopping = current.agreed.read()
        if jax.process_count() > 1:
            self._next = self._prepare(stop)
            stop = bool(stopping)
        part = self._ladder.climb(current.part, rung)
        return Fed(self._place(part), padding_share(part.queries, part.documents), stop)

    def _prepare(self, stop: bool) -> _Next:
        position = self._iterator.get_state()
        start = time.perf_counter()
        part = next(self._iterator)
        self.waited += time.perf_counter() - start
        return _Next(part, position, distributed.Most(self._ladder.rung(part), int(stop)))

    def _place(self, part: Batch) -> Batch:
        def globally(x):
            return jax.make_array_from_process_local_data(self._sharding, x)

        batch = jax.tree.map(globally, part)
        # Blocks are counted over all processes from here on.
        queries, documents = (
            dataclasses.replace(tokens, blocks=tokens.blocks * jax.process_count())
            for tokens in (batch.queries, batch.documents)
        )
        return dataclasses.replace(batch, queries=queries, documents=documents)

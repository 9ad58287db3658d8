"""Batches of a training run, as a function of the step, and their transfer to the devices."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
from jax.sharding import Mesh

from contrastive.data.batch_shapes import Shape, ShapeBuckets, choose_shapes
from contrastive.data.groups import Group, draw_group
from contrastive.data.tokens import Tokenizer, pack, padding_share, tokenize_groups
from contrastive.data.training_sources import TrainingSource, check_sizes
from contrastive.devices import distributed
from contrastive.devices.mesh import batch_sharding
from contrastive.types import Batch

_SMALL = 50_000  # examples; data sets up to this size are tokenized ahead of training


def batches(
    parts: Sequence[TrainingSource],
    tokenize: Tokenizer,
    shape: Shape,
    *,
    batch_size: int,
    homogeneous_batches: bool = True,
    negative_groups: int = 1,
    seed: int,
    process: int = 0,
    processes: int = 1,
    blocks: int = 1,
    workers: int = 2,
) -> tuple[grain.IterDataset[Batch], ShapeBuckets]:
    """Creates an endless stream of batches; every epoch is shuffled anew.

    The examples of a step are a pure function of (seed, step). The global batch does not depend on
    the number of processes, and each process gets a contiguous part of it. The iterator's
    `get_state` and `set_state` therefore only count steps, and resuming replays nothing.

    Args:
      parts: Training sources, which are sampled in proportion to their weights.
      tokenize: Tokenizer.
      shape: Row shape.
      batch_size: Number of queries per step, over all processes, B; sources may have their own if
        batches are homogeneous.
      homogeneous_batches: Whether all queries of a step come from one source.
      negative_groups: Number of equal parts of the batch within which documents are negatives.
      seed: Random seed of the shuffles and the groups.
      process: Index of this process.
      processes: Number of processes; must divide `batch_size`.
      blocks: Number of data-parallel devices of this process; must divide its part of the batch.
      workers: Number of threads that read, tokenize and pack ahead of the training step.

    Returns:
      A grain data set of this process's parts of the batches, as NumPy arrays, and the shapes to
      pad them to.

    Raises:
      DataError: If the batch is larger than the data or does not divide evenly, or if a row has too
        few negatives.
    """
    for part in parts:
        part.rules.check(part.examples)
    check_sizes(parts, batch_size, homogeneous_batches, processes, blocks)
    buckets = choose_shapes(
        parts,
        tokenize,
        shape,
        batch_size=batch_size,
        blocks=processes * blocks,
        homogeneous_batches=homogeneous_batches,
        seed=seed,
    )
    if sum(len(part.examples) for part in parts) <= _SMALL:
        threading.Thread(target=_remember, args=(parts, tokenize)).start()
    most_positives = max(part.examples.most_positives for part in parts)
    collate = functools.partial(
        _collate,
        tokenize=tokenize,
        shape=shape,
        group_size=max(part.rules.group_size for part in parts),
        most_positives=most_positives if most_positives > 1 else 0,
        blocks=blocks,
        negative_groups=negative_groups,
        process=process,
        processes=processes,
    )
    groups = _groups(parts, batch_size, homogeneous_batches, seed, process, processes)
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
    return groups.map(collate).to_iter_dataset(options), buckets


def _groups(parts, batch_size, homogeneous_batches, seed, process, processes):
    """Returns this process's part of the groups of every step, as lists."""
    ends = itertools.accumulate(len(part.examples) for part in parts)
    firsts = [0, *ends]

    def shuffled(part, number):
        first, size = firsts[number], len(part.examples)
        data = grain.MapDataset.source(part.examples)
        # Before the shuffle, an index identifies an example; it keeps counting across epochs.
        data = data.map_with_index(lambda index, example: (first + index % size, example))
        return data.seed(seed + number).shuffle()

    def drawn(data, part):
        def draw(numbered, rng):
            number, example = numbered
            return draw_group(example, rng, rules=part.rules)._replace(number=number)

        return data.random_map(draw)

    def homogeneous(part, number):
        queries = part.queries(batch_size)
        # An epoch is truncated to whole global batches before it is divided among processes.
        rows = shuffled(part, number)[: len(part.examples) // queries * queries]
        own = drawn(rows, part).batch(queries // processes, batch_fn=list)
        return own.repeat()[process::processes]

    if homogeneous_batches or len(parts) == 1:
        each = [homogeneous(part, n) for n, part in enumerate(parts)]
        shares = [part.batch_weight(batch_size) for part in parts]
        return each[0] if len(parts) == 1 else grain.MapDataset.mix(each, shares)
    weights = [part.weight for part in parts]
    mixed = grain.MapDataset.mix(
        [drawn(shuffled(part, n), part).repeat() for n, part in enumerate(parts)], weights
    )
    return mixed.batch(batch_size // processes, batch_fn=list)[process::processes]


def _remember(parts: Sequence[TrainingSource], tokenize: Tokenizer) -> None:
    """Tokenizes small data sets entirely while programs compile, so that no epoch waits for it."""
    for part in parts:
        source, rules = part.examples, part.rules
        for start in range(0, len(source), 256):
            if not threading.main_thread().is_alive():
                return  # the program has ended and waits for this thread
            examples = [source[i] for i in range(start, min(start + 256, len(source)))]
            prompts = [rules.prompts(example) for example in examples]
            pairs = list(zip(examples, prompts, strict=True))
            tokenize([own.query + example.query for example, own in pairs], rules.query_length)
            documents = [
                own.document + text
                for example, own in pairs
                for text in (*example.positives, *example.negatives)
            ]
            tokenize(documents, rules.document_length)


def _collate(
    groups: Sequence[Group],
    *,
    tokenize: Tokenizer,
    shape: Shape,
    group_size: int,
    most_positives: int,
    blocks: int,
    negative_groups: int,
    process: int,
    processes: int,
) -> Batch:
    """Collates this process's groups of a batch."""
    queries, by_group = tokenize_groups(groups, tokenize)
    nothing = np.empty(0, np.int32)
    documents = [text for own in by_group for text in (*own, *[nothing] * (group_size - len(own)))]
    known = np.zeros((len(groups), most_positives), np.int32)
    document_ids = np.zeros((len(groups), group_size), np.int32)
    scores = np.zeros((len(groups), group_size if groups[0].scores else 0), np.float32)
    real = np.zeros((len(groups), group_size), bool)
    for row, group in enumerate(groups):
        size = len(group.documents)
        real[row, :size] = True
        document_ids[row, :size] = group.document_ids
        scores[row, :size] = group.scores
        known[row, : len(group.positive_ids)] = group.positive_ids[:most_positives]
    batch_size = len(groups) * processes
    numbers = process * len(groups) + np.arange(len(groups))
    alone = np.array([not group.rules.in_batch for group in groups])
    pools = np.where(
        alone, batch_size + numbers, numbers // (batch_size // negative_groups)
    ).astype(np.int32)

    def tokens(ids, length):
        return pack(ids, row_length=length, texts_per_row=shape.texts_per_row, blocks=blocks)

    return Batch(
        queries=tokens(queries, shape.query_length),
        documents=tokens(documents, shape.document_length),
        query_ids=np.array([group.query_id for group in groups], np.int32),
        document_ids=document_ids.reshape(-1),
        known_positive_ids=known,
        query_pools=pools,
        document_pools=np.where(real, pools[:, None], -1).reshape(-1).astype(np.int32),
        teacher_scores=scores,
        labels=np.array([group.label for group in groups], np.int32),
        temperatures=np.array([group.rules.temperature or 0.0 for group in groups], np.float32),
        numbers=np.array([group.number for group in groups], np.int32),
    )


@dataclasses.dataclass(frozen=True)
class DeviceBatch:
    """A batch on the devices.

    Attributes:
      batch: Global arrays.
      padding: Fraction of this process's row positions that hold no token.
      stop: Whether some process was asked to stop.
    """

    batch: Batch
    padding: float
    stop: bool


class _Next(NamedTuple):
    part: Batch
    position: dict[str, Any]
    agreed: distributed.AsyncMax


class Feed:
    """Assembles global batches from the parts of all processes.

    Args:
      parts: Data set with this process's parts of the batches.
      buckets: Batch shapes of the run.
      mesh: Devices.
    """

    def __init__(self, parts: grain.IterDataset[Batch], buckets: ShapeBuckets, mesh: Mesh):
        self._iterator = iter(parts)
        self._buckets = buckets
        self._sharding = batch_sharding(mesh)
        self._next: _Next | None = None
        self._start: dict[str, Any] = self._iterator.get_state()
        self._fresh = True
        self.position: dict[str, Any] = self._start
        """Position before the batch last taken, to be saved with the state before its step."""
        self.waited = 0.0
        """Number of seconds spent waiting for data."""

    def restart(self) -> None:
        """Restarts from the first batch."""
        if not self._fresh:  # batches that are already being prepared need not be made twice
            self.seek(self._start)

    def seek(self, position: dict[str, Any]) -> None:
        """Continues from a saved position."""
        self._iterator.set_state(position)
        self._next = None

    def take(self, stop: bool) -> DeviceBatch:
        """Returns the next batch.

        Processes agree on the shape of a batch and on stopping while the previous batch is taken.
        Hence all processes stop together, one step after the first of them was asked to.

        Args:
          stop: Whether this process was asked to stop.

        Returns:
          The batch.
        """
        self._fresh = False
        current = self._next or self._prepare(stop)
        self.position = current.position
        bucket, stopping = current.agreed.read()
        if jax.process_count() > 1:
            self._next = self._prepare(stop)
            stop = bool(stopping)
        part = self._buckets.pad_to(current.part, bucket)
        return DeviceBatch(self._place(part), padding_share(part.queries, part.documents), stop)

    def _prepare(self, stop: bool) -> _Next:
        position = self._iterator.get_state()
        start = time.perf_counter()
        part = next(self._iterator)
        self.waited += time.perf_counter() - start
        return _Next(part, position, distributed.AsyncMax(self._buckets.bucket(part), int(stop)))

    def _place(self, part: Batch) -> Batch:
        def globally(x):
            return jax.make_array_from_process_local_data(self._sharding, x)

        batch = jax.tree.map(globally, part)
        # From here on, blocks are counted over all processes.
        queries, documents = (
            dataclasses.replace(tokens, blocks=tokens.blocks * jax.process_count())
            for tokens in (batch.queries, batch.documents)
        )
        return dataclasses.replace(batch, queries=queries, documents=documents)

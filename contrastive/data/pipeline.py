"""From sources of examples to batches, by step."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Sequence

import grain
import numpy as np

from contrastive.data.calibration import Part, Shape, calibrate, tokenize_groups
from contrastive.data.groups import Group, draw_group
from contrastive.data.packing import Ladder, pack
from contrastive.data.tokenization import Tokenizer
from contrastive.errors import DataError
from contrastive.types import Batch

_SMALL = 50_000  # examples


def batches(
    parts: Sequence[Part],
    tokenize: Tokenizer,
    shape: Shape,
    *,
    batch_size: int,
    one_source_batches: bool = True,
    shards: int = 1,
    seed: int,
    process: int = 0,
    processes: int = 1,
    blocks: int = 1,
    workers: int = 2,
) -> tuple[grain.IterDataset[Batch], Ladder]:
    """Batches without end, each epoch shuffled anew.

    The examples of a step are a pure function of (seed, step): all processes together see the same
    global batch whatever their number, each its own contiguous part of it. The iterator's
    `get_state` and `set_state` therefore only count steps, and resuming replays nothing.

    Args:
      parts: What is trained on; a step takes from them in proportion to their weights.
      tokenize: Tokenizer.
      shape: Lengths and rows.
      batch_size: Queries a step, over all processes, B.
      one_source_batches: Whether all queries of a step come from one part.
      shards: Equal runs of the batch none of which sees another's documents.
      seed: Decides the shuffles and the groups.
      process: Number of this process.
      processes: Number of processes; divides `batch_size`.
      blocks: Data-parallel devices of this process; divides its part of the batch.
      workers: Threads that read, tokenise and pack ahead of the training step.

    Returns:
      A grain data set of this process's parts, NumPy arrays, and the ladder of their shapes.

    Raises:
      DataError: If the batch is larger than the data, does not divide, or a row has too few
        negatives.
    """
    for part in parts:
        part.rules.check(part.source)
    _check_sizes(parts, batch_size, one_source_batches, processes, blocks)
    ladder = calibrate(
        parts,
        tokenize,
        shape,
        block=batch_size // (processes * blocks),
        blocks=processes * blocks,
        one_source_batches=one_source_batches,
        seed=seed,
    )
    if sum(len(part.source) for part in parts) <= _SMALL:
        threading.Thread(target=_remember, args=(parts, tokenize)).start()
    most_positives = max(part.source.most_positives for part in parts)
    collate = functools.partial(
        _collate,
        tokenize=tokenize,
        shape=shape,
        group_size=max(part.rules.group_size for part in parts),
        most_positives=most_positives if most_positives > 1 else 0,
        blocks=blocks,
        first=process * (batch_size // processes),
        shard=batch_size // shards,
        batch_size=batch_size,
    )
    groups = _groups(parts, batch_size, one_source_batches, seed, process, processes)
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
    return groups.map(lambda own: ladder.climb(collate(own))).to_iter_dataset(options), ladder


def steps_per_epoch(
    parts: Sequence[Part], batch_size: int, *, one_source_batches: bool = True
) -> int:
    """Steps that see every example once, but for what does not fill a batch.

    Args:
      parts: What is trained on.
      batch_size: Queries a step.
      one_source_batches: Whether all queries of a step come from one part.

    Returns:
      The number.
    """
    sizes = [len(part.source) for part in parts]
    if one_source_batches:
        return sum(size // batch_size for size in sizes)
    return sum(sizes) // batch_size


def _check_sizes(parts, batch_size, one_source_batches, processes, blocks) -> None:
    sizes = [(repr(part.source), len(part.source)) for part in parts]
    if not one_source_batches:
        sizes = [(" and ".join(name for name, _ in sizes), sum(size for _, size in sizes))]
    for name, size in sizes:
        if size < batch_size:
            others = ", leave it out, or set one_source_batches=False" if len(sizes) > 1 else ""
            raise DataError(
                f"batch_size is {batch_size} but {name} has {size} examples; "
                f"lower batch_size to {size} or less{others}"
            )
    if batch_size % (processes * blocks):
        raise DataError(
            f"batch_size is {batch_size}, which does not divide among {processes} processes "
            f"with {blocks} devices each; make it a multiple of {processes * blocks}"
        )


def _groups(parts, batch_size, one_source_batches, seed, process, processes):
    """This process's part of every step's groups, as lists."""
    own = batch_size // processes
    ends = itertools.accumulate(len(part.source) for part in parts)
    firsts = [0, *ends]

    def shuffled(part, number):
        first, size = firsts[number], len(part.source)
        data = grain.MapDataset.source(part.source)
        # Before the shuffle an index is the example's own; each epoch counts on.
        data = data.map_with_index(lambda index, example: (first + index % size, example))
        return data.seed(seed + number).shuffle()

    def drawn(data, part):
        def draw(numbered, rng):
            number, example = numbered
            return draw_group(example, rng, rules=part.rules)._replace(number=number)

        return data.random_map(draw)

    weights = [part.weight for part in parts]
    if one_source_batches or len(parts) == 1:
        # An epoch is cut to whole global batches before it is divided among processes.
        each = [
            drawn(shuffled(part, n)[: len(part.source) // batch_size * batch_size], part)
            .batch(own, batch_fn=list)
            .repeat()[process::processes]
            for n, part in enumerate(parts)
        ]
        return each[0] if len(parts) == 1 else grain.MapDataset.mix(each, weights)
    mixed = grain.MapDataset.mix(
        [drawn(shuffled(part, n), part).repeat() for n, part in enumerate(parts)], weights
    )
    return mixed.batch(own, batch_fn=list)[process::processes]


def _remember(parts: Sequence[Part], tokenize: Tokenizer) -> None:
    """Tokenises small data sets whole, while programs compile: no epoch waits for it."""
    for part in parts:
        source, rules = part.source, part.rules
        for start in range(0, len(source), 256):
            if not threading.main_thread().is_alive():
                return  # the program has ended, and waits for this thread
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
    first: int,
    shard: int,
    batch_size: int,
) -> Batch:
    """Groups of one process; `first` is the place of the first of them in the global batch."""
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
    numbers = first + np.arange(len(groups))
    alone = np.array([not group.rules.in_batch for group in groups])
    pools = np.where(alone, batch_size + numbers, numbers // shard).astype(np.int32)

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

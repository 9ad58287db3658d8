"""From a source of examples to batches, by step."""

from __future__ import annotations

import dataclasses
import functools

import grain
import numpy as np
from tqdm import tqdm

from contrastive.data.example import Example, Source, text_id
from contrastive.data.packing import Ladder, pack
from contrastive.data.tokenization import Tokenizer
from contrastive.errors import DataError
from contrastive.types import Batch

_SMALL = 50_000  # examples


@dataclasses.dataclass(frozen=True)
class Shape:
    """How texts become tokens.

    Attributes:
      query_length: Most tokens of a query, and tokens a row of queries.
      document_length: Most tokens of a document, and tokens a row of documents.
      texts_per_row: Most texts a row; 1 is one text a row.
    """

    query_length: int
    document_length: int
    texts_per_row: int


def batches(
    source: Source,
    tokenize: Tokenizer,
    shape: Shape,
    *,
    batch_size: int,
    group_size: int,
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
      source: Examples.
      tokenize: Tokenizer.
      shape: Lengths and rows.
      batch_size: Queries a step, over all processes, B.
      group_size: Documents a query, G: one positive at random, G - 1 negatives without replacement.
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
    source.check_negatives(group_size - 1)
    steps = len(source) // batch_size
    if not steps:
        raise DataError(
            f"batch_size is {batch_size} but {source} has {len(source)} examples; "
            f"lower batch_size to {len(source)} or less"
        )
    if batch_size % (processes * blocks):
        raise DataError(
            f"batch_size is {batch_size}, which does not divide among {processes} processes "
            f"with {blocks} devices each; make it a multiple of {processes * blocks}"
        )
    if len(source) <= _SMALL:
        _remember(source, tokenize, shape)
    ladder = calibrate(
        source,
        tokenize,
        shape,
        block=batch_size // (processes * blocks),
        group_size=group_size,
        blocks=processes * blocks,
        seed=seed,
    )
    known = source.most_positives if source.most_positives > 1 else 0
    collate = functools.partial(
        _collate, tokenize=tokenize, shape=shape, known_positives=known, blocks=blocks
    )
    # An epoch is cut to whole global batches before it is divided among processes.
    examples = grain.MapDataset.source(source).seed(seed).shuffle()[: steps * batch_size]
    groups = examples.random_map(functools.partial(draw_group, group_size=group_size))
    parts = groups.batch(batch_size // processes, batch_fn=list).repeat()[process::processes]
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
    return parts.map(lambda part: ladder.climb(collate(part))).to_iter_dataset(options), ladder


def calibrate(
    source: Source,
    tokenize: Tokenizer,
    shape: Shape,
    *,
    block: int,
    group_size: int,
    blocks: int,
    seed: int,
    sample: int = 1024,
    trials: int = 16,
) -> Ladder:
    """Measures how many rows a block of texts fills, and so the shapes of a run's batches.

    A pure function of its arguments: every process, and a resumed run, finds the same ladder.

    Args:
      source: Examples.
      tokenize: Tokenizer.
      shape: Lengths and rows.
      block: Queries a block.
      group_size: Documents a query.
      blocks: Blocks of the global batch; the fullest of them counts.
      seed: Decides the sample.
      sample: Examples to tokenise.
      trials: Blocks to pack.

    Returns:
      The ladder.
    """
    if shape.texts_per_row == 1:
        return Ladder(float(block), 0.0, float(block * group_size), 0.0)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(source), min(sample, len(source)), replace=False)
    drawn = [draw_group(source[int(i)], rng, group_size=group_size) for i in chosen]
    queries = tokenize([example.query for example, _ in drawn], shape.query_length)
    documents = tokenize([text for _, group in drawn for text in group], shape.document_length)

    def rows(texts, count, row_length):
        texts = [texts[i] for i in rng.integers(len(texts), size=count)]
        packed = pack(texts, row_length=row_length, texts_per_row=shape.texts_per_row)
        return packed.ids.shape[0]

    of_queries = [rows(queries, block, shape.query_length) for _ in range(trials)]
    of_documents = [
        rows(documents, block * group_size, shape.document_length) for _ in range(trials)
    ]
    # The fullest of n blocks is expected about sqrt(2 log n) deviations above the mean.
    above = 1.0 + np.sqrt(2.0 * np.log(blocks))
    return Ladder(
        queries=float(np.mean(of_queries) + above * np.std(of_queries)),
        queries_step=1.5 * float(np.std(of_queries)),
        documents=float(np.mean(of_documents) + above * np.std(of_documents)),
        documents_step=1.5 * float(np.std(of_documents)),
    )


def draw_group(
    example: Example, rng: np.random.Generator, *, group_size: int
) -> tuple[Example, list[str]]:
    """Draws a positive, and `group_size - 1` negatives without replacement.

    Args:
      example: With at least so many negatives.
      rng: Randomness of this example in this epoch.
      group_size: Documents to draw.

    Returns:
      The example, and its documents, the positive first.
    """
    positive = example.positives[rng.integers(len(example.positives))]
    chosen = rng.choice(len(example.negatives), group_size - 1, replace=False)
    return example, [positive, *(example.negatives[i] for i in chosen)]


def _remember(source: Source, tokenize: Tokenizer, shape: Shape) -> None:
    """Tokenises a small data set whole: its first epoch is then as fast as the others."""
    bar = tqdm(total=len(source), desc="tokenising", unit=" examples", leave=False, delay=2)
    with bar:
        for start in range(0, len(source), 1024):
            examples = [source[i] for i in range(start, min(start + 1024, len(source)))]
            tokenize([example.query for example in examples], shape.query_length)
            documents = (text for e in examples for text in (*e.positives, *e.negatives))
            tokenize(list(documents), shape.document_length)
            bar.update(len(examples))


def _collate(drawn, *, tokenize, shape, known_positives, blocks) -> Batch:
    examples, groups = zip(*drawn, strict=True)
    queries = [example.query for example in examples]
    documents = [text for group in groups for text in group]
    known = np.zeros((len(examples), known_positives), np.int32)
    if known_positives:
        for row, example in zip(known, examples, strict=True):
            row[: len(example.positives)] = [text_id(text) for text in example.positives]

    def tokens(texts, length):
        ids = tokenize(texts, length)
        per_row = shape.texts_per_row
        return pack(ids, row_length=length, texts_per_row=per_row, blocks=blocks)

    return Batch(
        queries=tokens(queries, shape.query_length),
        documents=tokens(documents, shape.document_length),
        query_ids=np.array([text_id(text) for text in queries], np.int32),
        document_ids=np.array([text_id(text) for text in documents], np.int32),
        known_positive_ids=known,
    )

"""Opens and checks the sources of a run, and adds the rules for drawing groups from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from contrastive.data.config import Data
from contrastive.data.groups import GroupRules
from contrastive.errors import ConfigError, DataError, Naming
from contrastive.sources._examples import Examples
from contrastive.sources._source import Source


@dataclasses.dataclass(frozen=True)
class TrainingSource:
    """A training source.

    Attributes:
      examples: The examples of the source.
      rules: Rules for drawing groups from the examples.
      weight: Share of the queries, relative to the other sources.
      batch_size: Number of queries of a homogeneous batch; None for that of the run.
    """

    examples: Examples
    rules: GroupRules
    weight: float
    batch_size: int | None = None

    def queries(self, batch_size: int) -> int:
        """Returns the number of queries of its batches in a run with this batch size."""
        return self.batch_size or batch_size

    def batch_weight(self, batch_size: int) -> float:
        """Returns its share of the homogeneous batches, relative to the other sources."""
        if self.batch_size is None:
            return self.weight
        return self.weight * batch_size / self.batch_size


def open_source(source: Source) -> Examples:
    """Opens a source and checks its rows.

    Raises:
      DataError: If a row is invalid; the message says where it is.
    """
    name = f"{source.short_name()}({', '.join(f'{n}={x!r}' for n, x in source)})"
    try:
        return Examples.of(source.read(), name)
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error}") from None


def open_sources(data: Data) -> list[Examples]:
    """Opens and checks all training sources, in the order of the config.

    Raises:
      DataError: If a row is invalid; the message says where it is.
      ConfigError: If only some parts of a mixture have a weight.
    """
    without = [
        f"parts[{number}] ({getattr(part.source, 'path', part.source.kind)})"
        for number, part in enumerate(data.parts)
        if part.weight is None
    ]
    if 0 < len(without) < len(data.parts):
        raise ConfigError(
            f"has no weight for {', '.join(without)}, but other parts have one; give all parts a "
            "weight, or none, to sample by size",
            field="data.train",
        )
    return [open_source(part.source) for part in data.parts]


def training_sources(
    data: Data,
    opened: Sequence[Examples],
    *,
    query_prompt: str,
    document_prompt: str,
    scores: bool,
    unscored: bool = False,
    negative_scores: bool = True,
    labels: bool = False,
    in_batch: bool = True,
    negative_groups: int = 1,
) -> list[TrainingSource]:
    """Joins opened sources with the rules for drawing groups from them.

    Args:
      data: Data settings.
      opened: What `open_sources` returned.
      query_prompt: Query prompt of sources that do not set one.
      document_prompt: Document prompt of sources that do not set one.
      scores: Whether rows need scores for their documents.
      unscored: Whether some rows may be without scores all the same.
      negative_scores: Whether scores may be negative.
      labels: Whether rows need a label.
      in_batch: Whether parts that allow in-batch negatives use them.
      negative_groups: Number of equal parts of the batch within which documents are negatives.

    Returns:
      The training sources.

    Raises:
      DataError: If a group cannot be drawn from some row; the message names file and line.
    """
    if scores and unscored and not any(examples.count("scored") for examples in opened):
        raise DataError(
            'the loss needs "pos_scores" and "neg_scores" but no row has them; add them to some '
            "rows, or choose a loss that does not need scores"
        )
    made = []
    for part, examples in zip(data.parts, opened, strict=True):
        rules = GroupRules(
            group_size=_first(part.group_size, data.group_size),
            in_batch=part.in_batch and in_batch and part.batch_size != negative_groups,
            few_negatives=data.few_negatives,
            query_prompt=_first(part.query_prompt, query_prompt),
            document_prompt=_first(part.document_prompt, document_prompt),
            row_prompt=data.row_prompt,
            row_types=data.row_types,
            query_length=_first(part.query_max_length, data.query_max_length),
            document_length=_first(part.document_max_length, data.document_max_length),
            shuffle_ratio=data.shuffle_ratio,
            temperature=part.temperature,
            scores=scores,
            unscored=unscored,
            negative_scores=negative_scores,
            labels=labels,
        )
        rules.check(examples)
        weight = part.weight or len(examples)
        made.append(TrainingSource(examples, rules, weight, part.batch_size))
    return made


def _first(own, default):
    return default if own is None else own


def steps_per_epoch(
    parts: Sequence[TrainingSource], batch_size: int, *, homogeneous_batches: bool = True
) -> int:
    """Computes the number of steps per epoch; examples that do not fill a batch are dropped.

    Args:
      parts: Training sources.
      batch_size: Number of queries per step.
      homogeneous_batches: Whether all queries of a step come from one source.

    Returns:
      The number of steps.
    """
    if homogeneous_batches:
        return sum(len(part.examples) // part.queries(batch_size) for part in parts)
    return sum(len(part.examples) for part in parts) // batch_size


def check_sizes(
    parts: Sequence[TrainingSource],
    batch_size: int,
    homogeneous_batches: bool,
    processes: int,
    blocks: int,
) -> None:
    """Checks that a batch can be filled, and divided among processes and devices.

    Args:
      parts: Training sources.
      batch_size: Number of queries per step.
      homogeneous_batches: Whether all queries of a step come from one source.
      processes: Number of processes.
      blocks: Number of devices per process.

    Raises:
      DataError: If a source is smaller than a batch, or the batch does not divide evenly.
    """
    sizes = [(repr(part.examples), len(part.examples), part.queries(batch_size)) for part in parts]
    if not homogeneous_batches:
        names, counts, _ = zip(*sizes, strict=True)
        sizes = [(" and ".join(names), sum(counts), batch_size)]
    for name, size, queries in sizes:
        if size < queries:
            raise DataError(_too_few(queries, name, size, len(sizes)), field="batch_size")
        if queries % (processes * blocks):
            raise DataError(
                f"is {queries}, which cannot be divided evenly among {processes} processes with "
                f"{blocks} devices each; make it a multiple of {processes * blocks}",
                field="batch_size",
            )


def _too_few(batch_size: int, source: str, size: int, sources: int) -> Callable[[Naming], str]:
    def message(name: Naming) -> str:
        wrong = f"is {batch_size} but {source} has {size} examples"
        if sources == 1:
            return f"{wrong}; lower it to {size} or less"
        homogeneous = name("data.train.homogeneous_batches")
        return (
            f"{wrong}; leave it out, set {homogeneous}=False, or lower the batch to {size} or less"
        )

    return message

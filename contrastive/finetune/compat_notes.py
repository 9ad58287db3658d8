"""Notices about differences between a run and FlagEmbedding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from contrastive.data.training_sources import open_sources
from contrastive.finetune.parsing import Arguments
from contrastive.sources._examples import COUNTED_FIELDS
from contrastive.training.experiment import Experiment


def differences(given: Arguments, experiment: Experiment) -> list[str]:
    """Returns the differences between this run and the same run in FlagEmbedding.

    Args:
      given: The arguments of the command.
      experiment: The translated experiment; its rows are read and counted.

    Returns:
      Messages, one line each.
    """
    notes = [
        "similarities are float32",
        "incomplete batches are dropped",
        "texts are packed, and identical texts are encoded once",
    ]
    if experiment.loss.mask_false_negatives:
        notes.append("known false negatives are masked")
    if given.loss.negatives_cross_device:
        notes.append("the gradient is that of the whole batch, not 1/W of it on W devices")
    if (given.encoder.sub_batch_size or 0) > 0:
        notes.append("--sub_batch_size limits the memory")
    elif experiment.chunk_tokens:
        notes.append(
            "accumulated batches are one step with gradient caching, which encodes "
            f"{experiment.chunk_tokens:,} tokens per device at a time (see --sub_batch_size)"
        )
    if given.trainer.weight_decay > 0:
        notes.append("--weight_decay does not apply to embedding tables")
    if given.data.knowledge_distillation and given.loss.teacher_temperature != 1:
        notes.append("the softmax of the teacher has a temperature, --teacher_temperature")
    if given.data.same_dataset_within_batch and given.trainer.gradient_accumulation_steps > 1:
        notes.append("all batches that a step accumulates come from one file")
    return [
        f"unlike FlagEmbedding: {'; '.join(notes)}",
        *_mask_notes(experiment),
        *_row_notes(given, experiment),
        *_evaluation_notes(given),
    ]


def _mask_notes(experiment: Experiment) -> Iterator[str]:
    if experiment.loss.function.uses_negatives and not experiment.loss.mask_false_negatives:
        yield (
            "passages that are known to answer a query count as negatives if they belong to "
            "another query of the batch, as in FlagEmbedding; --mask_false_negatives True leaves "
            "them out"
        )


def _evaluation_notes(arguments: Arguments) -> Iterator[str]:
    if arguments.trainer.eval_steps and arguments.data.eval_data is None:
        yield "--eval_steps has no effect without held-out data; add --eval_data FILE to evaluate"


def _row_notes(arguments: Arguments, experiment: Experiment) -> Iterator[str]:
    """Yields notes on fields of rows that have an effect only in some modes or some rows."""
    sources = open_sources(experiment.data)
    rows = {
        field: sum(source.count(field) for source in sources)
        for field in (*COUNTED_FIELDS, "scored")
    }
    if arguments.data.knowledge_distillation and (
        missing := sum(map(len, sources)) - rows["scored"]
    ):
        theirs = "as in FlagEmbedding if no row of the batch has scores"
        if not arguments.data.same_dataset_within_batch:
            theirs = "FlagEmbedding stops there without --same_dataset_within_batch"
        yield (
            f'{missing:,} rows without "pos_scores" and "neg_scores" are trained on without the '
            f"teacher ({theirs})"
        )
    if not arguments.data.same_dataset_within_batch:
        yield from _mixed_notes(arguments, rows)


def _mixed_notes(arguments: Arguments, rows: Mapping[str, int]) -> Iterator[str]:
    """Yields notes on fields of rows where batches mix files."""
    own = "without --same_dataset_within_batch"
    both = f"{own} or --query_instruction_for_retrieval"
    no_instruction = arguments.data.query_instruction_for_retrieval is None
    for field, without in (("prompt", both if no_instruction else ""), ("type", own)):
        if not rows[field] or not without:
            continue
        if arguments.data.dataset_rules == "always":
            yield (
                f'the "{field}" of {rows[field]:,} rows is used; FlagEmbedding ignores it {without}'
            )
        else:
            yield (
                f'the "{field}" of {rows[field]:,} rows has no effect {without}, as in '
                "FlagEmbedding; --dataset_rules always uses it"
            )
    for field in ("batch_size", "train_group_size"):
        if rows[field]:
            yield f'the "{field}" of {rows[field]:,} rows has no effect {own}, as in FlagEmbedding'

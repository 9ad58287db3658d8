"""Notices about differences between a run and FlagEmbedding."""

from __future__ import annotations

from collections.abc import Iterator

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
        notes.append("known false negatives are masked (--mask_false_negatives False keeps them)")
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
    if given.data.knowledge_distillation:
        notes.append("the softmax of the teacher has a temperature, --teacher_temperature")
    return [
        f"unlike FlagEmbedding: {'; '.join(notes)}",
        *_row_notes(given, experiment),
        *_evaluation_notes(given),
    ]


def _evaluation_notes(arguments: Arguments) -> Iterator[str]:
    if arguments.trainer.eval_steps and arguments.data.eval_data is None:
        yield "--eval_steps has no effect without held-out data; add --eval_data FILE to evaluate"


def _row_notes(arguments: Arguments, experiment: Experiment) -> Iterator[str]:
    """Yields notes on fields of rows that FlagEmbedding uses only in some of its modes."""
    sources = open_sources(experiment.data)
    rows = {field: sum(source.count(field) for source in sources) for field in COUNTED_FIELDS}
    if not arguments.data.same_dataset_within_batch:
        condition = "FlagEmbedding does so only with --same_dataset_within_batch"
        if rows["prompt"] and arguments.data.query_instruction_for_retrieval is None:
            yield (
                f'the "prompt" of {rows["prompt"]:,} rows is prepended to the query; {condition} '
                "or --query_instruction_for_retrieval"
            )
        if rows["type"]:
            yield f'the "type" of {rows["type"]:,} rows is used; {condition}'
    for name, flag in (
        ("batch_size", "--per_device_train_batch_size"),
        ("train_group_size", "--train_group_size"),
    ):
        if rows[name]:
            yield f'the "{name}" of {rows[name]:,} rows is not used; set {flag}'

"""What the user of the command should know of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from contrastive import config
from contrastive.data.opening import open_sources
from contrastive.finetune.parsing import Arguments


def differences(given: Arguments, experiment: config.Experiment) -> list[str]:
    """What FlagEmbedding would do otherwise in this very run.

    Args:
      given: The arguments.
      experiment: What they were translated to; its rows are counted.

    Returns:
      Lines.
    """
    found = ["scores are float32", "batches are whole", "texts are packed, and equal ones shared"]
    if experiment.loss.mask_false_negatives:
        found.append("known false negatives are masked (--mask_false_negatives False keeps them)")
    if given.loss.negatives_cross_device:
        found.append("the gradient across devices is the whole batch's, not 1/W of it")
    if (given.encoder.sub_batch_size or 0) > 0:
        found.append("--sub_batch_size bounds the memory")
    elif experiment.chunk_tokens:
        found.append(
            f"accumulated batches are one step with gradient caching, {experiment.chunk_tokens:,} "
            "tokens a device at a time (--sub_batch_size changes that)"
        )
    if given.trainer.weight_decay > 0:
        found.append("--weight_decay leaves embedding tables alone")
    if given.data.knowledge_distillation:
        found.append("the teacher's softmax has a --teacher_temperature")
    return [
        f"unlike FlagEmbedding: {'; '.join(found)}",
        *_of_rows(given, experiment),
        *_of_evaluation(given),
    ]


def _of_evaluation(given: Arguments) -> Iterator[str]:
    if given.trainer.eval_steps and given.data.eval_data is None:
        yield "--eval_steps has no effect: nothing is held out. Give --eval_data FILE to evaluate"


def _of_rows(given: Arguments, experiment: config.Experiment) -> Iterator[str]:
    """What becomes of fields of rows that FlagEmbedding reads in some of its modes."""
    rows = sum((s.field_counts for s in open_sources(experiment.data.train)), Counter())
    if not given.data.same_dataset_within_batch:
        only = "FlagEmbedding does so only with --same_dataset_within_batch"
        if rows["prompt"] and given.data.query_instruction_for_retrieval is None:
            yield (
                f'the "prompt" of {rows["prompt"]:,} rows is put before their queries; {only} or '
                "--query_instruction_for_retrieval"
            )
        if rows["type"]:
            yield f'the "type" of {rows["type"]:,} rows is heeded; {only}'
    for name, flag in (
        ("batch_size", "--per_device_train_batch_size"),
        ("train_group_size", "--train_group_size"),
    ):
        if rows[name]:
            yield f'the "{name}" of {rows[name]:,} rows is not used; {flag} is'

"""Errors in the words of the command line: flags where an experiment file has settings."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pydantic

from contrastive.errors import ConfigError, UserError

_BATCH = (
    "the batch (--per_device_train_batch_size x devices x --gradient_accumulation_steps)",
    "the batch",
)
FLAGS = {
    "--workdir": "--output_dir",
    "name": "--output_dir",
    "seed": "--seed",
    "steps": "steps (--max_steps, --num_train_epochs)",
    "batch_size": _BATCH[0],
    "data.train": "--train_data",
    "data.train.parts": "--train_data",
    "data.train.one_source_batches": "--same_dataset_within_batch",
    "one_source_batches": "--same_dataset_within_batch",
    "jsonl.limit": "--max_example_num_per_dataset",
    "data.validation": "--eval_data",
    "data.group_size": "--train_group_size",
    "group_size": "--train_group_size",
    "data.few_negatives": "--few_negatives",
    "few_negatives": "--few_negatives",
    "data.shuffle_ratio": "--shuffle_ratio",
    "data.row_prompt": "--query_instruction_format",
    "data.query_prompt": "--query_instruction_for_retrieval",
    "data.document_prompt": "--passage_instruction_for_retrieval",
    "data.query_max_length": "--query_max_len",
    "data.document_max_length": "--passage_max_len",
    "data.workers": "--dataloader_num_workers",
    "model.name": "--model_name_or_path",
    "model.cache_dir": "--cache_dir",
    "model.dropout": "--dropout",
    "model.dtype": "--bf16",
    "model.remat": "--gradient_checkpointing",
    "pooling": "--sentence_pooling_method",
    "normalize": "--normalize_embeddings",
    "loss.function": "--loss",
    "loss.policy": "--temperature_policy",
    "loss.temperature": "--temperature",
    "loss.above_positive": "--above_positive",
    "loss.relative_to_positive": "--relative_to_positive",
    "loss.guide": "--guide_model",
    "loss.guide.name": "--guide_model",
    "loss.guide.margin": "--guide_margin",
    "loss.mask_false_negatives": "--mask_false_negatives",
    "loss.distill": "--knowledge_distillation",
    "loss.distill.kind": "--kd_loss_type",
    "loss.distill.temperature": "--teacher_temperature",
    "loss.distill.weight": "--kd_weight",
    "loss.widths": "--mrl_dims",
    "loss.shards": "shards (devices x --gradient_accumulation_steps; with --negatives_cross_device "
    "only the latter)",
    "chunk_tokens": "--sub_batch_size",
    "optimizer.learning_rate": "--learning_rate",
    "optimizer.schedule": "--lr_scheduler_type",
    "optimizer.warmup_steps": "--warmup_steps",
    "optimizer.weight_decay": "--weight_decay",
    "optimizer.b1": "--adam_beta1",
    "optimizer.b2": "--adam_beta2",
    "optimizer.eps": "--adam_epsilon",
    "optimizer.max_grad_norm": "--max_grad_norm",
    "optimizer.frozen": "--fix_position_embedding",
    "log_steps": "--logging_steps",
    "eval_steps": "--eval_steps",
    "save_steps": "--save_steps",
    "keep_checkpoints": "--save_total_limit",
    "patience": "--patience",
    "fsdp": "--fsdp_devices",
    "writers": "--report_to",
}
"""What the command calls each setting it makes."""

_CLASSES = {
    "Checkpoint": "model.",
    "Data": "data.",
    "Distill": "loss.distill.",
    "Jsonl": "jsonl.",
    "Loss": "loss.",
    "Optimizer": "optimizer.",
}
# Words of the language too, and therefore settings only where a line begins with them.
_WORDS = [name for name in FLAGS if name.isalpha()]
_NAMES = sorted(FLAGS.keys() - set(_WORDS), key=len, reverse=True)
_SETTING = re.compile(
    r"(?m)(?<![-\w./'\"])(" + "|".join(map(re.escape, _NAMES)) + r")(?![\w/'\"]|\.\w)"
    rf"|^(?P<space> *)(?P<word>{'|'.join(_WORDS)})(?=: | is | needs )"
)


@contextlib.contextmanager
def in_flags() -> Iterator[None]:
    """Errors from inside name flags.

    Raises:
      UserError: As it was raised, in other words.
      ConfigError: For a value that a setting cannot have.
    """
    try:
        yield
    except pydantic.ValidationError as error:
        raise ConfigError(_of_validation(error)) from error
    except UserError as error:
        raise type(error)(reworded(str(error))) from error


def reworded(message: str) -> str:
    """A message about settings as one about flags.

    >>> reworded("Raise loss.temperature, and start in a new --workdir.")
    'Raise --temperature, and start in a new --output_dir.'
    """
    message = re.sub(r"loss\.function\.(\w+)\.(\w+)", r"--loss \1 --loss_options \2", message)
    message = re.sub(r"(data\.)train\.parts\[\d+\]\.|(data\.validation)\.\w+", r"\1\2", message)
    message = _SETTING.sub(
        lambda found: FLAGS[found[1]] if found[1] else found["space"] + FLAGS[found["word"]],
        message,
    )
    whole, short = _BATCH
    first, explained, rest = message.partition(whole)
    return first + explained + rest.replace(whole, short)


def _of_validation(error: pydantic.ValidationError) -> str:
    lines = []
    for found in error.errors():
        reason = found["msg"].removeprefix("Value error, ")
        name = _CLASSES.get(error.title, "") + ".".join(map(str, found["loc"]))
        lines.append(f"{name} is {found['input']!r}: {reason}" if found["loc"] else reason)
    return reworded("\n".join(lines))

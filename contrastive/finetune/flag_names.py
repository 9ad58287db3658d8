"""The flags by the experiment fields that they set, for error messages."""

from __future__ import annotations

import dataclasses
import functools
import re

from contrastive.finetune.arguments import GROUPS

SHOWN = {
    "batch_size": "the batch (--per_device_train_batch_size x devices x "
    "--gradient_accumulation_steps)",
    "steps": "the number of steps (--max_steps, --num_train_epochs)",
    "loss.negative_groups": "the number of negative groups (devices x "
    "--gradient_accumulation_steps; with --negatives_cross_device only the latter)",
    "loss.function.terms": "the loss and its distillation (--loss, --knowledge_distillation, "
    "--kd_loss_type, --teacher_temperature, --kd_weight)",
    "data.in_batch": "in_batch of a file or folder of --train_data whose name ends in "
    "no_in_batch_neg",
    "data.batch_size": 'the batch of a file ("batch_size" of its rows, or half of '
    "--per_device_train_batch_size for symmetric types)",
}


def flag_of(field: str) -> str:
    """Returns the flag that sets a field of an experiment, or a description of the field.

    Args:
      field: The field, dotted if it is nested.

    Returns:
      The flag; the field itself if no flag sets it.

    >>> flag_of("loss.temperature")
    '--temperature'
    >>> flag_of("loss.function.beta")
    '--loss_options beta'
    """
    known = {**SHOWN, **flags_by_field()}
    field = re.sub(r"^loss\.function\.terms\.\d+\.loss\.", "loss.function.", field)
    field = re.sub(r"^data\.train\.parts\[\d+\]\.", "data.", field)
    if field in known:
        return known[field]
    for prefix, flag in _FLAGS_OF_PARTS.items():
        if field.startswith(prefix):
            return f"{flag} {field.removeprefix(prefix)}" if flag.endswith("options") else flag
    return field


_FLAGS_OF_PARTS = {
    "loss.function.": "--loss_options",
    "loss.policy.": "--temperature_options",
    "loss.guide.": "--guide_model",
    "evaluators.validation.": "--eval_data",
}


@functools.cache
def flags_by_field() -> dict[str, str]:
    """Returns the flags by the fields that they set."""
    return {
        field: f"--{flag.name}"
        for group in GROUPS
        for flag in dataclasses.fields(group)
        for field in flag.metadata["help"].fields
    }

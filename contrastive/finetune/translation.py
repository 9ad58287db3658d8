"""Translation of FlagEmbedding's arguments to an experiment."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from contrastive.data.config import Mixture
from contrastive.errors import ConfigError
from contrastive.finetune.arguments import EncoderArguments, ModelArguments
from contrastive.finetune.compat_notes import differences
from contrastive.finetune.flags import choices
from contrastive.finetune.loss_translation import loss_settings
from contrastive.finetune.parsing import Arguments
from contrastive.finetune.trainer_flags import TrainerArguments
from contrastive.finetune.training_data import (
    applies_dataset_rules,
    applies_row_prompts,
    mixture_steps_per_epoch,
    training_mixture,
)
from contrastive.models._checkpoint import Checkpoint
from contrastive.sources._jsonl import Jsonl
from contrastive.tasks._retrieval import Retrieval
from contrastive.training.experiment import Experiment
from contrastive.writers._writer import Writer


class Translated(NamedTuple):
    """An experiment, and notices for the user."""

    experiment: Experiment
    notices: list[str]


def translate(given: Arguments, devices: int) -> Translated:
    """Translates FlagEmbedding's arguments to an experiment.

    Args:
      given: The arguments of the command.
      devices: Number of devices of all processes; multiplies the batch size per device.

    Returns:
      The experiment, and notices about the differences from FlagEmbedding.

    Raises:
      ConfigError: If a value is not supported.
      DataError: If training data is missing or entirely dropped.
    """
    _check_model(given.model)
    _check_fractions(given.trainer)
    notices: list[str] = []
    train = training_mixture(given, devices, notices)
    batch = _batch(given, devices)
    epoch = mixture_steps_per_epoch(train, max(1, batch.size))
    steps = _total_steps(given.trainer, epoch)
    # Nested dictionaries are validated with the experiment, so that errors name the full field.
    settings: dict[str, Any] = {
        # Not that of --output_dir, so that a run whose folder was renamed can be resumed.
        "name": Path(given.model.model_name_or_path).name or "finetune",
        "seed": given.trainer.seed,
        "steps": steps,
        "batch_size": batch.size,
        "data": _data(given, train),
        "model": _checkpoint(given.model, given.encoder, notices),
        "pooling": given.encoder.sentence_pooling_method,
        "normalize": given.encoder.normalize_embeddings,
        "loss": loss_settings(given, batch.negative_groups, notices),
        "optimizer": _optimizer(given, steps),
        "chunk_tokens": _chunk_tokens(given),
        "fsdp": given.trainer.fsdp_devices,
        "writers": _writers(given.trainer.report_to),
        **_evaluation(given, steps),
        **_schedule(given.trainer, epoch, steps),
    }
    if (warmup := _warmup(given.trainer, steps)) > steps:
        notices.append(
            f"--warmup_steps is {warmup}, more than the {steps} steps of the run: it takes "
            f"all of them, while in FlagEmbedding it ends at {steps / warmup:.2g} of "
            "--learning_rate"
        )
    experiment = Experiment(**settings)
    return Translated(experiment, [*notices, *differences(given, experiment)])


class _Batch(NamedTuple):
    """Number of queries per step, and of parts within which documents are negatives."""

    size: int
    negative_groups: int


def _batch(given: Arguments, devices: int) -> _Batch:
    trainer = given.trainer
    accumulated = trainer.gradient_accumulation_steps
    return _Batch(
        size=trainer.per_device_train_batch_size * devices * accumulated,
        negative_groups=accumulated * (1 if given.loss.negatives_cross_device else devices),
    )


def _total_steps(trainer: TrainerArguments, epoch: int) -> int:
    if trainer.max_steps > 0:
        return trainer.max_steps
    return max(1, math.ceil(trainer.num_train_epochs * epoch))


def _data(given: Arguments, train: Mixture) -> dict[str, Any]:
    data = given.data
    return {
        "train": train,
        "group_size": data.train_group_size,
        "few_negatives": data.few_negatives,
        "shuffle_ratio": data.shuffle_ratio,
        "row_types": applies_dataset_rules(data),
        "row_prompt": _row_prompt(given),
        "query_prompt": _prompt(
            "query", data.query_instruction_for_retrieval, data.query_instruction_format
        ),
        "document_prompt": _prompt(
            "passage", data.passage_instruction_for_retrieval, data.passage_instruction_format
        ),
        "query_max_length": data.query_max_len,
        "document_max_length": data.passage_max_len,
        "workers": max(2, given.trainer.dataloader_num_workers),
    }


def _evaluation(given: Arguments, steps: int) -> dict[str, Any]:
    patience = given.trainer.patience
    if given.data.eval_data is None:
        return {"evaluators": {}, "eval_steps": None, "patience": patience}
    held_out = Retrieval(data=Jsonl(path=given.data.eval_data), row_prompt=_row_prompt(given))
    return {
        "evaluators": {"validation": held_out},
        "eval_steps": _steps(given.trainer.eval_steps or steps, steps),
        "patience": patience,
    }


def _schedule(trainer: TrainerArguments, epoch: int, steps: int) -> dict[str, Any]:
    return {
        "log_steps": _steps(trainer.logging_steps, steps),
        "save_steps": _save_steps(trainer, epoch, steps),
        "keep_checkpoints": trainer.save_total_limit,
    }


def _check_model(model: ModelArguments) -> None:
    files = {"tokenizer_name": "tokenizer", "config_name": "config.json"}
    for flag, file in files.items():
        value = getattr(model, flag)
        if value not in (None, model.model_name_or_path):
            raise ConfigError(
                f"--{flag} is {value!r}, but the {file} of the checkpoint is always used; replace "
                "it in the folder of --model_name_or_path, or remove the flag"
            )
    if model.trust_remote_code:
        raise ConfigError(
            "--trust_remote_code is not supported: code from checkpoints is never run; remove the "
            "flag and choose a BERT, RoBERTa, XLM-RoBERTa or ModernBERT"
        )
    if not model.use_fast_tokenizer:
        raise ConfigError(
            "--use_fast_tokenizer is False, but only fast tokenizers are supported; remove the flag"
        )


def _check_fractions(trainer: TrainerArguments) -> None:
    """Checks numbers of steps that may be fractions, before they are scaled."""
    for flag in ("warmup_ratio", "warmup_steps", "logging_steps", "save_steps", "eval_steps"):
        value = getattr(trainer, flag)
        if value is not None and value < 0:
            raise ConfigError(
                f"--{flag} is {value:g}, but must not be negative; raise it, or remove the flag"
            )


def _row_prompt(given: Arguments) -> str:
    """Returns the template of the prompts of rows; empty if they have no effect."""
    form = _prompt("query", "{}", given.data.query_instruction_format)
    return form if applies_row_prompts(given.data) else ""


def _prompt(name: str, instruction: str | None, form: str) -> str:
    """Returns the prompt of an instruction and its format; empty if there is no instruction."""
    form = form.replace("\\n", "\n")
    before, _, after = form.rpartition("{}")
    if before.count("{}") == 1 and after:
        raise ConfigError(
            f"--{name}_instruction_format is {form!r}, with {after!r} after the {name}, which "
            "FlagEmbedding adds; here it cannot be, because model folders have no place for it. "
            f"Put it into the rows, and after every {name} that you encode; end the format in {{}}"
        )
    if form.count("{}") != 2:
        raise ConfigError(
            f"--{name}_instruction_format is {form!r}, but must contain {{}} twice, for the "
            f"instruction and, at the end, the {name}"
        )
    return "" if instruction is None else form[:-2].replace("{}", instruction)


def _checkpoint(
    model: ModelArguments, encoder: EncoderArguments, notices: list[str]
) -> dict[str, Any]:
    if encoder.fp16:
        notices.append("--fp16: layers compute in bfloat16, which needs no loss scaling")
    return {
        "kind": Checkpoint.kind,
        "name": model.model_name_or_path,
        "cache_dir": model.cache_dir,
        "dropout": encoder.dropout,
        "dtype": "bfloat16" if encoder.bf16 or encoder.fp16 else "float32",
        "remat": encoder.gradient_checkpointing,
    }


def _warmup(trainer: TrainerArguments, steps: int) -> int:
    """Returns the number of warmup steps, which may be more than all steps."""
    if trainer.lr_scheduler_type == "constant":
        return 0
    if trainer.warmup_steps >= 1:
        return int(trainer.warmup_steps)
    return math.ceil((trainer.warmup_steps or trainer.warmup_ratio) * steps)


# Schedules of the Hugging Face trainer that have another name here, with their last learning rates.
_SCHEDULES = {
    "constant_with_warmup": ("constant", 0.0),
    "cosine_with_restarts": ("cosine", 0.0),
    "polynomial": ("linear", 1e-7),
}


def _optimizer(arguments: Arguments, steps: int) -> dict[str, Any]:
    trainer = arguments.trainer
    schedule, final = _SCHEDULES.get(trainer.lr_scheduler_type, (trainer.lr_scheduler_type, 0.0))
    if final and trainer.learning_rate <= final:
        raise ConfigError(
            f"--learning_rate is {trainer.learning_rate:g}, but --lr_scheduler_type polynomial "
            f"ends at {final:g}; raise it, or choose linear"
        )
    return {
        "learning_rate": trainer.learning_rate,
        "schedule": schedule,
        "final_learning_rate": final,
        "warmup_steps": min(_warmup(trainer, steps), steps),
        "warmup_from_zero": True,
        "weight_decay": trainer.weight_decay,
        "b1": trainer.adam_beta1,
        "b2": trainer.adam_beta2,
        "eps": trainer.adam_epsilon,
        "max_grad_norm": trainer.max_grad_norm or None,
        "frozen": ("position_embedding",) if arguments.encoder.fix_position_embedding else (),
    }


def _chunk_tokens(arguments: Arguments) -> int | None:
    texts = arguments.encoder.sub_batch_size or 0
    if texts <= 0 and arguments.trainer.gradient_accumulation_steps > 1:
        # Gradient accumulation indicates that the memory suffices for only one batch.
        texts = arguments.trainer.per_device_train_batch_size * arguments.data.train_group_size
    return texts * arguments.data.passage_max_len if texts > 0 else None


def _steps(every: float, steps: int) -> int:
    """Returns a number of steps; below 1, `every` is a fraction, as in the Hugging Face trainer."""
    return max(1, math.ceil(every * steps) if every < 1 else int(every))


def _save_steps(trainer: TrainerArguments, epoch: int, steps: int) -> int | None:
    if trainer.save_strategy == "no":
        return None
    return max(1, epoch) if trainer.save_strategy == "epoch" else _steps(trainer.save_steps, steps)


def _writers(report_to: list[str]) -> tuple[Any, ...]:
    known = choices(Writer)
    if unknown := set(report_to) - {"none", "all", *known}:
        raise ConfigError(
            f"--report_to {' '.join(sorted(unknown))} is not supported; choose from none, all, "
            f"{', '.join(known)}"
        )
    return tuple(kind for kind in known if kind in report_to or "all" in report_to)

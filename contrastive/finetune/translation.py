"""Translation of FlagEmbedding's arguments to an experiment."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from contrastive.errors import ConfigError
from contrastive.finetune.arguments import (
    EncoderArguments,
    ModelArguments,
    TrainerArguments,
    choices,
)
from contrastive.finetune.compat_notes import differences
from contrastive.finetune.parsing import Arguments
from contrastive.finetune.training_data import mixture_steps_per_epoch, training_mixture
from contrastive.losses._distill_kl import DistillKL
from contrastive.losses._distill_m3 import DistillM3
from contrastive.losses._loss import Sum
from contrastive.models._checkpoint import Checkpoint
from contrastive.parts import KIND
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
    trainer, data, notices = given.trainer, given.data, []
    train = training_mixture(given, notices)
    accumulated = trainer.gradient_accumulation_steps
    batch_size = trainer.per_device_train_batch_size * devices * accumulated
    negative_groups = accumulated * (1 if given.loss.negatives_cross_device else devices)
    epoch = mixture_steps_per_epoch(train, max(1, batch_size))
    steps = trainer.max_steps
    if steps <= 0:
        steps = max(1, math.ceil(trainer.num_train_epochs * epoch))
    held_out = {}
    if data.eval_data is not None:
        row_prompt = _prompt("query", "{}", data.query_instruction_format)
        held_out["validation"] = Retrieval(data=Jsonl(path=data.eval_data), row_prompt=row_prompt)
    # Nested dictionaries are validated with the experiment, so that errors name the full field.
    settings: dict[str, Any] = {
        "name": Path(trainer.output_dir).resolve().name,
        "seed": trainer.seed,
        "steps": steps,
        "batch_size": batch_size,
        "data": {
            "train": train,
            "group_size": data.train_group_size,
            "few_negatives": data.few_negatives,
            "shuffle_ratio": data.shuffle_ratio,
            "row_prompt": _prompt("query", "{}", data.query_instruction_format),
            "query_prompt": _prompt(
                "query", data.query_instruction_for_retrieval, data.query_instruction_format
            ),
            "document_prompt": _prompt(
                "passage", data.passage_instruction_for_retrieval, data.passage_instruction_format
            ),
            "query_max_length": data.query_max_len,
            "document_max_length": data.passage_max_len,
            "workers": max(2, trainer.dataloader_num_workers),
        },
        "model": _checkpoint(given.model, given.encoder, notices),
        "pooling": given.encoder.sentence_pooling_method,
        "normalize": given.encoder.normalize_embeddings,
        "loss": {
            "function": _function(given),
            "temperature": given.loss.temperature,
            "policy": _with_options(
                "--temperature_policy",
                given.loss.temperature_policy,
                "--temperature_options",
                given.loss.temperature_options,
            ),
            "above_positive": given.loss.above_positive,
            "relative_to_positive": given.loss.relative_to_positive,
            "guide": _guide(given),
            "mask_false_negatives": given.loss.mask_false_negatives,
            "matryoshka_dims": _matryoshka_dims(given),
            "negative_groups": negative_groups,
        },
        "optimizer": _optimizer(given, steps),
        "chunk_tokens": _chunk_tokens(given),
        "log_steps": _steps(trainer.logging_steps, steps),
        "evaluators": held_out,
        "eval_steps": _steps(trainer.eval_steps or steps, steps) if held_out else None,
        "save_steps": _save_steps(trainer, epoch, steps),
        "keep_checkpoints": trainer.save_total_limit,
        "patience": trainer.patience,
        "fsdp": trainer.fsdp_devices,
        "writers": _writers(trainer.report_to),
    }
    experiment = Experiment(**settings)
    return Translated(experiment, [*notices, *differences(given, experiment)])


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


def _prompt(name: str, instruction: str | None, form: str) -> str:
    """Returns the prompt of an instruction and its format; empty if there is no instruction."""
    form = form.replace("\\n", "\n")
    if form.count("{}") != 2 or not form.endswith("{}"):
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


def _function(arguments: Arguments) -> Any:
    """Returns the loss, including distillation if there is a teacher."""
    kind, options, weight = (
        arguments.loss.loss,
        arguments.loss.loss_options,
        arguments.loss.kd_weight,
    )
    hard = _with_options("--loss", kind, "--loss_options", options)
    if not arguments.data.knowledge_distillation:
        return hard
    temperature = arguments.loss.teacher_temperature
    if arguments.loss.kd_loss_type == "kl_div":
        soft = weight * DistillKL(teacher_temperature=temperature)
        return {KIND: Sum.kind, "terms": ({"loss": hard}, *soft.terms)}
    if hard != {KIND: "info_nce"}:
        raise ConfigError(
            "--kd_loss_type m3_kd_loss replaces info_nce and has none of its settings; "
            f"remove --loss {kind} and --loss_options, or choose kl_div"
        )
    return weight * DistillM3(teacher_temperature=temperature)


def _with_options(flag: str, kind: str, options_flag: str, options: list[str]) -> dict[str, str]:
    """Returns the config of a part; its options are strings, which the config validates."""
    if unset := [option for option in options if "=" not in option]:
        raise ConfigError(f"{options_flag} {' '.join(unset)}: write each option as NAME=VALUE")
    split = (option.partition("=") for option in options)
    settings = {name: value for name, _, value in split}
    if KIND in settings:
        raise ConfigError(f"{options_flag} kind={settings[KIND]}: use {flag} instead")
    return {KIND: kind, **settings}


def _guide(arguments: Arguments) -> dict[str, Any] | None:
    if arguments.loss.guide_model is None:
        if arguments.loss.guide_margin:
            raise ConfigError("--guide_margin has no effect without a guide; add --guide_model")
        return None
    dtype = "bfloat16" if arguments.encoder.bf16 or arguments.encoder.fp16 else "float32"
    return {
        "name": arguments.loss.guide_model,
        "cache_dir": arguments.model.cache_dir,
        "margin": arguments.loss.guide_margin,
        "dtype": dtype,
    }


def _matryoshka_dims(arguments: Arguments) -> tuple[int, ...]:
    if arguments.loss.use_mrl and not arguments.loss.mrl_dims:
        raise ConfigError("--use_mrl needs widths; add them, for example --mrl_dims 64 128 256")
    return tuple(arguments.loss.mrl_dims) if arguments.loss.use_mrl else ()


def _optimizer(arguments: Arguments, steps: int) -> dict[str, Any]:
    trainer = arguments.trainer
    warmup = trainer.warmup_steps
    if warmup < 1:
        warmup = math.ceil((warmup or trainer.warmup_ratio) * steps)
    schedule = trainer.lr_scheduler_type
    if schedule == "constant":  # never has a warmup
        warmup = 0
    return {
        "learning_rate": trainer.learning_rate,
        "schedule": "constant" if schedule == "constant_with_warmup" else schedule,
        "warmup_steps": min(int(warmup), steps),
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

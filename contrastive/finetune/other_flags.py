"""Flags of transformers and FlagEmbedding that finetune does not have: ignored, or refused."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Any

from contrastive.errors import ConfigError

# Flags of the Hugging Face trainer that change nothing about the model that is trained. All
# examples of FlagEmbedding set deepspeed, which changes how training is divided over GPUs but not
# its result.
IGNORED = frozenset(
    {
        "accelerator_config",
        "activation_checkpointing",
        "activation_checkpointing_kwargs",
        "average_tokens_across_devices",
        "batch_eval_metrics",
        "bf16_full_eval",
        "dataloader_in_order",
        "dataloader_multiprocessing_context",
        "dataloader_persistent_workers",
        "dataloader_pin_memory",
        "dataloader_prefetch_factor",
        "ddp_backend",
        "ddp_broadcast_buffers",
        "ddp_bucket_cap_mb",
        "ddp_find_unused_parameters",
        "ddp_static_graph",
        "ddp_timeout",
        "debug",
        "deepspeed",
        "disable_tqdm",
        "do_predict",
        "do_train",
        "enable_jit_checkpoint",
        "eval_accumulation_steps",
        "eval_delay",
        "eval_do_concat_batches",
        "eval_on_start",
        "eval_use_gather_object",
        "fp16_backend",
        "fp16_full_eval",
        "fp16_opt_level",
        "full_determinism",
        "gradient_checkpointing_kwargs",
        "greater_is_better",
        "group_by_length",
        "half_precision_backend",
        "hub_always_push",
        "hub_model_id",
        "hub_private_repo",
        "hub_revision",
        "hub_strategy",
        "hub_token",
        "ignore_data_skip",
        "include_for_metrics",
        "include_inputs_for_metrics",
        "include_num_input_tokens_seen",
        "include_tokens_per_second",
        "jit_mode_eval",
        "label_names",
        "length_column_name",
        "liger_kernel_config",
        "local_rank",
        "log_level",
        "log_level_replica",
        "log_on_each_node",
        "logging_dir",
        "logging_first_step",
        "logging_nan_inf_filter",
        "logging_strategy",
        "no_cuda",
        "overwrite_cache",
        "past_index",
        "per_device_eval_batch_size",
        "prediction_loss_only",
        "project",
        "ray_scope",
        "remove_unused_columns",
        "restore_callback_states_from_checkpoint",
        "run_name",
        "save_on_each_node",
        "save_only_model",
        "save_safetensors",
        "skip_memory_metrics",
        "tf32",
        "torch_compile",
        "torch_compile_backend",
        "torch_compile_mode",
        "torch_empty_cache_steps",
        "trackio_bucket_id",
        "trackio_space_id",
        "trackio_static_space_id",
        "train_sampling_strategy",
        "use_cache",
        "use_cpu",
        "use_ipex",
        "use_liger_kernel",
        "use_mps_device",
    }
)
# Alternatives to flags without effect.
HINTS = {
    "deepspeed": "to save memory, --fsdp_devices N divides parameters over N devices",
    "use_mps_device": "JAX chooses the devices",
    "use_cpu": "the environment variable JAX_PLATFORMS=cpu chooses the CPU",
    "no_cuda": "the environment variable JAX_PLATFORMS=cpu chooses the CPU",
    "hub_model_id": "upload the output folder with `hf upload`",
}
_ADAMW = "AdamW is the only optimizer; remove the flag"
_EVALUATION = "--eval_data FILE --eval_steps N evaluates during training"
_SHARDING = "--fsdp_devices N divides parameters and optimizer state over N devices"
_NO_LORA = "all parameters of the encoder are trained; remove the flag"
_ONLY_DENSE = "only dense embeddings are supported; remove the flag"
_ENCODERS = "only encoders are supported, which do not need it; remove the flag"
# Flags of the Hugging Face trainer that are not supported, and their alternatives.
TRANSFORMERS = {
    "fsdp": _SHARDING,
    "fsdp_config": _SHARDING,
    "parallelism_config": _SHARDING,
    "optim": _ADAMW,
    "optim_args": _ADAMW,
    "optim_target_modules": _ADAMW,
    "lr_scheduler_kwargs": "schedules have no settings beyond --learning_rate, --warmup_ratio and "
    "--warmup_steps; remove the flag",
    "eval_strategy": _EVALUATION,
    "evaluation_strategy": _EVALUATION,
    "do_eval": _EVALUATION,
    "load_best_model_at_end": "with --eval_data the best checkpoint is always exported",
    "metric_for_best_model": "nDCG@10 on --eval_data always selects the checkpoint",
    "push_to_hub": "upload the output folder with `hf upload`",
    "label_smoothing_factor": "add --loss_options label_smoothing=X",
    "neftune_noise_alpha": "there is no equivalent; remove the flag",
    "data_seed": "--seed also determines the order of the data",
    "auto_find_batch_size": "--sub_batch_size limits the memory for any batch size",
}
# Flags of FlagEmbedding's other trainers that are not supported, and their alternatives.
FLAGEMBEDDING = {
    **dict.fromkeys(
        [
            "use_lora",
            "lora_rank",
            "lora_alpha",
            "lora_dropout",
            "target_modules",
            "modules_to_save",
            "from_peft",
            "raw_peft",
            "peft_model_path",
            "save_merged_lora_model",
            "only_merge_lora_model",
        ],
        _NO_LORA,
    ),
    "fix_encoder": "the encoder is always trained; remove the flag",
    **dict.fromkeys(
        ["unified_finetuning", "use_self_distill", "self_distill_start_step", "colbert_dim"],
        _ONLY_DENSE,
    ),
    "use_flash_attn": "the implementation of attention cannot be chosen; remove the flag",
    "use_slow_tokenizer": "only fast tokenizers are supported; remove the flag",
    "additional_special_tokens": _ENCODERS,
    **dict.fromkeys(
        [
            "example_query_max_len",
            "example_passage_max_len",
            "retrieval_use_examples",
            "icl_suffix_str",
        ],
        "in-context examples are not supported; remove the flag",
    ),
}
# Defaults of FlagEmbedding that ask for nothing.
_DEFAULTS: dict[str, Any] = {
    "lora_rank": 64,
    "lora_alpha": 16,
    "lora_dropout": 0.1,
    "colbert_dim": -1,
    "self_distill_start_step": -1,
    "example_query_max_len": 64,
    "example_passage_max_len": 96,
}
_NOTHING = frozenset({"no", "false", "none", "null", "", "{}"})
_TRUE = frozenset({"true", "t", "yes", "y", "1"})


def check_unsupported(name: str, values: Sequence[str]) -> bool:
    """Checks a flag that finetune does not have.

    Args:
      name: The flag, without dashes.
      values: The words after it; none if it is bare.

    Returns:
      Whether it is known to change nothing: a flag without an effect here, or a value that is the
      default or asks for nothing.

    Raises:
      ConfigError: If the flag is one of transformers or FlagEmbedding that asks for something that
        finetune does not do; the message says what to do.
    """
    if name in IGNORED or _asks_for_nothing(name, values):
        return True
    for table, owner in ((TRANSFORMERS, "transformers"), (FLAGEMBEDDING, "FlagEmbedding")):
        if name in table:
            raise ConfigError(f"--{name} is a flag of {owner} and not supported: {table[name]}")
    if name in _transformers_defaults():
        raise ConfigError(
            f"--{name} is a flag of transformers and not supported: remove it, or leave it at its "
            f"default, {_shown(_transformers_defaults()[name])}"
        )
    return False


def _asks_for_nothing(name: str, values: Sequence[str]) -> bool:
    """Returns whether a flag that is not supported asks for what happens without it."""
    value = values[0] if values else "true"
    if name == "optim":
        return value.startswith("adamw")
    if name in {**TRANSFORMERS, **FLAGEMBEDDING} and value.lower() in _NOTHING:
        return True
    defaults = {**_transformers_defaults(), **_DEFAULTS}
    return name in defaults and _equals(value, defaults[name])


def _transformers_defaults() -> dict[str, Any]:
    """Returns the defaults of the flags of the installed transformers."""
    from transformers.training_args import TrainingArguments

    return {
        field.name: field.default
        if field.default_factory is dataclasses.MISSING
        else field.default_factory()
        for field in dataclasses.fields(TrainingArguments)
    }


def _equals(value: str, default: Any) -> bool:
    """Returns whether a word on the command line is a default."""
    if isinstance(default, bool):
        return (value.lower() in _TRUE) == default
    if isinstance(default, int | float):
        try:
            return float(value) == default
        except ValueError:
            return False
    if not default:
        return value.lower() in {*_NOTHING, "[]"}
    return value == _shown(default)


def _shown(default: Any) -> str:
    return str(default.value if isinstance(default, enum.Enum) else default)

"""Flags of the Hugging Face trainer: those that have an effect, are ignored, or are refused."""

from __future__ import annotations

import dataclasses
from typing import Literal

from contrastive.finetune.flags import choices, flag
from contrastive.writers._writer import Writer


@dataclasses.dataclass
class TrainerArguments:
    """Flags of the training run."""

    _argument_group_name = "training"

    output_dir: str = flag(
        "Folder of the trained model; its subfolder training/ contains the run.",
        field="workdir",
    )
    overwrite_output_dir: bool = flag(
        "Remove a run with other settings or data and start from the beginning.", False
    )
    per_device_train_batch_size: int = flag("Number of queries per device in each step.", 8)
    gradient_accumulation_steps: int = flag(
        "Number of batches per step, each with its own negatives. Memory is that of one batch, or "
        "of --sub_batch_size texts.",
        1,
    )
    num_train_epochs: float = flag("Number of passes over the training data.", 3.0)
    max_steps: int = flag("Number of steps; if positive, replaces --num_train_epochs.", -1)
    learning_rate: float = flag("Peak learning rate.", 5e-5, field="optimizer.learning_rate")
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = flag(
        "Schedule of the learning rate after warmup.", "linear", field="optimizer.schedule"
    )
    warmup_ratio: float = flag("Fraction of steps for warmup.", 0.0)
    warmup_steps: float = flag(
        "Number of warmup steps; below 1, a fraction of all steps.",
        0.0,
        field="optimizer.warmup_steps",
    )
    weight_decay: float = flag(
        "Weight decay of matrices; unlike the Hugging Face trainer, not of embedding tables.",
        0.0,
        field="optimizer.weight_decay",
    )
    adam_beta1: float = flag("Decay rate of the first moment in AdamW.", 0.9, field="optimizer.b1")
    adam_beta2: float = flag(
        "Decay rate of the second moment in AdamW.", 0.999, field="optimizer.b2"
    )
    adam_epsilon: float = flag("Epsilon of AdamW.", 1e-8, field="optimizer.eps")
    max_grad_norm: float = flag(
        "Maximum gradient norm for clipping; 0 disables clipping.",
        1.0,
        field="optimizer.max_grad_norm",
    )
    seed: int = flag("Random seed of shuffling, negatives and dropout.", 42, field="seed")
    dataloader_num_workers: int = flag(
        "Number of threads that prepare batches; at least 2.", 0, field="data.workers"
    )
    dataloader_drop_last: bool = flag("Not used: incomplete batches are always dropped.", False)
    logging_steps: float = flag(
        "Steps between logged metrics; below 1, a fraction of all steps.", 500, field="log_steps"
    )
    save_strategy: Literal["steps", "epoch", "no"] = flag(
        "Whether to save every --save_steps steps, once per epoch, or only at the end.", "steps"
    )
    save_steps: float = flag(
        "Steps between checkpoints; below 1, a fraction of all steps.", 500, field="save_steps"
    )
    save_total_limit: int | None = flag(
        "Number of latest checkpoints to keep; the default is all.", None, field="keep_checkpoints"
    )
    eval_steps: float | None = flag(
        "Steps between evaluations on --eval_data; below 1, a fraction of all steps.",
        None,
        field="eval_steps",
    )
    patience: int | None = flag(
        "Number of evaluations without a better nDCG@10 after which training stops.",
        None,
        field="patience",
        added=True,
    )
    resume_from_checkpoint: str | None = flag(
        "Not needed: the same command resumes a run. If set, --output_dir must contain a run to "
        "resume, and --overwrite_output_dir removes nothing.",
        None,
    )
    report_to: list[str] = flag(
        f"Writers in addition to metrics.jsonl: none, {', '.join(choices(Writer))} or all.",
        ["none"],
        field="writers",
    )
    fsdp_devices: int = flag(
        "Number of devices that share one copy of the parameters.",
        1,
        field="fsdp",
        added=True,
    )


# Flags of the Hugging Face trainer that have no effect. All examples of FlagEmbedding set
# deepspeed, which changes how training is divided over GPUs but not its result.
IGNORED = frozenset(
    {
        "deepspeed",
        "do_train",
        "disable_tqdm",
        "dataloader_pin_memory",
        "dataloader_persistent_workers",
        "dataloader_prefetch_factor",
        "ddp_find_unused_parameters",
        "ddp_backend",
        "ddp_timeout",
        "ddp_bucket_cap_mb",
        "local_rank",
        "logging_dir",
        "logging_first_step",
        "logging_strategy",
        "logging_nan_inf_filter",
        "log_level",
        "save_safetensors",
        "save_only_model",
        "remove_unused_columns",
        "overwrite_cache",
        "tf32",
        "torch_compile",
        "use_cpu",
        "no_cuda",
        "run_name",
        "ignore_data_skip",
        "full_determinism",
        "group_by_length",
    }
)
# Alternatives to flags without effect.
HINTS = {"deepspeed": "to save memory, --fsdp_devices N divides parameters over N devices"}
_NO_LORA = "all parameters of the encoder are trained; remove the flag"
_ONLY_DENSE = "only dense embeddings are supported; remove the flag"
_NO_EXAMPLES = "in-context examples are not supported; remove the flag"
# Flags that are not supported, and their alternatives.
REPLACEMENTS = {
    "fsdp": "--fsdp_devices N divides parameters and optimizer state over N devices",
    "fsdp_config": "--fsdp_devices N divides parameters and optimizer state over N devices",
    "optim": "AdamW is the only optimizer; remove the flag",
    "eval_strategy": "--eval_data FILE --eval_steps N evaluates during training",
    "evaluation_strategy": "--eval_data FILE --eval_steps N evaluates during training",
    "do_eval": "--eval_data FILE --eval_steps N evaluates during training",
    "load_best_model_at_end": "with --eval_data the best checkpoint is always exported",
    "metric_for_best_model": "nDCG@10 on --eval_data always selects the checkpoint",
    "push_to_hub": "upload the output folder with `hf upload`",
    "label_smoothing_factor": "add --loss_options label_smoothing=X",
    "neftune_noise_alpha": "there is no equivalent; remove the flag",
    "data_seed": "--seed also determines the order of the data",
    "auto_find_batch_size": "--sub_batch_size limits the memory for any batch size",
    "per_device_eval_batch_size": "evaluation chooses its own batch size; remove the flag",
    "use_lora": _NO_LORA,
    "lora_rank": _NO_LORA,
    "lora_alpha": _NO_LORA,
    "lora_dropout": _NO_LORA,
    "target_modules": _NO_LORA,
    "fix_encoder": "the encoder is always trained; remove the flag",
    "unified_finetuning": _ONLY_DENSE,
    "use_self_distill": _ONLY_DENSE,
    "self_distill_start_step": _ONLY_DENSE,
    "colbert_dim": _ONLY_DENSE,
    "use_flash_attn": "the implementation of attention cannot be chosen; remove the flag",
    "example_query_max_len": _NO_EXAMPLES,
    "example_passage_max_len": _NO_EXAMPLES,
}
# Values with which a flag that is not supported asks for nothing.
ASKS_FOR_NOTHING = frozenset({"no", "false", "none"})

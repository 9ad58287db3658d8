"""Flags of the Hugging Face trainer that have an effect."""

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
    lr_scheduler_type: Literal[
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "constant",
        "constant_with_warmup",
    ] = flag(
        "Schedule of the learning rate after warmup. As in the Hugging Face trainer at its default "
        "settings, cosine_with_restarts has one cycle, which is cosine, and polynomial is linear, "
        "down to 1e-7.",
        "linear",
        field="optimizer.schedule optimizer.final_learning_rate",
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

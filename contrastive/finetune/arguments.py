"""The flags: FlagEmbedding's, the Hugging Face trainer's that its users give, and a few of ours.

Names, defaults and meanings are those of FlagEmbedding 1.4's encoder-only embedder.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal


def _flag(help: str, default: Any = dataclasses.MISSING, **rest: Any) -> Any:
    metadata = {"help": help, **rest}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass
class ModelArguments:
    """The checkpoint."""

    _argument_group_name = "model"

    model_name_or_path: str = _flag(
        "Folder of Hugging Face or sentence-transformers, or a name on the Hub: BERT, RoBERTa, "
        "XLM-RoBERTa or ModernBERT in safetensors."
    )
    config_name: str | None = _flag("Not used: the checkpoint's own config.json is.", None)
    tokenizer_name: str | None = _flag("Not used: the checkpoint's own tokenizer is.", None)
    cache_dir: str | None = _flag("Where downloads from the Hub are kept.", None)
    trust_remote_code: bool = _flag("Refused: code from checkpoints is never run.", False)
    use_fast_tokenizer: bool = _flag("Only fast tokenizers are supported.", True)
    token: str | None = _flag("For private models on the Hub; HF_TOKEN unless given.", None)


@dataclasses.dataclass
class DataArguments:
    """What is trained on."""

    _argument_group_name = "data"

    train_data: list[str] = _flag(
        'Files or folders of .jsonl rows {"query": str, "pos": [str], "neg": [str]}, plain or .gz. '
        'Rows may have "pos_scores", "neg_scores", "prompt", "type" and "label".'
    )
    cache_path: str | None = _flag("Not used: nothing is converted.", None)
    train_group_size: int = _flag("Passages a query: 1 positive, the rest negatives.", 8)
    query_max_len: int = _flag("Most tokens of a query.", 32)
    passage_max_len: int = _flag("Most tokens of a passage.", 128)
    pad_to_multiple_of: int | None = _flag("Not used: texts are packed.", None)
    max_example_num_per_dataset: int = _flag("Most rows of each file.", 100_000_000)
    query_instruction_for_retrieval: str | None = _flag("Put before queries.", None)
    query_instruction_format: str = _flag("How: instruction, then query.", "{}{}")
    passage_instruction_for_retrieval: str | None = _flag("Put before passages.", None)
    passage_instruction_format: str = _flag("How: instruction, then passage.", "{}{}")
    knowledge_distillation: bool = _flag("Learn from pos_scores and neg_scores too.", False)
    shuffle_ratio: float = _flag("Share of the long positives that are shuffled by thirds.", 0.0)
    same_dataset_within_batch: bool = _flag("Every batch comes from one file.", False)
    small_threshold: int = _flag("Files of a folder with fewer rows are merged into one.", 0)
    drop_threshold: int = _flag("What is merged is left out if it has fewer rows.", 0)
    few_negatives: Literal["repeat", "fewer", "refuse"] = _flag(
        "Ours. What to do where a row has too few negatives: repeat some, make the group smaller, "
        "or refuse the row.",
        "repeat",
    )
    eval_data: str | None = _flag(
        "Ours. Held-out rows: nDCG@10 every --eval_steps chooses the best checkpoint.", None
    )


@dataclasses.dataclass
class LossArguments:
    """What is minimised."""

    _argument_group_name = "loss"

    temperature: float = _flag(
        "Divides the similarities. Low: hard negatives dominate; high: all count alike. Loss NaN "
        "or diverging: raise it. Poor discrimination: lower it.",
        0.02,
    )
    loss: Literal[
        "info_nce",
        "decoupled",
        "hard_negative",
        "hardest",
        "dual_temperature",
        "artanh",
        "model_aware",
        "sogclr",
        "sup_con",
        "siglip",
        "triplet",
        "margin_mse",
        "cosent",
        "listwise",
        "align_uniform",
    ] = _flag(
        "Ours. Which loss. margin_mse, cosent and listwise learn from pos_scores and neg_scores, "
        'sup_con from the "label" of a row.',
        "info_nce",
    )
    loss_options: list[str] = _flag(
        "Ours. Its settings: --loss hard_negative --loss_options beta=2 tau_plus=0.05, or "
        "directions=symmetric of info_nce.",
        [],
    )
    temperature_policy: Literal["fixed", "learned", "individual"] = _flag(
        "Ours. learned: with the encoder, from --temperature on, as in CLIP. individual: every "
        "query has its own, which --loss sogclr --loss_options rho=2 finds (iSogCLR).",
        "fixed",
    )
    above_positive: float | None = _flag(
        "Ours. Leave out negatives more similar than the positive by more than this; 0.1 in "
        "Qwen3-Embedding.",
        None,
    )
    relative_to_positive: float | None = _flag(
        "Ours. Leave out negatives above this share of the positive's similarity; 0.95 in "
        "NV-Retriever.",
        None,
    )
    guide_model: str | None = _flag(
        "Ours. A checkpoint with the same tokenizer, kept as it is: negatives that it finds closer "
        "than the positive are left out (GISTEmbed).",
        None,
    )
    guide_margin: float = _flag(
        "Ours. How far below the positive's a negative's score by the guide must be.", 0.0
    )
    negatives_cross_device: bool = _flag(
        "All devices' passages are negatives. The gradient is that of the one large batch.", False
    )
    kd_loss_type: Literal["kl_div", "m3_kd_loss"] = _flag("Loss of the distillation.", "kl_div")
    teacher_temperature: float = _flag(
        "Ours. Of the teacher's softmax: high for a reranker's raw scores, low for scores in "
        "[0, 1].",
        1.0,
    )
    kd_weight: float = _flag("Ours. Weight of the distillation loss.", 1.0)
    use_mrl: bool = _flag("Matryoshka: train the first values of embeddings too.", False)
    mrl_dims: list[int] = _flag("How many of them: --mrl_dims 64 128 256.", [])
    mask_false_negatives: bool = _flag(
        "Ours. Leave out negatives whose text is known to answer the query.", True
    )


@dataclasses.dataclass
class EncoderArguments:
    """How texts become embeddings."""

    _argument_group_name = "encoder"

    sentence_pooling_method: Literal["cls", "mean", "last_token"] = _flag(
        "How token vectors become a text's.", "cls"
    )
    normalize_embeddings: bool = _flag("Scale embeddings to unit length.", True)
    fix_position_embedding: bool = _flag("Do not train the position table.", False)
    dropout: float | None = _flag(
        "Ours. Replaces every dropout rate of the checkpoint; its own unless given.", None
    )
    bf16: bool = _flag("Layers compute in bfloat16; weights and loss stay float32.", False)
    fp16: bool = _flag("bfloat16 takes its place.", False)
    gradient_checkpointing: bool = _flag(
        "Compute activations again, instead of keeping them.", False
    )
    sub_batch_size: int | None = _flag(
        "Texts a device encodes at a time: memory is theirs, the gradient the whole batch's.", None
    )


@dataclasses.dataclass
class TrainerArguments:
    """How the training goes."""

    _argument_group_name = "training"

    output_dir: str = _flag("The trained model; its run is in training/ inside.")
    overwrite_output_dir: bool = _flag(
        "Start anew where a run with other settings or other data was, which is removed.", False
    )
    per_device_train_batch_size: int = _flag("Queries a device and step.", 8)
    gradient_accumulation_steps: int = _flag(
        "So many batches a step, each with its own negatives. The memory is one batch's, or "
        "--sub_batch_size's.",
        1,
    )
    num_train_epochs: float = _flag("Times each row is seen.", 3.0)
    max_steps: int = _flag("Steps, instead of epochs, where positive.", -1)
    learning_rate: float = _flag("Highest learning rate.", 5e-5)
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = _flag(
        "Course of the learning rate after the warm-up.", "linear"
    )
    warmup_ratio: float = _flag("Share of the steps that warm up.", 0.0)
    warmup_steps: float = _flag("Steps that warm up; below 1, their share.", 0.0)
    weight_decay: float = _flag(
        "Of matrices, but not of embedding tables, which the Hugging Face trainer decays too.", 0.0
    )
    adam_beta1: float = _flag("Decay of the first moment.", 0.9)
    adam_beta2: float = _flag("Decay of the second moment.", 0.999)
    adam_epsilon: float = _flag("Keeps the update finite.", 1e-8)
    max_grad_norm: float = _flag("Gradients are clipped to it; 0 switches that off.", 1.0)
    seed: int = _flag("Of shuffles, groups and dropout.", 42)
    dataloader_num_workers: int = _flag("Threads that prepare batches; at least 2.", 0)
    dataloader_drop_last: bool = _flag("Always so: batches are whole.", False)
    logging_steps: float = _flag("Steps between lines of metrics; below 1, their share.", 500)
    save_strategy: Literal["steps", "epoch", "no"] = _flag("When to save.", "steps")
    save_steps: float = _flag("Steps between checkpoints; below 1, their share.", 500)
    save_total_limit: int | None = _flag(
        "Latest checkpoints that are kept; all unless given.", None
    )
    eval_steps: float | None = _flag(
        "Steps between evaluations on --eval_data; no effect without.", None
    )
    patience: int | None = _flag(
        "Ours. Evaluations without a better nDCG@10 after which training stops.", None
    )
    resume_from_checkpoint: str | None = _flag(
        "Not needed: the same command goes on where it stopped. With it, there must be a run in "
        "--output_dir to go on with; --overwrite_output_dir then removes nothing.",
        None,
    )
    report_to: list[str] = _flag("none, tensorboard, wandb or all, beside metrics.jsonl.", ["none"])
    fsdp_devices: int = _flag("Ours. Devices that share one copy of the parameters.", 1)


GROUPS: tuple[Any, ...] = (
    ModelArguments,
    DataArguments,
    LossArguments,
    EncoderArguments,
    TrainerArguments,
)

# Flags of the Hugging Face trainer that change nothing here. DeepSpeed divides the same training
# over GPUs in another way, and FlagEmbedding's examples all have it.
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
# Of those, what some may be wanted for.
REMARKS = {"deepspeed": "where memory is short, --fsdp_devices N divides parameters over N devices"}
# And those that would change something: what to give instead.
INSTEAD = {
    "fsdp": "--fsdp_devices N divides parameters and optimizer state over N devices",
    "fsdp_config": "--fsdp_devices N divides parameters and optimizer state over N devices",
    "optim": "AdamW is the only optimizer; set --learning_rate, --adam_beta1 and the like",
    "eval_strategy": "--eval_data FILE --eval_steps N evaluates while training",
    "evaluation_strategy": "--eval_data FILE --eval_steps N evaluates while training",
    "do_eval": "--eval_data FILE --eval_steps N evaluates while training",
    "load_best_model_at_end": "with --eval_data the best checkpoint is always what is exported",
    "metric_for_best_model": "nDCG@10 on --eval_data chooses the best checkpoint",
    "push_to_hub": "upload the output folder with `hf upload`",
    "label_smoothing_factor": "contrastive train has it, a setting of info_nce",
    "neftune_noise_alpha": "there is no equivalent",
    "data_seed": "--seed decides shuffles too",
    "auto_find_batch_size": "--sub_batch_size bounds the memory, whatever the batch",
    "per_device_eval_batch_size": "leave it out; evaluation chooses its own",
    "use_lora": "only encoders are supported, and trained whole",
    "unified_finetuning": "only dense embeddings are supported",
    "use_self_distill": "only dense embeddings are supported",
}

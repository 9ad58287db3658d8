"""The flags of FlagEmbedding, common flags of the Hugging Face trainer, and additional flags.

Names, defaults and meanings follow the encoder-only embedder of FlagEmbedding 1.4. Help texts that
start with "Not in FlagEmbedding." are those of additional flags.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from contrastive.finetune.flags import choices, flag, setting_names, summaries
from contrastive.finetune.trainer_flags import TrainerArguments
from contrastive.losses._loss import Loss
from contrastive.temperature.policies._policy import Policy

if TYPE_CHECKING:
    LossName: TypeAlias = str
    PolicyName: TypeAlias = str
else:
    LossName = Literal[tuple(choices(Loss))]
    PolicyName = Literal[tuple(choices(Policy))]


@dataclasses.dataclass
class ModelArguments:
    """Flags of the checkpoint."""

    _argument_group_name = "model"

    model_name_or_path: str = flag(
        "Model folder (Hugging Face or sentence-transformers), or a model name on the Hub: BERT, "
        "RoBERTa, XLM-RoBERTa or ModernBERT in safetensors format.",
        field="model model.name name",
    )
    config_name: str | None = flag("Not used: config.json of the checkpoint is always used.", None)
    tokenizer_name: str | None = flag(
        "Not used: the tokenizer of the checkpoint is always used.", None
    )
    cache_dir: str | None = flag(
        "Folder for downloads from the Hub.",
        None,
        field="model.cache_dir loss.guide.cache_dir",
    )
    trust_remote_code: bool = flag("Not supported: code from checkpoints is never run.", False)
    use_fast_tokenizer: bool = flag("Only fast tokenizers are supported.", True)
    token: str | None = flag(
        "Access token for private models on the Hub; the default is HF_TOKEN.", None
    )


@dataclasses.dataclass
class DataArguments:
    """Flags of the training data."""

    _argument_group_name = "data"

    train_data: list[str] = flag(
        'Files or folders of .jsonl rows {"query": str, "pos": [str], "neg": [str]}, plain or .gz. '
        'Rows may have "pos_scores", "neg_scores", "prompt", "type", "label", "batch_size" and '
        '"train_group_size".',
        field="data.train data.train.parts",
    )
    cache_path: str | None = flag("Not used: data is not converted.", None)
    train_group_size: int = flag(
        "Number of passages per query: 1 positive, the rest negatives.", 8, field="data.group_size"
    )
    query_max_len: int = flag(
        "Maximum number of tokens per query.", 32, field="data.query_max_length"
    )
    passage_max_len: int = flag(
        "Maximum number of tokens per passage.", 128, field="data.document_max_length"
    )
    pad_to_multiple_of: int | None = flag("Not used: texts are packed.", None)
    max_example_num_per_dataset: int = flag(
        "Maximum number of rows read from each file.", 100_000_000, field="limit"
    )
    query_instruction_for_retrieval: str | None = flag(
        "Instruction that is prepended to queries.", None, field="data.query_prompt"
    )
    query_instruction_format: str = flag(
        "Format of the instruction, followed by the query.",
        "{}{}",
        field="data.row_prompt evaluators.validation.row_prompt",
    )
    passage_instruction_for_retrieval: str | None = flag(
        "Instruction that is prepended to passages.", None, field="data.document_prompt"
    )
    passage_instruction_format: str = flag(
        "Format of the instruction, followed by the passage.", "{}{}"
    )
    knowledge_distillation: bool = flag(
        "Also distill the scores of a teacher, pos_scores and neg_scores, in rows that have them.",
        False,
    )
    shuffle_ratio: float = flag(
        "Fraction of long positives whose thirds are shuffled.", 0.0, field="data.shuffle_ratio"
    )
    same_dataset_within_batch: bool = flag(
        "Draw every batch from a single file; half a batch from files of symmetric types.",
        False,
        field="data.train.homogeneous_batches",
    )
    small_threshold: int = flag("Merge files of a folder that have fewer rows than this.", 0)
    drop_threshold: int = flag("Drop merged files that have fewer rows than this together.", 0)
    dataset_rules: Literal["flagembedding", "always"] = flag(
        "When names that end in no_in_batch_neg, and the type and prompt of rows, have an effect: "
        "as in FlagEmbedding, names and types only with --same_dataset_within_batch, and prompts "
        "only there or with --query_instruction_for_retrieval; or always.",
        "flagembedding",
        field="data.row_types",
        added=True,
    )
    few_negatives: Literal["repeat", "fewer", "refuse"] = flag(
        "What to do if a row has too few negatives: repeat negatives, use fewer, or refuse "
        "the data with an error.",
        "repeat",
        field="data.few_negatives",
        added=True,
    )
    eval_data: str | None = flag(
        "Held-out rows in the format of --train_data; the best nDCG@10, computed every "
        "--eval_steps, selects the checkpoint.",
        None,
        field="evaluators evaluators.validation",
        added=True,
    )


@dataclasses.dataclass
class LossArguments:
    """Flags of the loss."""

    _argument_group_name = "loss"

    temperature: float = flag(
        "Temperature that divides the similarities. At low values, hard negatives dominate; at "
        "high values, all negatives have similar weight. Raise it if the loss diverges or is NaN; "
        "lower it if hard negatives are not separated.",
        0.02,
        field="loss.temperature",
    )
    loss: LossName = flag(
        f"The loss.{summaries(Loss)}",
        "info_nce",
        field="loss.function loss.function.kind",
        added=True,
    )
    loss_options: list[str] = flag(
        "Settings of the loss, such as --loss hard_negative --loss_options beta=2 "
        f"tau_plus=0.05.{setting_names(Loss)}`contrastive train quickstart loss.function:NAME "
        "--help` explains them.",
        [],
        added=True,
    )
    temperature_policy: PolicyName = flag(
        f"How the temperature is set.{summaries(Policy)}",
        "fixed",
        field="loss.policy loss.policy.kind",
        added=True,
    )
    temperature_options: list[str] = flag(
        "Settings of the policy, such as --temperature_policy warm_down "
        f"--temperature_options start=1 steps=200.{setting_names(Policy)}",
        [],
        added=True,
    )
    above_positive: float | None = flag(
        "Mask negatives whose similarity exceeds that of the positive by more than this; "
        "0.1 in Qwen3-Embedding.",
        None,
        field="loss.above_positive",
        added=True,
    )
    relative_to_positive: float | None = flag(
        "Mask negatives whose similarity exceeds this fraction of the positive's; 0.95 in "
        "NV-Retriever.",
        None,
        field="loss.relative_to_positive",
        added=True,
    )
    guide_model: str | None = flag(
        "A frozen checkpoint with the same tokenizer; negatives that it scores above the "
        "positive are masked (GISTEmbed).",
        None,
        field="loss.guide loss.guide.name",
        added=True,
    )
    guide_margin: float = flag(
        "Minimum difference between the guide's scores of the positive and of a negative.",
        0.0,
        field="loss.guide.margin",
        added=True,
    )
    negatives_cross_device: bool = flag(
        "Use the passages of all devices as negatives, with the gradient of the whole batch.", False
    )
    kd_loss_type: Literal["kl_div", "m3_kd_loss"] = flag("Distillation loss.", "kl_div")
    teacher_temperature: float = flag(
        "Temperature of the teacher's softmax: high for the raw scores of a reranker, low "
        "for scores in [0, 1].",
        1.0,
        field="teacher_temperature",
        added=True,
    )
    kd_weight: float = flag("Weight of the distillation loss.", 1.0, field="weight", added=True)
    use_mrl: bool = flag("Matryoshka: also train truncated embeddings.", False)
    mrl_dims: list[int] = flag(
        "Widths of truncated embeddings, such as --mrl_dims 64 128 256.",
        [],
        field="loss.matryoshka_dims",
    )
    mask_false_negatives: bool = flag(
        "Mask negatives whose text is a known positive of the query; FlagEmbedding does not.",
        False,
        field="loss.mask_false_negatives",
        added=True,
    )


@dataclasses.dataclass
class EncoderArguments:
    """Flags of the encoder."""

    _argument_group_name = "encoder"

    sentence_pooling_method: Literal["cls", "mean", "last_token"] | None = flag(
        "How token vectors are pooled into a text vector; by default as the checkpoint says, or "
        "cls, FlagEmbedding's default, if it does not say.",
        None,
        field="pooling",
    )
    normalize_embeddings: bool = flag("Scale embeddings to unit length.", True, field="normalize")
    fix_position_embedding: bool = flag(
        "Do not train the position embeddings.", False, field="optimizer.frozen"
    )
    dropout: float | None = flag(
        "Replaces every dropout rate of the checkpoint, whose rates are the default.",
        None,
        field="model.dropout",
        added=True,
    )
    bf16: bool = flag(
        "Compute layers in bfloat16; weights and loss stay float32.",
        False,
        field="model.dtype loss.guide.dtype",
    )
    fp16: bool = flag("Same as --bf16: bfloat16 replaces float16.", False)
    gradient_checkpointing: bool = flag(
        "Recompute activations in the backward pass to save memory.", False, field="model.remat"
    )
    sub_batch_size: int | None = flag(
        "Number of texts that a device encodes at a time; limits memory, not the batch.",
        None,
        field="chunk_tokens",
    )


GROUPS: tuple[Any, ...] = (
    ModelArguments,
    DataArguments,
    LossArguments,
    EncoderArguments,
    TrainerArguments,
)

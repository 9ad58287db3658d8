"""The PyTorch peers as plain callables, so that a benchmark can interleave them with ours.

Models, losses, collators and encoders are the libraries' own; only the loop of a step is written
out, as Hugging Face's Trainer runs it: the loss under autocast, backward, the gradient clipped to
1.0, fused AdamW without weight decay. Nothing here sets threads or seeds. Needs the ``peers``
extra.
"""

import itertools
import json
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from accelerate.utils import convert_outputs_to_fp32
from FlagEmbedding import FlagModel
from FlagEmbedding.abc.finetune.embedder import AbsEmbedderCollator
from FlagEmbedding.finetune.embedder.encoder_only.base import BiEncoderOnlyEmbedderModel
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.base.losses.merged_forward import merge_feature_batches
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.util import cos_sim, dot_score
from transformers import AutoConfig, AutoModel, AutoTokenizer

MAX_GRAD_NORM = 1.0
# As sentence-transformers names them in 1_Pooling, and as FlagEmbedding does.
POOLINGS = {"cls": "cls", "mean": "mean", "lasttoken": "last_token"}
LEGACY_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "lasttoken",
}


class Row(TypedDict):
    """One training row, in FlagEmbedding's format."""

    query: str
    pos: list[str]
    neg: list[str]


Rows = list[Row]
Features = dict[str, Any]


def group_of(row: Row, group_size: int) -> list[str]:
    """Return the row's first positive and its first negatives, repeated if there are too few.

    The libraries draw at random; a benchmark gives every library the same texts.

    Args:
        row: One training row.
        group_size: Texts to return, the positive included.

    Returns:
        The positive, then ``group_size - 1`` negatives.

    Raises:
        ValueError: If negatives are asked for and the row has none.
    """
    if group_size > 1 and not row["neg"]:
        raise ValueError(
            f"query {row['query']!r} has no negatives and group_size is {group_size}; "
            "give it some or use group_size=1"
        )
    negatives = itertools.islice(itertools.cycle(row["neg"]), group_size - 1)
    return [row["pos"][0], *negatives]


def pooling_of(model_folder: Path | str) -> str:
    """Return how a sentence-transformers folder pools, in FlagEmbedding's words.

    Args:
        model_folder: A folder with ``1_Pooling/config.json``, of any version.

    Returns:
        ``cls``, ``mean`` or ``last_token``.

    Raises:
        ValueError: If it pools in a way that FlagEmbedding has not got.
    """
    config = json.loads((Path(model_folder) / "1_Pooling" / "config.json").read_text())
    old = [name for key, name in LEGACY_POOLINGS.items() if config.get(key)]
    pooling = config.get("pooling_mode", old[0] if len(old) == 1 else old)
    if not isinstance(pooling, str) or pooling not in POOLINGS:
        raise ValueError(f"{model_folder} pools by {pooling!r}; FlagEmbedding has {set(POOLINGS)}")
    return POOLINGS[pooling]


def normalizes(model_folder: Path | str) -> bool:
    """Return whether a sentence-transformers folder ends with normalization."""
    modules = json.loads((Path(model_folder) / "modules.json").read_text())
    return any(module["type"].endswith("Normalize") for module in modules)


def default_device() -> torch.device:
    """Return the first CUDA device, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _dropout_overrides(model_folder: Path | str, dropout: float | None) -> dict[str, float]:
    """Return the configuration that overrides BERT's two dropouts, checked to exist."""
    if dropout is None:
        return {}
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    config = AutoConfig.from_pretrained(str(model_folder))
    if missing := [name for name in names if not hasattr(config, name)]:
        raise ValueError(f"{model_folder} has no {missing[0]} to set; say dropout=None")
    return dict.fromkeys(names, dropout)


def _dtype(name: str) -> torch.dtype:
    if name not in ("float32", "bfloat16"):
        raise ValueError(f"dtype is float32 or bfloat16, not {name!r}")
    return getattr(torch, name)


class _Step:
    """What the two libraries' steps share: the optimizer and the order of a step."""

    def __init__(self, model: torch.nn.Module, *, learning_rate: float, dtype: str, device: Any):
        self.device = torch.device(device or default_device())
        self.model = model.to(self.device).train()
        if _dtype(dtype) is torch.bfloat16:
            # As accelerate does: autocast covers the forward pass of the model and no more. For
            # FlagEmbedding that takes the scores and the loss in, for sentence-transformers not.
            autocast = torch.autocast(self.device.type, torch.bfloat16)
            self.model.forward = convert_outputs_to_fp32(autocast(model.forward))
        # The Trainer's default optimizer; torch's own default would decay the weights.
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=learning_rate, weight_decay=0.0, fused=True
        )

    def step(self, batch: Any) -> float:
        """Take one full optimizer step and return the loss before it."""
        loss = self._loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def real_tokens(self, batch: Any) -> int:
        """Return the batch's tokens without padding."""
        return sum(int(features["attention_mask"].sum()) for features in self._forwards(batch))

    def padded_tokens(self, batch: Any) -> int:
        """Return the positions that the model computes for the batch, padding included."""
        return sum(features["attention_mask"].numel() for features in self._forwards(batch))

    def _on_device(self, features: Features) -> Features:
        return {
            name: value.to(self.device) if isinstance(value, torch.Tensor) else value
            for name, value in features.items()
        }

    def _loss(self, batch: Any) -> torch.Tensor:
        raise NotImplementedError

    def _forwards(self, batch: Any) -> list[Features]:
        """Return the features of each forward pass that a step makes."""
        raise NotImplementedError


class FlagEmbeddingStep(_Step):
    """A training step of FlagEmbedding's ``encoder_only.base``.

    Its scores are bfloat16 under autocast, as they are for its users.

    Args:
        model_folder: A checkpoint in sentence-transformers layout, for its pooling.
        group_size: Passages a query, the positive included.
        query_length: Tokens at which queries are cut.
        passage_length: Tokens at which passages are cut.
        temperature: Divisor of the scores.
        dropout: For hidden states and attention; None leaves the checkpoint's own.
        learning_rate: AdamW's, constant.
        dtype: ``float32``, or ``bfloat16`` for autocast; weights stay float32.
        device: The first CUDA device, or the CPU, if None.
    """

    def __init__(
        self,
        model_folder: Path | str,
        *,
        group_size: int,
        query_length: int,
        passage_length: int,
        temperature: float,
        dropout: float | None,
        learning_rate: float,
        dtype: str = "float32",
        device: str | None = None,
    ):
        self.group_size = group_size
        tokenizer = AutoTokenizer.from_pretrained(str(model_folder))
        base = AutoModel.from_pretrained(
            str(model_folder), dtype=torch.float32, **_dropout_overrides(model_folder, dropout)
        )
        model = BiEncoderOnlyEmbedderModel(
            base,
            tokenizer=tokenizer,
            temperature=temperature,
            sentence_pooling_method=pooling_of(model_folder),
            normalize_embeddings=normalizes(model_folder),
        )
        self.collator = AbsEmbedderCollator(
            tokenizer=tokenizer,
            query_max_len=query_length,
            passage_max_len=passage_length,
            padding=True,
            return_tensors="pt",
        )
        super().__init__(model, learning_rate=learning_rate, dtype=dtype, device=device)

    def prepare(self, rows: Rows) -> Features:
        """Tokenise and pad rows: queries to their longest, passages to theirs."""
        return self.collator([(row["query"], group_of(row, self.group_size), None) for row in rows])

    def _loss(self, batch: Features) -> torch.Tensor:
        queries, passages = map(self._on_device, self._forwards(batch))
        return self.model(**{**batch, "queries": queries, "passages": passages}).loss

    def _forwards(self, batch: Features) -> list[Features]:
        return [batch["queries"], batch["passages"]]


class SentenceTransformersStep(_Step):
    """A training step of sentence-transformers' ``MultipleNegativesRankingLoss``.

    Its similarities and loss are float32 under autocast too, and it computes the passages of all
    columns in one forward pass, padded to their longest.

    Args:
        model_folder: A checkpoint in sentence-transformers layout.
        group_size: Passages a query, the positive included.
        query_length: Tokens at which queries are cut.
        passage_length: Tokens at which passages are cut.
        temperature: The loss's scale is ``1 / temperature``.
        dropout: For hidden states and attention; None leaves the checkpoint's own.
        learning_rate: AdamW's, constant.
        dtype: ``float32``, or ``bfloat16`` for autocast; weights stay float32.
        device: The first CUDA device, or the CPU, if None.
    """

    def __init__(
        self,
        model_folder: Path | str,
        *,
        group_size: int,
        query_length: int,
        passage_length: int,
        temperature: float,
        dropout: float | None,
        learning_rate: float,
        dtype: str = "float32",
        device: str | None = None,
    ):
        self.group_size = group_size
        self.columns = ["positive", *(f"negative_{i}" for i in range(1, group_size))]
        model = SentenceTransformer(
            str(model_folder),
            device=str(device or default_device()),
            model_kwargs={"dtype": torch.float32},
            config_kwargs=_dropout_overrides(model_folder, dropout),
        )
        # Columns are mapped to tasks only because its collator keys lengths by task.
        self.collator = SentenceTransformerDataCollator(
            preprocess_fn=model.preprocess,
            router_mapping={"anchor": "query", **dict.fromkeys(self.columns, "document")},
            max_length={"query": query_length, "document": passage_length},
        )
        similarity = cos_sim if normalizes(model_folder) else dot_score
        self.loss = MultipleNegativesRankingLoss(
            model, scale=1 / temperature, similarity_fct=similarity
        )
        super().__init__(model, learning_rate=learning_rate, dtype=dtype, device=device)

    def prepare(self, rows: Rows) -> Features:
        """Tokenise and pad rows: each column to its longest text."""
        groups = [
            dict(zip(self.columns, group_of(row, self.group_size), strict=True)) for row in rows
        ]
        return self.collator(
            [{"anchor": row["query"], **group} for row, group in zip(rows, groups, strict=True)]
        )

    def _loss(self, batch: Features) -> torch.Tensor:
        return self.loss(self._columns(self._on_device(batch)), labels=None)

    def _columns(self, batch: Features) -> list[Features]:
        # The trainer's own method; it uses nothing of the trainer that would hold it.
        return SentenceTransformerTrainer.collect_features(None, batch)[0]

    def _forwards(self, batch: Features) -> list[Features]:
        queries, *documents = self._columns(batch)
        merged = merge_feature_batches(documents) if len(documents) > 1 else None
        return [queries, *(documents if merged is None else [merged])]


class FlagEmbeddingEncode:
    """FlagEmbedding's ``FlagModel``: texts sorted by length, the first batch computed twice.

    It draws progress bars on the standard error stream, and they cannot be switched off.

    Args:
        model_folder: A checkpoint in sentence-transformers layout, for its pooling.
        max_length: Tokens at which texts are cut.
        dtype: Of the weights; on a CPU, FlagModel rounds them to it and computes in float32.
        device: The first CUDA device, or the CPU, if None.
    """

    def __init__(
        self,
        model_folder: Path | str,
        *,
        max_length: int,
        dtype: str = "float32",
        device: str | None = None,
    ):
        self.max_length = max_length
        self.model = FlagModel(
            str(model_folder),
            normalize_embeddings=normalizes(model_folder),
            pooling_method=pooling_of(model_folder),
            use_fp16=False,
            use_bf16=_dtype(dtype) is torch.bfloat16,
            devices=str(device or default_device()),
        )

    def encode(self, texts: list[str], batch_size: int) -> np.ndarray:
        """Return one float32 embedding a text, in the texts' order."""
        vectors = self.model.encode(texts, batch_size=batch_size, max_length=self.max_length)
        return np.asarray(vectors, np.float32)


class SentenceTransformersEncode:
    """sentence-transformers' ``encode``: texts sorted by length, pooled as the folder says.

    Args:
        model_folder: A checkpoint in sentence-transformers layout.
        max_length: Tokens at which texts are cut.
        dtype: Of the weights.
        device: The first CUDA device, or the CPU, if None.
    """

    def __init__(
        self,
        model_folder: Path | str,
        *,
        max_length: int,
        dtype: str = "float32",
        device: str | None = None,
    ):
        self.model = SentenceTransformer(
            str(model_folder),
            device=str(device or default_device()),
            model_kwargs={"dtype": _dtype(dtype)},
        )
        self.model.max_seq_length = max_length

    def encode(self, texts: list[str], batch_size: int) -> np.ndarray:
        """Return one float32 embedding a text, in the texts' order."""
        vectors = self.model.encode(texts, batch_size=batch_size, show_progress_bar=False)
        return np.asarray(vectors, np.float32)

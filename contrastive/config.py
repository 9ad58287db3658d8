"""Experiment configs: frozen, validated, stored with the run as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import pydantic
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from tyro.conf import Fixed as Fixed_
from tyro.conf import Suppress


class Config(pydantic.BaseModel):
    """A frozen config; an unknown or invalid field is an error that names it."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True
    )

    def replace(self, **changes: Any):
        """A validated copy; `replace(**{"loss.temperature": 0.05})` reaches inside."""
        fields = dict(self)
        for name, value in changes.items():
            head, _, rest = name.partition(".")
            if head not in fields:
                raise ValueError(f"{type(self).__name__} has no field {head!r}: {sorted(fields)}")
            fields[head] = fields[head].replace(**{rest: value}) if rest else value
        return type(self)(**fields)


class Pydoc(Config):
    """(docstring, code) pairs of the installed Python packages; needs no download."""

    kind: Annotated[Literal["pydoc"], Suppress] = "pydoc"
    split: Literal["train", "validation", "test"] = "train"
    """Files are divided 85 : 5 : 10 by a digest of their names."""


class Jsonl(Config):
    """Rows of {"query": str, "pos": [str], "neg": [str]}, plain or .gz."""

    kind: Annotated[Literal["jsonl"], Suppress] = "jsonl"
    path: str | tuple[str, ...]
    """A file, a folder whose .jsonl and .json files are one source, or several files."""
    limit: PositiveInt | None = None
    """Most rows of each file; which ones is always the same."""


class WordPiece(Config):
    """A tokenizer trained on the training texts."""

    kind: Annotated[Literal["wordpiece"], Suppress] = "wordpiece"
    vocab_size: PositiveInt = 16384
    """Most word pieces."""
    lowercase: bool = True
    """Fold case and strip accents."""


class Pretrained(Config):
    """A Hugging Face tokenizer."""

    kind: Annotated[Literal["pretrained"], Suppress] = "pretrained"
    name: str
    """A folder with tokenizer.json, or a name on the Hub."""


Source: TypeAlias = Annotated[Pydoc | Jsonl, Field(discriminator="kind")]


class Part(Config):
    """One source of a mixture; what is None is as `data` says."""

    source: Source
    """Its examples."""
    weight: PositiveFloat | None = None
    """Its share of the training, beside the weights of the others; None is its size."""
    in_batch: bool = True
    """Whether its queries see other queries' documents, and these see its documents."""
    group_size: PositiveInt | None = None
    """Documents a query."""
    query_prompt: str | None = None
    """Put before its queries; a row's own "prompt" comes first."""
    document_prompt: str | None = None
    """Put before its documents."""
    query_max_length: PositiveInt | None = None
    """Most tokens of a query."""
    document_max_length: PositiveInt | None = None
    """Most tokens of a document."""


class Mixture(Config):
    """Several sources."""

    kind: Annotated[Literal["mixture"], Suppress] = "mixture"
    parts: Annotated[tuple[Part, ...], Fixed_] = Field((), min_length=1)
    """The sources."""
    one_source_batches: bool = True
    """Whether all queries of a step come from one source: others' documents are easy negatives."""


Training: TypeAlias = Annotated[Pydoc | Jsonl | Mixture, Field(discriminator="kind")]
HeldOut: TypeAlias = Pydoc | Jsonl | None
Tokenizers: TypeAlias = WordPiece | Pretrained | None


class Data(Config):
    """What is trained on and how it is tokenised."""

    train: Training = Pydoc()
    """Examples to train on, of one source or several."""
    validation: HeldOut = None
    """Examples to evaluate on while training; they choose the best checkpoint."""
    test: HeldOut = None
    """Examples of the final evaluation."""
    group_size: PositiveInt = 1
    """Documents a query: 1 positive and the rest hard negatives."""
    few_negatives: Literal["refuse", "repeat", "fewer"] = "refuse"
    """What to do where a row has fewer negatives than a group wants; `fewer` makes it smaller."""
    shuffle_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the long positives whose thirds are put in random order."""
    row_prompt: str = "{}"
    """What a row's own "prompt", in place of {}, becomes before its query."""
    tokenizer: Tokenizers = None
    """Where word pieces come from; None is the checkpoint's own, or one trained on the texts."""
    query_prompt: str | None = None
    """Put before every query; None is the checkpoint's own, or nothing."""
    document_prompt: str | None = None
    """Put before every document; None is the checkpoint's own, or nothing."""
    query_max_length: PositiveInt = 64
    """Most tokens of a query."""
    document_max_length: PositiveInt = 256
    """Most tokens of a document."""
    texts_per_row: PositiveInt = 16
    """Most texts packed into a row; 1 pads each text to the longest length instead."""
    workers: PositiveInt = 2
    """Threads that read, tokenise and pack ahead of the step."""


class Static(Config):
    """Mean of token vectors: fast, and a sentence-transformers StaticEmbedding once saved."""

    kind: Annotated[Literal["static"], Suppress] = "static"
    width: PositiveInt = 256
    """Embedding width D."""


class Transformer(Config):
    """A small pre-norm transformer from scratch; a ModernBERT once saved."""

    kind: Annotated[Literal["transformer"], Suppress] = "transformer"
    width: PositiveInt = 256
    """Embedding width D."""
    depth: PositiveInt = 4
    """Layers."""
    heads: PositiveInt = 4
    """Attention heads; divide the width into even parts."""
    mlp_width: PositiveInt = 512
    """Width of the gated feed-forward layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of values dropped while training."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What layers compute in; parameters, pooling and loss stay float32."""

    @pydantic.model_validator(mode="after")
    def _heads_divide(self):
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width is {self.width}, which {self.heads} heads do not divide into even parts; "
                f"make it a multiple of {2 * self.heads}"
            )
        return self


class Checkpoint(Config):
    """Published weights: BERT, RoBERTa, XLM-RoBERTa or ModernBERT in safetensors."""

    kind: Annotated[Literal["checkpoint"], Suppress] = "checkpoint"
    name: str
    """A folder of Hugging Face or sentence-transformers, or a name on the Hub."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    cache_dir: str | None = None
    """Where downloads from the Hub are kept; None is the Hub's own cache."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Replaces every dropout rate of the checkpoint; None keeps its own."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What layers compute in; parameters, pooling and loss stay float32."""
    remat: bool = False
    """Compute activations again in the backward pass instead of keeping them."""


Model: TypeAlias = Annotated[Static | Transformer | Checkpoint, Field(discriminator="kind")]


class Fixed(Config):
    """The temperature stays as it is."""

    kind: Annotated[Literal["fixed"], Suppress] = "fixed"


class Learned(Config):
    """The temperature is learned from its first value, as in CLIP."""

    kind: Annotated[Literal["learned"], Suppress] = "learned"
    minimum: PositiveFloat = 0.01
    """Least temperature: 0.01 is a logit scale of 100."""
    maximum: PositiveFloat = 1.0
    """Largest temperature."""


class Distill(Config):
    """A teacher's scores, "pos_scores" and "neg_scores" of each row, as soft targets."""

    kind: Literal["kl", "m3"] = "kl"
    """kl is added to InfoNCE; m3 takes its place."""
    temperature: PositiveFloat = 1.0
    """Of the teacher's softmax: high for a reranker's raw scores, low for scores in [0, 1]."""
    weight: PositiveFloat = 1.0
    """Of the distillation loss."""


class Loss(Config):
    """InfoNCE and its temperature."""

    temperature: PositiveFloat = 0.02
    """Divides the similarities. Low: hard negatives dominate. High: all negatives count alike."""
    policy: Annotated[Fixed | Learned, Field(discriminator="kind")] = Fixed()
    """Who sets the temperature."""
    in_batch: bool = True
    """Whether other queries' documents are negatives."""
    mask_false_negatives: bool = True
    """Leave out negatives whose text is known to answer the query."""
    distill: Distill | None = None
    """Learn from a teacher's scores too."""
    widths: tuple[PositiveInt, ...] = ()
    """Matryoshka: train the first so many values of an embedding, for each of these."""
    shards: PositiveInt = 1
    """Runs of queries that the batch falls into, none of which sees another's documents."""
    tile: PositiveInt | None = None
    """Rows and columns a tile of the loss; does not change its value."""

    @pydantic.model_validator(mode="after")
    def _starts_in_range(self):
        low, high = getattr(self.policy, "minimum", 0.0), getattr(self.policy, "maximum", 1e9)
        if not low <= self.temperature <= high:
            raise ValueError(
                f"temperature is {self.temperature}, outside the policy's [{low}, {high}]"
            )
        return self


class Optimizer(Config):
    """AdamW with warm-up, decay and clipping."""

    learning_rate: PositiveFloat = 1e-3
    """Highest learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Course of the learning rate after the warm-up, down to zero or not."""
    warmup_steps: NonNegativeInt = 0
    """Steps of linear warm-up."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay of matrices; never of biases, norms, embeddings or the temperature."""
    b1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the first moment."""
    b2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the second moment."""
    eps: PositiveFloat = 1e-8
    """Keeps the update finite."""
    max_grad_norm: PositiveFloat | None = 1.0
    """Global norm gradients are clipped to."""
    frozen: tuple[str, ...] = ()
    """Parameters with one of these words in their path stay as they are."""


class Experiment(Config):
    """One training run."""

    name: str
    """What the run is called in logs."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides initial parameters, shuffles, groups and dropout."""
    steps: PositiveInt = 1000
    """Optimizer steps."""
    batch_size: PositiveInt = 256
    """Queries a step, over all devices."""
    data: Data = Data()
    """What is trained on."""
    model: Model = Transformer()
    """The encoder of queries and documents."""
    pooling: Literal["mean", "cls", "last_token"] | None = None
    """How token vectors become a text's; None is as the checkpoint says, or the mean."""
    normalize: bool = True
    """Scale embeddings to unit length, so that similarities are cosines."""
    loss: Loss = Loss()
    """What is minimised."""
    chunk_tokens: PositiveInt | None = None
    """Tokens a device encodes at a time; the memory is a chunk's, the gradient the batch's."""
    optimizer: Optimizer = Optimizer()
    """How."""
    log_steps: PositiveInt = 10
    """Steps between lines of metrics."""
    eval_steps: PositiveInt | None = None
    """Steps between evaluations on data.validation; None evaluates at the end alone."""
    save_steps: PositiveInt | None = None
    """Steps between checkpoints; None saves at the end and when interrupted."""
    keep_checkpoints: PositiveInt | None = 2
    """Latest checkpoints that are kept; None is all."""
    metric: Literal["nDCG@10", "MRR@10", "Recall@10", "Recall@100", "MAP"] = "nDCG@10"
    """What chooses the best checkpoint."""
    patience: PositiveInt | None = None
    """Evaluations without a better metric after which training stops."""
    fsdp: PositiveInt = 1
    """Devices that share one copy of the parameters; divides their number."""
    writers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where metrics go besides metrics.jsonl."""

    @pydantic.model_validator(mode="after")
    def _goes_together(self):
        if self.batch_size % self.loss.shards:
            raise ValueError(
                f"loss.shards is {self.loss.shards}, which does not divide batch_size "
                f"{self.batch_size}"
            )
        _check_negatives_are_left(self)
        if isinstance(self.model, Checkpoint) and self.data.tokenizer is not None:
            raise ValueError(
                f"data.tokenizer is {self.data.tokenizer.kind!r}, but a checkpoint has its own; "
                "leave data.tokenizer out"
            )
        if isinstance(self.model, Static) and self.pooling not in (None, "mean"):
            raise ValueError(f"a static model pools by the mean; pooling is {self.pooling!r}")
        if self.optimizer.warmup_steps > self.steps:
            raise ValueError(
                f"optimizer.warmup_steps is {self.optimizer.warmup_steps}, more than the run's "
                f"{self.steps} steps; lower it"
            )
        if self.eval_steps and self.data.validation is None:
            raise ValueError("eval_steps evaluates on data.validation, which is not set; set it")
        if self.patience and not (self.eval_steps and self.data.validation):
            raise ValueError(
                "patience needs evaluations while training: set eval_steps and data.validation"
            )
        return self


def _check_negatives_are_left(experiment: Experiment) -> None:
    train, loss = experiment.data.train, experiment.loss
    parts = train.parts if isinstance(train, Mixture) else (Part(source=train),)
    for number, part in enumerate(parts):
        if (part.group_size or experiment.data.group_size) > 1:
            continue
        name = "data" if len(parts) == 1 else f"data.train.parts[{number}]"
        if not (loss.in_batch and part.in_batch):
            raise ValueError(
                f"in_batch is False and {name}.group_size is 1: no negatives are left; "
                "raise the group size or use in-batch negatives"
            )
        if experiment.batch_size == loss.shards:
            raise ValueError(
                f"a query sees no others' documents (batch_size {experiment.batch_size}, shards "
                f"{loss.shards}) and {name}.group_size is 1: no negatives are left; raise either"
            )


def differences(a: Config, b: Config) -> list[str]:
    """Where two configs differ, as `loss.temperature: 0.02 -> 0.05`, in the order of the fields."""
    before, after = flatten(a.model_dump(mode="json")), flatten(b.model_dump(mode="json"))
    names = {**before, **after}
    missing = object()
    return [
        f"{name}: {before.get(name)!r} -> {after.get(name)!r}"
        for name in names
        if before.get(name, missing) != after.get(name, missing)
    ]


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts to one with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat

"""What is trained on."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt
from tyro.conf import Fixed, Suppress

from contrastive.config.base import Config


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
    """Its share of the training, beside the weights of the others; None, for all, is their size."""
    in_batch: bool = True
    """Whether its queries see other queries' documents, and these see its documents."""
    group_size: PositiveInt | None = None
    """Documents a query."""
    temperature: PositiveFloat | None = None
    """Of its queries; None is the loss's."""
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
    parts: Annotated[tuple[Part, ...], Fixed] = Field((), min_length=1)
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
    """What to do where a row has fewer negatives than a group wants; `fewer` makes it smaller.
    Without in-batch negatives every row needs one at least."""
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

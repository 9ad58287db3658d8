"""Data settings: the training sources and how their texts are tokenized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from tyro.conf import Fixed, Suppress

from contrastive.errors import ConfigError
from contrastive.settings import Config, PositiveFloat32, one_of
from contrastive.sources._pydoc import Pydoc
from contrastive.sources._source import Source

__all__ = ["Data", "Mixture", "MixturePart", "Pretrained", "WordPiece"]


class WordPiece(Config):
    """A tokenizer that is trained on the training texts."""

    kind: Annotated[Literal["wordpiece"], Suppress] = "wordpiece"
    vocab_size: PositiveInt = 16384
    """Maximum number of word pieces."""
    lowercase: bool = True
    """Fold case and strip accents."""


class Pretrained(Config):
    """A Hugging Face tokenizer."""

    kind: Annotated[Literal["pretrained"], Suppress] = "pretrained"
    name: str
    """A folder that contains tokenizer.json, or a name on the Hugging Face Hub."""


class MixturePart(Config):
    """One source of a mixture. Settings that are None default to those of `data`."""

    source: Source
    """Where the examples come from."""
    weight: PositiveFloat | None = None
    """Sampling weight relative to the other parts; None for all parts samples by size."""
    in_batch: bool = True
    """Use in-batch negatives for this source."""
    batch_size: PositiveInt | None = None
    """Number of queries per step, which needs homogeneous batches."""
    group_size: PositiveInt | None = None
    """Number of documents per query."""
    temperature: PositiveFloat32 | None = None
    """Temperature for queries of this source; None uses the temperature of the loss."""
    query_prompt: str | None = None
    """Text put before each query of this source; a row's own "prompt" takes precedence."""
    document_prompt: str | None = None
    """Text put before each document of this source."""
    query_max_length: PositiveInt | None = None
    """Maximum number of tokens per query."""
    document_max_length: PositiveInt | None = None
    """Maximum number of tokens per document."""


class Mixture(Config):
    """Several sources, sampled by weight."""

    renamed: ClassVar[Mapping[str, str]] = {"one_source_batches": "homogeneous_batches"}

    kind: Annotated[Literal["mixture"], Suppress] = "mixture"
    parts: Annotated[tuple[MixturePart, ...], Fixed] = Field((), min_length=1)
    """The sources, each with its own settings."""
    homogeneous_batches: bool = True
    """Take all queries of a step from one source, since documents of other sources are easy
    negatives."""

    @model_validator(mode="after")
    def _check_batch_sizes(self) -> Mixture:
        for number, part in enumerate(self.parts):
            if part.batch_size is not None and not self.homogeneous_batches:
                raise ConfigError(
                    f"is {part.batch_size}, but batches mix all sources; leave it out, or set "
                    "homogeneous_batches=True",
                    field=f"data.train.parts[{number}].batch_size",
                )
        return self


if TYPE_CHECKING:
    TrainingData: TypeAlias = Source | Mixture
    Tokenizers: TypeAlias = WordPiece | Pretrained | None
else:
    TrainingData = one_of(source=Source, mixture=Mixture)
    Tokenizers = one_of(wordpiece=WordPiece, pretrained=Pretrained) | None


class Data(Config):
    """The training sources and how their texts are tokenized."""

    renamed: ClassVar[Mapping[str, str]] = {
        "validation": 'evaluators={"validation": Retrieval(...)} of the experiment',
        "test": 'final_evaluators={"test": Retrieval(...)} of the experiment',
    }

    train: TrainingData = Pydoc()
    """Training examples: one source, or a mixture of several."""
    group_size: PositiveInt = 1
    """Number of documents per query: 1 positive, and hard negatives for the rest."""
    few_negatives: Literal["refuse", "repeat", "fewer"] = "refuse"
    """What to do when a row has fewer negatives than a group needs: raise an error, repeat
    negatives, or make the group smaller. Without in-batch negatives, every row needs at least
    one."""
    shuffle_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of the long positives that are cut into thirds and put together in random order."""
    row_types: bool = True
    """Apply the "type" of rows: only_1neg and symmetric_class limit the negatives of a row, and
    documents of symmetric_sts and symmetric_clustering get the prompt of the query."""
    row_prompt: str = "{}"
    """Template of the text put before the query of a row that has a "prompt"; {} stands for that
    prompt."""
    tokenizer: Tokenizers = None
    """The tokenizer; None uses the checkpoint's own, or trains one on the texts."""
    query_prompt: str | None = None
    """Text put before every query; None uses the checkpoint's prompt, if it has one."""
    document_prompt: str | None = None
    """Text put before every document; None uses the checkpoint's prompt, if it has one."""
    query_max_length: PositiveInt = 64
    """Maximum number of tokens per query."""
    document_max_length: PositiveInt = 256
    """Maximum number of tokens per document."""
    texts_per_row: PositiveInt = 16
    """Maximum number of texts packed into a row; 1 pads each text to the maximum length instead."""
    workers: PositiveInt = 2
    """Number of threads that read, tokenize and pack batches ahead of the training step."""

    @property
    def parts(self) -> tuple[MixturePart, ...]:
        """The training sources; a single source counts as a mixture of one part."""
        if isinstance(self.train, Mixture):
            return self.train.parts
        return (MixturePart(source=self.train),)

    @property
    def homogeneous_batches(self) -> bool:
        """Whether all queries of a step come from one source."""
        return not isinstance(self.train, Mixture) or self.train.homogeneous_batches

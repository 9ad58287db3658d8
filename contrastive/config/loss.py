"""What is minimised."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field, PositiveFloat, PositiveInt
from tyro.conf import Suppress

from contrastive.config.base import Config


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

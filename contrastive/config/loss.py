"""What is minimised."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from contrastive.config.base import Config
from contrastive.config.function import (
    OF_OWN_DOCUMENTS,
    OF_SCORES,
    ONE_TEMPERATURE,
    WITHOUT_NEGATIVES,
    WITHOUT_TEMPERATURE,
    AlignUniform,
    CoSENT,
    Function,
    InfoNCE,
    SogCLR,
    SupCon,
)
from contrastive.config.policy import Fixed, Individual, Learned, Policy


class Guide(Config):
    """GIST: a frozen encoder says which negatives are false, those above its positive's score."""

    name: str
    """Its checkpoint: a folder, or a name on the Hub. It reads the tokens that are trained on, so
    it needs the same tokenizer."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    cache_dir: str | None = None
    """Where downloads from the Hub are kept; None is the Hub's own cache."""
    margin: float = 0.0
    """How far below the positive's score a negative's must be, at least."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What its layers compute in."""


class Distill(Config):
    """A teacher's scores, "pos_scores" and "neg_scores" of each row, as soft targets."""

    kind: Literal["kl", "m3"] = "kl"
    """kl is added to InfoNCE; m3 takes its place."""
    temperature: PositiveFloat = 1.0
    """Of the teacher's softmax: high for a reranker's raw scores, low for scores in [0, 1]."""
    weight: PositiveFloat = 1.0
    """Of the distillation loss."""


class SpreadOut(Config):
    """Global orthogonal regulariser: unrelated texts like random directions."""

    weight: PositiveFloat = 1.0
    """Of the regulariser."""
    mean: NonNegativeFloat = 1.0
    """Weight of the squared mean similarity in it."""
    second_moment: NonNegativeFloat = 1.0
    """Weight of the mean squared similarity above 1 / D."""


class Loss(Config):
    """What is minimised, and its temperature."""

    function: Function = InfoNCE()
    """Which loss."""
    temperature: PositiveFloat = 0.02
    """Divides the similarities. Low: hard negatives dominate. High: all negatives count alike."""
    policy: Policy = Fixed()
    """Who sets the temperature."""
    in_batch: bool = True
    """Whether other queries' documents are negatives."""
    mask_false_negatives: bool = True
    """Leave out negatives whose text is known to answer the query."""
    above_positive: float | None = None
    """Leave out negatives more similar than the positive by more than this; 0.1 in Qwen3."""
    relative_to_positive: PositiveFloat | None = None
    """Leave out negatives above this share of the positive's similarity; 0.95 in NV-Retriever."""
    guide: Guide | None = None
    """Leave out negatives that a frozen encoder finds closer than the positive."""
    distill: Distill | None = None
    """Learn from a teacher's scores too."""
    spread_out: SpreadOut | None = None
    """Add a regulariser that spreads embeddings out."""
    widths: tuple[PositiveInt, ...] = ()
    """Matryoshka: train the first so many values of an embedding, for each of these."""
    width_weights: tuple[PositiveFloat, ...] = ()
    """Their weights; none is the mean of them."""
    shards: PositiveInt = 1
    """Runs of queries that the batch falls into, none of which sees another's documents."""
    tile: PositiveInt | None = None
    """Rows and columns a tile of the loss; does not change its value."""
    ring: bool = False
    """Whether documents travel around the devices instead of being gathered on each: the memory of
    a device then does not grow with their number."""

    @pydantic.model_validator(mode="after")
    def _goes_together(self):
        low, high = getattr(self.policy, "minimum", 0.0), getattr(self.policy, "maximum", 1e9)
        if not low <= self.temperature <= high:
            raise ValueError(
                f"temperature is {self.temperature}, outside the policy's [{low}, {high}]"
            )
        if self.width_weights and len(self.width_weights) != len(self.widths):
            raise ValueError(
                f"{len(self.width_weights)} width_weights for {len(self.widths)} widths; give one "
                "each, or none"
            )
        if self.distill is not None and not isinstance(self.function, InfoNCE):
            raise ValueError(
                f"distill goes with info_nce, not with {self.function.kind}; leave one out"
            )
        if self.distill is not None and self.distill.kind == "m3" and self.function != InfoNCE():
            raise ValueError(
                "distill.kind is m3, which takes the place of info_nce and knows none of its "
                "settings; leave them out, or take kl"
            )
        if isinstance(self.function, WITHOUT_TEMPERATURE) and not isinstance(self.policy, Fixed):
            raise ValueError(
                f"{self.function.kind} has no temperature that could be {self.policy.kind}; leave "
                "policy out, or take another loss"
            )
        _check_rho(self)
        _check_limits(self)
        if self.shards > 1 and isinstance(self.function, SupCon | CoSENT):
            raise ValueError(
                f"{self.function.kind} takes the whole batch, but loss.shards is {self.shards}; "
                "make it 1"
            )
        if self.spread_out is not None and isinstance(self.function, SogCLR):
            raise ValueError("spread_out does not go with sogclr; leave one out")
        if not self.in_batch and needs_in_batch(self):
            raise ValueError(
                f"{self.function.kind} compares texts of different queries, but in_batch is False; "
                "use in-batch negatives or another loss"
            )
        return self

    @property
    def has_one_temperature(self) -> bool:
        """Whether queries cannot have temperatures of their own by source."""
        one = isinstance(self.function, (*ONE_TEMPERATURE, *WITHOUT_TEMPERATURE))
        return one or isinstance(self.policy, Individual)

    @property
    def of_scores(self) -> bool:
        """Whether rows need a score of each document."""
        return self.distill is not None or isinstance(self.function, OF_SCORES)

    @property
    def sees_other_documents(self) -> bool:
        """Whether other queries' documents count."""
        return self.in_batch and not isinstance(self.function, OF_OWN_DOCUMENTS)


def _check_rho(loss: Loss) -> None:
    if not isinstance(loss.function, SogCLR):
        if isinstance(loss.policy, Individual):
            raise ValueError(
                f"individual temperatures go with sogclr, not with {loss.function.kind}; take "
                "sogclr with a rho, or another policy"
            )
    elif loss.function.rho == 0 and isinstance(loss.policy, Learned | Individual):
        raise ValueError(
            "sogclr's rho is 0, so that a temperature that is learned would only rise; 0.4 in "
            "iSogCLR, more for lower temperatures"
        )


def _check_limits(loss: Loss) -> None:
    for name in ("above_positive", "relative_to_positive", "guide"):
        if getattr(loss, name) is not None and isinstance(loss.function, WITHOUT_NEGATIVES):
            raise ValueError(
                f"loss.{name} leaves out negatives, of which {loss.function.kind} has none; leave "
                "it out"
            )


def needs_in_batch(loss: Loss) -> bool:
    """Whether a loss compares texts of different queries other than query and document."""
    function = loss.function
    two_sided = isinstance(function, InfoNCE) and function.directions != "forward"
    of_all = isinstance(function, AlignUniform | CoSENT | SupCon)
    return two_sided or of_all or loss.spread_out is not None

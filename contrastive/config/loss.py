"""What is minimised."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import pydantic
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
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


class InfoNCE(Config):
    """Softmax cross-entropy of the positive against the negatives."""

    kind: Annotated[Literal["info_nce"], Suppress] = "info_nce"
    directions: Literal["forward", "symmetric", "two_views", "all_in_one"] = "forward"
    """forward: queries against documents; symmetric: documents against queries too (CLIP, Jina);
    two_views: each text against all others (SimCLR); all_in_one: one softmax over it all (GTE)."""
    margin: NonNegativeFloat = 0.0
    """Taken off the positive's similarity."""
    hardness: NonNegativeFloat = 0.0
    """a in the weight exp(a s) of a negative: 5 in EmbeddingGemma, 9 in LLaVE."""
    harder: Literal["all", "in_batch", "hard"] = "all"
    """Which negatives it weights; EmbeddingGemma's are the hard ones."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread over all documents."""


class Decoupled(Config):
    """DCL: the positive is not in the softmax's denominator."""

    kind: Annotated[Literal["decoupled"], Suppress] = "decoupled"
    sigma: PositiveFloat | None = None
    """DCLW: of the weights of positives; 0.5 in the paper."""


class HardNegative(Config):
    """HCL: hard negatives weighted up, expected false negatives taken off."""

    kind: Annotated[Literal["hard_negative"], Suppress] = "hard_negative"
    beta: NonNegativeFloat = 1.0
    """How much harder negatives are preferred; 0 is the debiased loss."""
    tau_plus: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the negatives that are false ones."""


class Hardest(Config):
    """InfoNCE against the most similar negatives alone."""

    kind: Annotated[Literal["hardest"], Suppress] = "hardest"
    top: PositiveInt = 64
    """How many."""


class DualTemperature(Config):
    """InfoNCE at one temperature, queries weighted as at another."""

    kind: Annotated[Literal["dual_temperature"], Suppress] = "dual_temperature"
    ratio: PositiveFloat = 10.0
    """Of the other temperature to it."""


class Artanh(Config):
    """InfoNCE on artanh(s): set the temperature to 1."""

    kind: Annotated[Literal["artanh"], Suppress] = "artanh"


class ModelAware(Config):
    """MACL: the temperature rises as positives align."""

    kind: Annotated[Literal["model_aware"], Suppress] = "model_aware"
    alpha: float = 0.5
    """How much."""
    alignment: float = 0.0
    """Mean similarity of positives at which the temperature is as set."""


class SigLIP(Config):
    """Every pair a binary question; temperature 0.1 and a learned policy to begin with."""

    kind: Annotated[Literal["siglip"], Suppress] = "siglip"
    bias: float = -10.0
    """Added to logits; where the temperature is learned, so is this."""


class Triplet(Config):
    """The positive more similar than each negative, by a margin; has no temperature."""

    kind: Annotated[Literal["triplet"], Suppress] = "triplet"
    margin: PositiveFloat = 0.2
    """By which."""


class MarginMSE(Config):
    """Differences of similarities as a teacher's scores have them; has no temperature."""

    kind: Annotated[Literal["margin_mse"], Suppress] = "margin_mse"


class CoSENT(Config):
    """Pairs ordered by their scores, "pos_scores" and "neg_scores" of each row."""

    kind: Annotated[Literal["cosent"], Suppress] = "cosent"
    angle: bool = False
    """AnglE: by the angle of embeddings taken as complex vectors, not by cosine."""


class Listwise(Config):
    """A query's own documents against their graded relevance, "pos_scores" and "neg_scores"."""

    kind: Annotated[Literal["listwise"], Suppress] = "listwise"
    target: Literal["softmax", "share"] = "softmax"
    """The relevance's softmax (ListNet), or its share of the group's."""


class AlignUniform(Config):
    """Positives close, everything far apart; has no temperature."""

    kind: Annotated[Literal["align_uniform"], Suppress] = "align_uniform"
    power: PositiveFloat = 2.0
    """Of the distance of positives."""
    sharpness: PositiveFloat = 2.0
    """u in the mean of exp(-u d^2)."""
    weight: PositiveFloat = 1.0
    """Of uniformity."""


Function: TypeAlias = Annotated[
    InfoNCE
    | Decoupled
    | HardNegative
    | Hardest
    | DualTemperature
    | Artanh
    | ModelAware
    | SigLIP
    | Triplet
    | MarginMSE
    | CoSENT
    | Listwise
    | AlignUniform,
    Field(discriminator="kind"),
]
OF_SCORES = (MarginMSE, CoSENT, Listwise)
"""Losses of scores of each document, which need no other negatives."""


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
    policy: Annotated[Fixed | Learned, Field(discriminator="kind")] = Fixed()
    """Who sets the temperature."""
    in_batch: bool = True
    """Whether other queries' documents are negatives."""
    mask_false_negatives: bool = True
    """Leave out negatives whose text is known to answer the query."""
    above_positive: float | None = None
    """Leave out negatives more similar than the positive by more than this; 0.1 in Qwen3."""
    relative_to_positive: PositiveFloat | None = None
    """Leave out negatives above this share of the positive's similarity; 0.95 in NV-Retriever."""
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
        if not self.in_batch and needs_in_batch(self):
            raise ValueError(
                f"{self.function.kind} compares texts of different queries, but in_batch is False; "
                "use in-batch negatives or another loss"
            )
        return self

    @property
    def of_scores(self) -> bool:
        """Whether rows need a score of each document."""
        return self.distill is not None or isinstance(self.function, OF_SCORES)


def needs_in_batch(loss: Loss) -> bool:
    """Whether a loss compares texts of different queries other than query and document."""
    function = loss.function
    two_sided = isinstance(function, InfoNCE) and function.directions != "forward"
    return two_sided or isinstance(function, AlignUniform) or loss.spread_out is not None

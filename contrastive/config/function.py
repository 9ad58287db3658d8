"""Which loss is minimised, and its settings."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from tyro.conf import Suppress, subcommand

from contrastive.config.base import Config


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
    """InfoNCE on artanh(s); has no temperature."""

    kind: Annotated[Literal["artanh"], Suppress] = "artanh"


class ModelAware(Config):
    """MACL: the temperature rises as positives align."""

    kind: Annotated[Literal["model_aware"], Suppress] = "model_aware"
    alpha: float = 0.5
    """How much."""
    alignment: float = 0.0
    """Mean similarity of positives at which the temperature is as set."""


class SogCLR(Config):
    """The loss of all the data: a query's partition is an average over the batches it was in."""

    kind: Annotated[Literal["sogclr"], Suppress] = "sogclr"
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Weight of the newest batch in the average."""
    rho: NonNegativeFloat = 0.0
    """How far from uniform, in nats, temperatures leave the softmax over negatives: the larger,
    the lower they are. Used where they are learned or individual."""


class SupCon(Config):
    """Texts of the same "label", in whichever file, are positives, queries and documents alike."""

    kind: Annotated[Literal["sup_con"], Suppress] = "sup_con"
    inside: bool = False
    """Whether the mean over positives is inside the logarithm."""


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
    """The relevance's softmax (ListNet), or its share of the group's, where none is negative."""


class AlignUniform(Config):
    """Positives close, everything far apart; has no temperature."""

    kind: Annotated[Literal["align_uniform"], Suppress] = "align_uniform"
    power: PositiveFloat = 2.0
    """Of the distance of positives."""
    sharpness: PositiveFloat = 2.0
    """u in the mean of exp(-u d^2)."""
    weight: PositiveFloat = 1.0
    """Of uniformity."""


Forgetful: TypeAlias = (
    InfoNCE
    | Decoupled
    | HardNegative
    | Hardest
    | DualTemperature
    | Artanh
    | ModelAware
    | SupCon
    | Annotated[SigLIP, subcommand("siglip")]
    | Triplet
    | MarginMSE
    | Annotated[CoSENT, subcommand("cosent")]
    | Listwise
    | AlignUniform
)
"""Losses of a batch that need to know nothing of those before it."""
Function: TypeAlias = Annotated[
    Forgetful | Annotated[SogCLR, subcommand("sogclr")], Field(discriminator="kind")
]
OF_SCORES = (MarginMSE, CoSENT, Listwise)
"""Losses of scores of each document, which need no other negatives."""
OF_OWN_DOCUMENTS = (MarginMSE, Listwise)
"""Losses that compare a query's own documents with each other, and with no others."""
WITHOUT_TEMPERATURE = (Triplet, MarginMSE, AlignUniform, Artanh)
"""Losses that no temperature has a part in."""
ONE_TEMPERATURE = (ModelAware, CoSENT)
"""Losses of the whole batch at one temperature."""
WITHOUT_NEGATIVES = (*OF_SCORES, SupCon)
"""Losses without anything that could be left out of the negatives."""

"""Who sets the temperature."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

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
    learning_rate: PositiveFloat = 1e-3
    """Highest of the temperature's logarithm, and of SigLIP's bias, with the encoder's schedule."""


class Linear(Config):
    """The temperature goes to another in a straight line."""

    kind: Annotated[Literal["linear"], Suppress] = "linear"
    last: PositiveFloat
    """Temperature it ends at."""
    steps: PositiveInt | None = None
    """Steps it takes; None is all of the run."""


class Oscillating(Config):
    """The temperature goes to another and back, along a cosine: Kukleva et al."""

    kind: Annotated[Literal["oscillating"], Suppress] = "oscillating"
    other: PositiveFloat
    """Half a period after the first step."""
    period: PositiveInt
    """Steps."""


class WarmDown(Config):
    """The temperature comes down to its value from a higher one, by equal factors."""

    kind: Annotated[Literal["warm_down"], Suppress] = "warm_down"
    start: PositiveFloat = 1.0
    """Temperature of the first step."""
    steps: PositiveInt
    """Steps it takes."""


class Individual(Config):
    """Every query of the data has a temperature of its own, which sogclr finds: iSogCLR."""

    kind: Annotated[Literal["individual"], Suppress] = "individual"
    minimum: PositiveFloat = 0.005
    """Least temperature."""
    maximum: PositiveFloat = 1.0
    """Largest temperature."""
    learning_rate: PositiveFloat = 0.01
    """Of temperatures: what a slope of 1 nat takes off, each time a query is seen."""


Policy: TypeAlias = Annotated[
    Fixed | Learned | Linear | Oscillating | WarmDown | Individual, Field(discriminator="kind")
]

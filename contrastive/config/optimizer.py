"""How it is minimised."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from contrastive.config.base import Config


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

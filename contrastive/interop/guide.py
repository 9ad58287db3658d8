"""Settings of a guide: a frozen encoder that detects false negatives."""

from __future__ import annotations

from typing import Literal

from contrastive.settings import Config

__all__ = ["Guide"]


class Guide(Config):
    """A frozen encoder that detects false negatives: those it scores above the positive.

    Source: Solatorio, 2024, arXiv:2402.16829 (GISTEmbed).
    """

    name: str
    """Model folder, or a model name on the Hub. The guide reads the tokens of the trained model, so
    it needs the same tokenizer."""
    revision: str | None = None
    """Branch, tag or commit on the Hub; None is the default branch."""
    cache_dir: str | None = None
    """Folder for downloads from the Hub; None is the Hub's default cache."""
    margin: float = 0.0
    """Minimum difference between the guide's scores of the positive and of a negative."""
    relative_margin: float = 0.0
    """The same, as a fraction of the guide's score of the positive; both are added."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype of the guide's layers."""

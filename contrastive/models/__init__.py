"""Encoders: one settings class per file, and one family of published checkpoints per file."""

from contrastive.lazy import public_names

__getattr__, __dir__ = public_names(__name__, __name__, f"{__name__}.families")

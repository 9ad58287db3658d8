"""Contrastive losses: pure functions that return one value per query, and their settings."""

from contrastive.lazy import public_names

__getattr__, __dir__ = public_names(__name__, __name__, f"{__name__}._negatives")

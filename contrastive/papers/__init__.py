"""Reproductions of papers as code: their claims, and the runs that test them."""

from contrastive.lazy import public_names

__getattr__, __dir__ = public_names(__name__, __name__)

"""Evaluators, which score an encoder during training, after training, or on their own."""

from contrastive.lazy import public_names

__getattr__, __dir__ = public_names(__name__, __name__)

"""Sources of training examples: files, data sets, or any other sequence of rows."""

from contrastive.lazy import public_names

__getattr__, __dir__ = public_names(__name__, __name__)

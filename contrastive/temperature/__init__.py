"""Temperature policies, and diagnostics of what a temperature does."""

from contrastive.lazy import public_names

__getattr__, __dir__ = public_names(__name__, f"{__name__}.policies", __name__)

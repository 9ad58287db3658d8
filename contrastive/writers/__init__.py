"""Writers, which send metrics to other services besides metrics.jsonl."""

from contrastive.lazy import public_names

__getattr__, __dir__ = public_names(__name__, __name__)

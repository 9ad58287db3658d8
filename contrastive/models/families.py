"""Which architectures there are, by the `model_type` of their config.json."""

from __future__ import annotations

from contrastive.errors import ConfigError
from contrastive.models.bert import BERT
from contrastive.models.family import Family, HFConfig
from contrastive.models.modernbert import MODERNBERT

FAMILIES: dict[str, Family] = {
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "camembert": BERT,
    "modernbert": MODERNBERT,
}


def family_of(config: HFConfig) -> Family:
    """The family of a checkpoint.

    Args:
      config: Fields of its config.json.

    Returns:
      The family.

    Raises:
      ConfigError: If it is none of ours, naming those.
    """
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise ConfigError(
            f"model_type is {kind!r}, which is not supported; supported are {', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]

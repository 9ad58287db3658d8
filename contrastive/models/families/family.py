"""The base class of checkpoint families, and the registry of all families."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp

from contrastive.errors import ConfigError
from contrastive.lazy import modules_of
from contrastive.parts import descendants

__all__ = ["Compute", "Family", "HFConfig", "expect"]

HFConfig = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Compute:
    """Settings that are not part of a checkpoint.

    Attributes:
      dtype: Compute dtype of the layers.
      dropout: Replaces every dropout rate of the checkpoint; None keeps the checkpoint's rates.
      remat: Whether to recompute activations in the backward pass instead of storing them.
    """

    dtype: Any = jnp.float32
    dropout: float | None = None
    remat: bool = False

    def rate(self, own: float) -> float:
        """Returns the dropout rate to use if the checkpoint's rate is `own`."""
        return own if self.dropout is None else self.dropout


class Family:
    """An architecture of published checkpoints, with the names of its weights.

    `Checkpoint` loads the checkpoints of every subclass that sets `model_types`.
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    """Values of `model_type` in config.json that belong to the family."""
    modules: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Paths of Flax modules (regular expressions), with the PyTorch names of the modules."""
    prefixes: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the encoder's weight names in checkpoints that have a head."""
    heads: ClassVar[tuple[str, ...]] = ()
    """Names (regular expressions, without prefix) of weights that the encoder does not use."""

    @classmethod
    def build(cls, config: HFConfig, compute: Compute) -> Any:
        """Builds the Flax module of a checkpoint.

        Args:
          config: Fields of config.json.
          compute: Settings that are not part of the checkpoint.

        Returns:
          The module, with the attributes `width`, `vocab_size` and `max_length`, the maximum
          number of tokens per text.

        Raises:
          ConfigError: If config.json has an unsupported setting.
          KeyError: If config.json lacks a required field.
        """
        raise TypeError(f"{cls.__name__} does not implement build; add this class method")


def families() -> dict[str, type[Family]]:
    """Returns all families by `model_type`."""
    for _ in modules_of("contrastive.models.families"):
        pass
    return {
        kind: family
        for family in descendants(Family)
        for kind in vars(family).get("model_types", ())  # not those that it inherits
    }


def family_of(config: HFConfig) -> type[Family]:
    """Returns the family of a checkpoint.

    Args:
      config: Fields of config.json.

    Returns:
      The family.

    Raises:
      ConfigError: If no family has the `model_type` of the checkpoint.
    """
    kind, known = config.get("model_type"), families()
    if kind not in known:
        raise ConfigError(
            f"model_type is {kind!r}, which is not supported; choose a checkpoint of type "
            f"{', '.join(known)}"
        )
    return known[kind]


def expect(config: HFConfig, field: str, allowed: tuple[Any, ...]) -> None:
    """Checks that a field of config.json has a supported value.

    Args:
      config: Fields of config.json.
      field: Name of the field; it may be missing or null.
      allowed: Supported values.

    Raises:
      ConfigError: If the value is not supported.
    """
    value = config.get(field)
    if value is not None and value not in allowed:
        supported = ", ".join(map(repr, allowed))
        raise ConfigError(f"{field} is {value!r}, which is not supported; choose from {supported}")

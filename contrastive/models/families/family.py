"""The base class of checkpoint families, and the registry of all families."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self, TypeAlias

import jax.numpy as jnp
import pydantic
from pydantic import Field

from contrastive.errors import ConfigError
from contrastive.lazy import modules_of
from contrastive.parts import descendants

__all__ = [
    "Compute",
    "Depth",
    "Epsilon",
    "Family",
    "Fields",
    "HFConfig",
    "Rate",
    "Size",
    "check_heads",
]

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
          ConfigError: If config.json lacks a field or has an unsupported setting.
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


class Fields(pydantic.BaseModel):
    """The fields of config.json that a family reads, with their types and limits.

    A subclass declares them; other fields are ignored. A `Literal` names the values of a setting
    that are supported.
    """

    model_config = pydantic.ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    @classmethod
    def of(cls, config: HFConfig) -> Self:
        """Reads the fields; null counts as missing.

        Args:
          config: Fields of config.json.

        Returns:
          The fields.

        Raises:
          ConfigError: If a field is missing, or has a value that is not supported.
        """
        if not isinstance(config, Mapping):
            raise ConfigError(f"expected an object with fields, got {config!r:.60}")
        try:
            return cls(**{name: x for name, x in config.items() if x is not None})
        except pydantic.ValidationError as error:
            problem = error.errors(include_url=False)[0]
            field = ".".join(map(str, problem["loc"]))
            if problem["type"] == "missing":
                raise ConfigError(f"the field {field} is missing; add it") from None
            reason = problem["msg"][0].lower() + problem["msg"][1:]
            raise ConfigError(
                f"{field} is {problem['input']!r:.60}, which is not supported: {reason}"
            ) from None


Size: TypeAlias = Annotated[int, Field(ge=1, le=2**24)]
"""A number of rows or columns of a weight."""
Depth: TypeAlias = Annotated[int, Field(ge=1, le=1024)]
"""A number of layers."""
Rate: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
"""A dropout rate."""
Epsilon: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
"""An epsilon of a layer norm."""


def check_heads(width: int, heads: int) -> None:
    """Checks that the attention heads have equal widths.

    Args:
      width: Hidden size.
      heads: Number of attention heads.

    Raises:
      ConfigError: If `heads` does not divide `width`.
    """
    if width % heads:
        raise ConfigError(
            f"num_attention_heads is {heads}, which does not divide hidden_size, {width}"
        )

"""An architecture of published checkpoints, and how its parts are called there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from contrastive.errors import ConfigError

HFConfig = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Family:
    """One file of this room.

    Attributes:
      build: From the fields of config.json and what layers compute in to a module. Its
        `max_length` is the most tokens a text may have.
      modules: Paths of Flax modules (regular expressions) and what PyTorch calls them.
      prefixes: What checkpoints with a head put before every name of the encoder.
      heads: Names (regular expressions, after the prefix) of weights that embedding does not use.
    """

    build: Callable[[HFConfig, Compute], Any]
    modules: tuple[tuple[str, str], ...]
    prefixes: tuple[str, ...]
    heads: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a checkpoint is run, which it does not say itself.

    Attributes:
      dtype: What layers compute in.
      dropout: Replaces every dropout rate of the checkpoint; None keeps its own.
      remat: Whether activations are computed again in the backward pass, not kept.
    """

    dtype: Any = jnp.float32
    dropout: float | None = None
    remat: bool = False

    def rate(self, own: float) -> float:
        """The dropout rate to use where the checkpoint's own is `own`."""
        return own if self.dropout is None else self.dropout


def expect(config: HFConfig, field: str, allowed: tuple[Any, ...]) -> None:
    """Refuses a config.json whose field this project does not compute.

    Args:
      config: Its fields.
      field: Which; absent or null means the first of `allowed`.
      allowed: What can be computed.

    Raises:
      ConfigError: Naming the field, its value and what is allowed.
    """
    value = config.get(field)
    if value is not None and value not in allowed:
        raise ConfigError(f"{field} is {value!r}; supported: {list(allowed)}")

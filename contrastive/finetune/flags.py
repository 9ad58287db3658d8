"""How a flag is defined: its help, its default and the experiment fields that it sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from contrastive.parts import Part


class _Help(str):
    """The help text of a flag with its fields, since the parser accepts no other metadata."""

    fields: Sequence[str]

    def __new__(cls, text: str, fields: str) -> _Help:
        help = super().__new__(cls, text)
        help.fields = fields.split()
        return help


def flag(
    help: str, default: Any = dataclasses.MISSING, field: str = "", added: bool = False
) -> Any:
    """Defines a flag and the experiment fields that it sets.

    Args:
      help: The help text.
      default: Value if the flag is not given; without one, the flag is required.
      field: The fields of an experiment that the flag sets, separated by spaces.
      added: Whether FlagEmbedding does not have the flag, which the help text then says.

    Returns:
      A dataclass field.
    """
    metadata = {"help": _Help(f"Not in FlagEmbedding. {help}" if added else help, field)}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def choices(base: type[Part]) -> dict[str, type[Part]]:
    """Returns the built-in parts that flags can describe, by kind.

    Args:
      base: The base of the parts, such as `Loss`.

    Returns:
      The parts by kind.

    >>> from contrastive.writers._writer import Writer
    >>> list(choices(Writer))
    ['tensorboard', 'wandb']
    """
    parts = base.known().items()
    return {kind: x for kind, x in parts if x.is_built_in() and not x.only_in_files}


def summaries(base: type[Part]) -> str:
    """Returns the names of the built-in parts with their summaries.

    Args:
      base: The base of the parts, such as `Loss`.

    Returns:
      A line per part, with a line break before each.
    """
    lines = [f"- {kind}: {part.summary()}" for kind, part in choices(base).items()]
    return "\n".join(["", *lines])


def setting_names(base: type[Part]) -> str:
    """Returns the names of the built-in parts with the names of their fields.

    Args:
      base: The base of the parts, such as `Loss`.

    Returns:
      A line per part, with line breaks before and after; parts without fields are left out.
    """
    parts = [(kind, part) for kind, part in choices(base).items() if part.model_fields]
    lines = [f"- {kind}: {', '.join(part.model_fields)}" for kind, part in parts]
    return "\n".join(["", *lines, ""])

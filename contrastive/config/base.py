"""Frozen, validated settings, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic


class Config(pydantic.BaseModel):
    """A frozen config; an unknown or invalid field is an error that names it."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True
    )

    def replace(self, **changes: Any):
        """A validated copy; `replace(**{"loss.temperature": 0.05})` reaches inside."""
        fields = dict(self)
        for name, value in changes.items():
            head, _, rest = name.partition(".")
            if head not in fields:
                raise ValueError(f"{type(self).__name__} has no field {head!r}: {sorted(fields)}")
            fields[head] = fields[head].replace(**{rest: value}) if rest else value
        return type(self)(**fields)

    def unchecked(self, values: Mapping[str, Any]):
        """As `replace`, of fields that are there, without validation: for traced values."""
        copy = self
        for name, value in values.items():
            head, _, rest = name.partition(".")
            inner = getattr(copy, head).unchecked({rest: value}) if rest else value
            copy = copy.model_copy(update={head: inner})
        return copy

    def at(self, name: str) -> Any:
        """The value of a field, `loss.temperature` for one further in.

        Raises:
          ValueError: If there is no such field.
        """
        head, _, rest = name.partition(".")
        if head not in type(self).model_fields:
            fields = sorted(type(self).model_fields)
            raise ValueError(f"{type(self).__name__} has no field {head!r}: {fields}")
        value = getattr(self, head)
        if not rest:
            return value
        if not isinstance(value, Config):
            raise ValueError(f"{head} is {value!r}, which has no field {rest!r}")
        return value.at(rest)


def differences(a: Config, b: Config) -> list[str]:
    """Where two configs differ, as `loss.temperature: 0.02 -> 0.05`, in the order of the fields."""
    before, after = flatten(a.model_dump(mode="json")), flatten(b.model_dump(mode="json"))
    names = {**before, **after}
    missing = object()
    return [
        f"{name}: {before.get(name)!r} -> {after.get(name)!r}"
        for name in names
        if before.get(name, missing) != after.get(name, missing)
    ]


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts to one with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat

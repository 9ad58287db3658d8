"""Configs: frozen and validated settings, and the differences between two of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self, TypeAlias, Union

import pydantic

from contrastive.errors import ITSELF, ConfigError, UserError


class Config(pydantic.BaseModel):
    """Base class of frozen configs; an unknown or invalid field raises an error that names it."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    renamed: ClassVar[Mapping[str, str]] = {}
    """Former names of fields, with their current names."""

    def __init__(self, **fields: Any):
        try:
            super().__init__(**fields)
        except pydantic.ValidationError as error:
            raise config_error(error, type(self)) from None

    @classmethod
    def short_name(cls) -> str:
        """Returns the name to display."""
        return cls.__name__

    @pydantic.model_validator(mode="before")
    @classmethod
    def _refuse_old_names(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        for old in cls.renamed.keys() & values.keys():
            raise ConfigError(f"is now called {cls.renamed[old]}; rename it", field=old)
        return {name: _paths_as_text(value) for name, value in values.items()}

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with changed values, which are validated together.

        Args:
          **changes: New values by field. Dotted names address nested fields, as in
            `replace(**{"loss.temperature": 0.05})`.

        Returns:
          The changed copy.

        Raises:
          ValueError: If a field does not exist or a value is invalid.
        """
        whole, nested = _by_name(changes)
        fields = {**dict(self), **whole}
        for name, inner in nested.items():
            fields[name] = _replaced(_child(self, name, fields), inner)
        return type(self)(**fields)

    def replace_unvalidated(self, values: Mapping[str, Any]) -> Self:
        """Returns a copy with changed values of existing fields, which may be traced arrays."""
        copy = self
        for path, value in values.items():
            name, _, rest = path.partition(".")
            new = _replaced_unvalidated(getattr(copy, name), rest, value) if rest else value
            copy = copy.model_copy(update={name: new})
        return copy

    def at(self, path: str) -> Any:
        """Returns the value of a field.

        Args:
          path: Name of the field; dotted for a nested field, such as `loss.temperature`.

        Returns:
          The value.

        Raises:
          ValueError: If the field does not exist.
        """
        value: Any = self
        for name in path.split("."):
            value = _child(value, name)
        return value


# The smallest normal number of float32, as devices round smaller ones to 0, and the largest one.
_SMALLEST, _LARGEST = 2.0**-126, (2.0 - 2.0**-23) * 2.0**127


def _in_float32(value: float) -> float:
    if value < _SMALLEST:
        raise ConfigError(
            f"is {value!r}, which is 0 in float32; set it to at least {_SMALLEST:.1e}", field=ITSELF
        )
    if value > _LARGEST:
        raise ConfigError(f"is {value!r}, which is infinite in float32; lower it", field=ITSELF)
    return value


PositiveFloat32: TypeAlias = Annotated[
    float, pydantic.Field(gt=0), pydantic.AfterValidator(_in_float32)
]
"""A number that is positive and finite in float32, such as a temperature or a learning rate."""


def _paths_as_text(value: Any) -> Any:
    """Converts paths to strings, as configs are stored as JSON."""
    if isinstance(value, tuple | list):
        return type(value)(map(_paths_as_text, value)) if type(value) in (tuple, list) else value
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def one_of(**choices: Any) -> Any:
    """Returns the annotation of a field with one of several types, told apart by `kind`.

    Unlike a plain union, it reports only the problems of the type that was meant.

    Args:
      **choices: The types by their `kind`; the first one also takes every other kind.
    """
    first = next(iter(choices))

    def tag(value: Any) -> str:
        kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
        return f"<{kind if kind in choices else first}>"

    tagged = [Annotated[choice, pydantic.Tag(f"<{kind}>")] for kind, choice in choices.items()]
    return Annotated[Union[tuple(tagged)], pydantic.Discriminator(tag)]  # noqa: UP007


def config_error(error: pydantic.ValidationError, config: type[Config]) -> ConfigError:
    """Converts a validation error to a ConfigError, with one line per problem."""
    errors = error.errors(include_url=False)
    problems = [_problem(x, config) for x in errors if not _follows(x, errors)]
    if len(problems) == 1:
        return problems[0]
    return ConfigError(lambda name: "\n".join(problem.worded(name) for problem in problems))


def _follows(problem: Any, others: Sequence[Any]) -> bool:
    """Returns whether a tuple is too short only because other values in it are invalid."""
    loc = problem["loc"]
    inside = (other for other in others if len(other["loc"]) > len(loc))
    return problem["type"] == "too_short" and any(x["loc"][: len(loc)] == loc for x in inside)


def _problem(problem: Any, config: type[Config]) -> ConfigError:
    field = ".".join(name for name in map(str, problem["loc"]) if not name.startswith("<"))
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, UserError):
        return _inside(field, cause)
    if problem["type"] == "value_error":
        return ConfigError(str(cause))
    if problem["type"] == "extra_forbidden":
        known = ", ".join(config.model_fields)
        return ConfigError(
            f"is not a field; {config.short_name()} has {known or 'none'}", field=field
        )
    if problem["type"] == "missing":
        return ConfigError("is required", field=field)
    reason = problem["msg"][0].lower() + problem["msg"][1:]
    return ConfigError(f"is {problem['input']!r:.80}: {reason}", field=field)


def _inside(prefix: str, error: UserError) -> ConfigError:
    """Returns the error of a nested config, with its field names prefixed."""

    def full(field: str) -> str:
        if field == ITSELF:
            return prefix or ITSELF
        return f"{prefix}.{field}" if prefix else field

    message = error.message
    return ConfigError(
        message if isinstance(message, str) else lambda name: message(lambda x: name(full(x))),
        field=full(error.field) if error.field else "",
        see=tuple(map(full, error.see)),
    )


def _child(value: Any, name: str, fields: Mapping[str, Any] | None = None) -> Any:
    """Returns a field of a config, or an entry of a dict by key or of a tuple by index."""
    if isinstance(value, Config):
        fields = dict(value) if fields is None else fields
        if name not in fields:
            known = ", ".join(sorted(fields))
            raise ValueError(
                f"{type(value).__name__} has no field {name!r}; its fields are {known}"
            )
        return fields[name]
    if isinstance(value, Mapping) and name in value:
        return value[name]
    if isinstance(value, tuple) and name.isdecimal() and int(name) < len(value):
        return value[int(name)]
    raise ValueError(f"{value!r} has no field {name!r}")


def _by_name(changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Separates changes of whole fields from changes inside fields, which are grouped by field."""
    whole: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        name, _, rest = path.partition(".")
        if rest:
            nested.setdefault(name, {})[rest] = value
        else:
            whole[name] = value
    return whole, nested


def _replaced(value: Any, changes: Mapping[str, Any]) -> Any:
    if isinstance(value, Config):
        return value.replace(**changes)
    whole, nested = _by_name(changes)
    for name, new in whole.items():
        value = _with_entry(value, name, new)
    for name, inner in nested.items():
        value = _with_entry(value, name, _replaced(_child(value, name), inner))
    return value


def _replaced_unvalidated(value: Any, path: str, new: Any) -> Any:
    name, _, rest = path.partition(".")
    if isinstance(value, Config):
        return value.replace_unvalidated({path: new})
    new = _replaced_unvalidated(_child(value, name), rest, new) if rest else new
    return _with_entry(value, name, new)


def _with_entry(value: Any, name: str, new: Any) -> Any:
    if isinstance(value, Mapping):
        return {**value, name: new}
    _child(value, name)
    return (*value[: int(name)], new, *value[int(name) + 1 :])


def differences(a: Config, b: Config) -> list[str]:
    """Lists the fields that differ, as `loss.temperature: 0.02 -> 0.05`, in order.

    A field that only one of the two has is shown as None on the other side, and is not listed if it
    is None: what contains it differs in other fields too.
    """
    before, after = flatten(a.model_dump(mode="json")), flatten(b.model_dump(mode="json"))
    names = {**before, **after}
    return [
        f"{name}: {before.get(name)!r} -> {after.get(name)!r}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested dicts to one dict with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat

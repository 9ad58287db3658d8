"""Converts configs to flags: one flag per field, with known parts as choices."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pydantic
import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
)

from contrastive.parts import KIND, Part
from contrastive.settings import Config
from contrastive.writers._writer import Writer

_WRITERS = tuple[Writer, ...]

REGISTRY = ConstructorRegistry()
"""Registry for `tyro.cli` that makes the flags of configs, which it parses to mappings."""


@REGISTRY.struct_rule
def _config(info: Any) -> StructConstructorSpec | None:
    if not (isinstance(info.type, type) and issubclass(info.type, Config)):
        return None
    fields, fixed, written = [], {}, {}
    for name, field in info.type.model_fields.items():
        default = _default(info.default, name, field)
        if tyro.conf.Fixed in field.metadata:
            fixed |= {} if default is tyro.MISSING_NONPROP else {name: default}
            continue
        if field.annotation == _WRITERS:
            written[name] = default
        fields.append(
            StructFieldSpec(
                name=name,
                type=flag_type(_annotation(field), default),
                default=_kinds(default) if name in written else default,
                helptext=field.description,
            )
        )
    # Fields that flags cannot represent keep the values of the experiment file.
    gather = functools.partial(_gathered, info.type, written, fixed)
    return StructConstructorSpec(instantiate=gather, fields=tuple(fields))


def _gathered(
    config: type[Config],
    written: Mapping[str, tuple[Writer, ...]],
    fixed: Mapping[str, Any],
    /,
    **values: Any,
) -> dict[str, Any]:
    """Returns the values of a config's fields by name.

    They are validated with the whole experiment, so that an error names the whole field.
    """
    kind = {KIND: config.kind} if issubclass(config, Part) else {}
    chosen = {name: _writers(values[name], own) for name, own in written.items()}
    given = {name: _none_or(value, config.model_fields[name]) for name, value in values.items()}
    return {**kind, **fixed, **given, **chosen}


def _none_or(value: Any, field: pydantic.fields.FieldInfo) -> Any:
    """Reads `none` as None where a number or nothing is expected."""
    types_of_field = get_args(field.annotation)
    is_word = isinstance(value, str) and value.lower() == "none" and str not in types_of_field
    return None if is_word and type(None) in types_of_field else value


@REGISTRY.primitive_rule
def _number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Leaves words that are not numbers to the config, whose errors name the field."""
    if info.type not in (int, float):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=info.type.__name__.upper(),
        instance_from_str=lambda words: _number_or_word(info.type, words[0]),
        is_instance=lambda x: isinstance(x, int | info.type) and not isinstance(x, bool),
        str_from_instance=lambda x: [str(x)],
    )


def _number_or_word(number: Any, word: str) -> Any:
    try:
        return number(word)
    except ValueError:
        return word


def _kinds(writers: tuple[Writer, ...]) -> tuple[str, ...]:
    return tuple(writer.kind for writer in writers)


def _writers(kinds: Sequence[str], own: Sequence[Writer]) -> tuple[Writer | str, ...]:
    """Replaces kinds by the writers of the experiment file, in its order, where it has any."""
    left = list(own)
    chosen: list[Writer | str] = []
    for kind in kinds:
        found = next((writer for writer in left if writer.kind == kind), None)
        if found is not None:
            left.remove(found)
        chosen.append(kind if found is None else found)
    return tuple(chosen)


def _annotation(field: pydantic.fields.FieldInfo) -> Any:
    annotation: Any = field.annotation
    return Annotated[(annotation, *field.metadata)] if field.metadata else annotation


def _default(parent: Any, name: str, field: pydantic.fields.FieldInfo) -> Any:
    if isinstance(parent, Config):
        return getattr(parent, name)
    if field.is_required():
        return tyro.MISSING_NONPROP
    return field.get_default(call_default_factory=True)


def flag_type(annotation: Any, default: Any) -> Any:
    """Returns the type that tyro uses to parse a flag.

    Args:
      annotation: Type annotation of a field. The base of parts becomes a choice of all known parts;
        a tuple of writers becomes a tuple of their kinds.
      default: Value of the field, which is one of the choices even if flags cannot represent it.

    Returns:
      The type for tyro.
    """
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        kept = [x for x in metadata if type(x).__module__.startswith("tyro.")]
        changed = flag_type(inner, default)
        return Annotated[(changed, *kept)] if kept else changed
    if annotation == _WRITERS:
        return tuple[Literal[_writer_kinds(default)], ...]
    if isinstance(annotation, type) and issubclass(annotation, Part) and annotation.abstract:
        return _choice(annotation, default)
    if get_origin(annotation) in (Union, types.UnionType):
        return Union[tuple(flag_type(x, default) for x in get_args(annotation))]  # noqa: UP007
    return annotation


def _writer_kinds(default: tuple[Writer, ...]) -> tuple[str, ...]:
    """Returns the kinds to choose from: those of the file, and those that need no settings."""
    plain = [
        kind
        for kind, writer in Writer.known().items()
        if not any(field.is_required() for field in writer.model_fields.values())
        and not writer.only_in_files
    ]
    return tuple(dict.fromkeys((*plain, *_kinds(default))))


def _choice(base: type[Part], default: Any) -> Any:
    parts = [part for part in base.known().values() if not part.only_in_files]
    if isinstance(default, base) and type(default) not in parts:
        parts.append(type(default))
    return Union[tuple(_subcommand(part) for part in parts)]  # noqa: UP007


def _subcommand(part: type[Part]) -> Any:
    name = part.short_name().replace("_", "-")
    return Annotated[part, tyro.conf.subcommand(name, description=part.summary())]

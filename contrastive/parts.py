"""Parts: configs that users can extend with their own subclasses.

A part (a loss, a temperature policy, a source of examples, an encoder, an evaluator or a metrics
writer) is a subclass of its public base. Subclassing also registers it: configs accept it, the
command line has a flag for each of its fields, and reports show its name.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
import itertools
import re
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

import pydantic
from pydantic_core import core_schema

from contrastive.errors import ITSELF, ConfigError
from contrastive.lazy import modules_of
from contrastive.settings import Config

KIND = "kind"
_DEFINITIONS = itertools.count()


def _is_base(cls: type) -> bool:
    """Returns whether a class is a direct subclass of `Part`, which may not be defined yet."""
    return any((b.__module__, b.__name__) == (__name__, "Part") for b in cls.__bases__)


class Part(Config):
    """A config that is registered by subclassing a base.

    A base, such as `Loss`, is a direct subclass of `Part`. A config field of that type accepts any
    subclass of the base. The first field of a part may be passed by position. In JSON, a part has
    the additional field `kind`: the name of a built-in part, or `module:Class` for a custom part.
    """

    kind: ClassVar[str] = ""
    """Name of the part in JSON, flags and reports; defaults to the class name in snake_case."""
    package: ClassVar[str] = ""
    """Package whose modules define the built-in parts; set by a base."""
    abstract: ClassVar[bool] = False
    """Whether the class only serves as a base of other classes."""
    only_in_files: ClassVar[bool] = False
    """Whether flags cannot represent the part, so that only experiment files can choose it."""
    is_inert: ClassVar[bool] = False
    """Whether the class is a placeholder for a part whose module was not imported."""
    _definition: ClassVar[int] = 0

    def __init__(self, *first: Any, **fields: Any):
        if len(first) > 1:
            raise TypeError(
                f"{type(self).__name__} takes at most one positional argument, got {len(first)}; "
                "pass the other fields by name"
            )
        super().__init__(**dict(zip(type(self).model_fields, first, strict=False)), **fields)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "abstract" not in vars(cls):
            cls.abstract = _is_base(cls)
        name = vars(cls).get("kind") or snake_case(cls.__name__)
        cls.kind = name if cls.is_built_in() else f"{cls.__module__}:{cls.__qualname__}"
        cls._definition = next(_DEFINITIONS)

    @classmethod
    def is_built_in(cls) -> bool:
        """Returns whether the part is defined in the package of its base."""
        return cls.__module__.startswith(f"{cls.package}.")

    @classmethod
    def short_name(cls) -> str:
        """Returns the name to display: the kind, without the module of a custom part."""
        return snake_case(re.split(r"[:.]", cls.kind)[-1]) if ":" in cls.kind else cls.kind

    def _not_implemented(self, method: str) -> Exception:
        """Returns the error for calling a method that the part does not implement."""
        if self.is_inert:
            module = self.kind.partition(":")[0]
            return ConfigError(
                f"{self.kind} is not part of this package; import {module} to use it"
            )
        return TypeError(f"{type(self).__name__} does not implement {method}")

    @classmethod
    def base(cls) -> type[Part]:
        """Returns the base of the part, such as `Loss`."""
        return next(c for c in cls.__mro__ if _is_base(c))

    @classmethod
    def known(cls) -> dict[str, type[Self]]:
        """Returns all parts of a base by kind: the built-in ones and those that were imported.

        If two classes have the same kind, as when a file is executed twice, the newer one is used.
        """
        _import_built_in(cls.base().package)
        parts = [part for part in descendants(cls) if not part.abstract]
        # Modules are imported in alphabetical order, but not if another one needs them first.
        built_in = sorted((x for x in parts if x.is_built_in()), key=lambda x: x.__module__)
        custom = sorted((x for x in parts if not x.is_built_in()), key=lambda x: x._definition)
        return {part.kind: part for part in (*built_in, *custom)}

    @classmethod
    def summary(cls) -> str:
        """Returns the first line of the docstring."""
        return (cls.__doc__ or "").strip().split("\n")[0]

    @classmethod
    def convert(cls, value: Any) -> Any:
        """Converts other values that the base accepts to a part or to a mapping of its fields."""
        return value

    @pydantic.model_validator(mode="before")
    @classmethod
    def _without_kind(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get(KIND) == cls.kind:
            return {name: value for name, value in values.items() if name != KIND}
        return values

    @pydantic.model_serializer(mode="wrap")
    def _with_kind(self, handler: Any) -> dict[str, Any]:
        return {KIND: self.kind, **handler(self)}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        if not _is_base(cls):
            return handler(source)
        return core_schema.no_info_plain_validator_function(
            cls._validate_any,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda part, info: part.model_dump(mode=info.mode), info_arg=True
            ),
        )

    @classmethod
    def _validate_any(cls, value: Any) -> Part:
        value = cls.convert(value)
        if isinstance(value, cls):
            return value
        kind = value.get(KIND) if isinstance(value, Mapping) else None
        if not isinstance(kind, str):
            raise ConfigError(
                f"is {value!r:.80}; it must be a {cls.__name__}, for example one of "
                f"{', '.join(cls.known())}",
                field=ITSELF,
            )
        part = cls.known().get(kind) or _foreign(cls, kind)
        return part(**{name: x for name, x in value.items() if name != KIND})


_FOREIGN: contextvars.ContextVar[str] = contextvars.ContextVar("foreign", default="refuse")
_TRAITS: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar(
    "traits", default=types.MappingProxyType({})
)


@contextlib.contextmanager
def foreign_parts(
    how: Literal["refuse", "import", "inert"], traits: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Sets how stored configs with custom parts are read, within a `with` block.

    Args:
      how: `refuse` raises an error if the module of a part was not imported; `import` imports the
        module, which executes its code; `inert` makes placeholders that store the part's name and
        fields but cannot be used.
      traits: The traits of placeholders, as `foreign_traits` returned them. Placeholders have the
        defaults of their base for the others.
    """
    tokens = _FOREIGN.set(how), _TRAITS.set(traits or {})
    try:
        yield
    finally:
        _FOREIGN.reset(tokens[0])
        _TRAITS.reset(tokens[1])


def foreign_policy() -> str:
    """Returns how custom parts are read; see `foreign_parts`."""
    return _FOREIGN.get()


def foreign_traits(config: Any) -> dict[str, dict[str, bool]]:
    """Returns the traits of the custom parts in a config, which its JSON does not contain.

    Traits are what a part declares to be true or false, such as `has_temperature` of a loss.

    Args:
      config: The config, or a value in it.

    Returns:
      For the kind of each custom part, the values of its traits by name.
    """
    found: dict[str, dict[str, bool]] = {}
    if isinstance(config, Part) and not config.is_built_in():
        values = {name: getattr(config, name) for name in _trait_names(config.base())}
        found[config.kind] = {name: x for name, x in values.items() if isinstance(x, bool)}
    if isinstance(config, pydantic.BaseModel):
        children = [value for _, value in config]
    elif isinstance(config, Mapping):
        children = list(config.values())
    else:
        children = config if isinstance(config, list | tuple) else []
    for child in children:
        found |= foreign_traits(child)
    return found


def _trait_names(base: type[Part]) -> list[str]:
    """Returns the names of what a base declares to be true or false, or computes from fields."""
    own = {name: x for name, x in vars(base).items() if name[0] != "_" and not hasattr(Part, name)}
    return [name for name, x in own.items() if isinstance(x, bool) or _is_computed_bool(x)]


def _is_computed_bool(x: Any) -> bool:
    return isinstance(x, property) and x.fget.__annotations__.get("return") in (bool, "bool")


def _foreign(base: type[Part], kind: str) -> type[Part]:
    """Returns the class of a custom part in a stored config."""
    module, _, name = kind.partition(":")
    if not name:
        raise ConfigError(
            f"is of kind {kind!r}; the known kinds of {base.__name__} are "
            f"{', '.join(base.known())}",
            field=ITSELF,
        )
    if foreign_policy() == "inert":
        stored = _TRAITS.get().get(kind, {})
        traits = {name: stored.get(name) for name in _trait_names(base)}
        known = tuple((name, x) for name, x in traits.items() if isinstance(x, bool))
        return _inert(base, kind, known)
    if foreign_policy() == "refuse" and module not in sys.modules:
        raise ConfigError(
            f"is of kind {kind!r}, which was not imported; import {module} first", field=ITSELF
        )
    if module == "__main__":
        raise ConfigError(
            f"is of kind {kind!r}: {name} was defined in a script or a notebook, which other "
            "programs cannot import; define it in a module that the script imports",
            field=ITSELF,
        )
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"the {base.__name__.lower()} {kind} needs the module {module!r}, which cannot be "
            f"imported ({error}); put its folder on PYTHONPATH, or pass the file that defines it"
        ) from None
    part = base.known().get(kind)
    if part is None:
        raise ConfigError(f"the module {module!r} does not define a {base.__name__} named {name!r}")
    return part


@functools.cache
def _inert(base: type[Part], kind: str, traits: tuple[tuple[str, bool], ...]) -> type[Part]:
    """Makes a placeholder class for a part whose module must not be imported."""
    namespace = {
        "__module__": __name__,
        "__doc__": f"Placeholder for {kind}.",
        "model_config": pydantic.ConfigDict(extra="allow"),
        "abstract": True,
        "is_inert": True,
    }
    placeholder = type(kind.rpartition(":")[2], (base,), namespace)
    placeholder.kind = kind
    for name, value in traits:
        setattr(placeholder, name, value)
    return placeholder


@functools.cache
def _import_built_in(package: str) -> None:
    for _ in modules_of(package):
        pass


def descendants(cls: type[Any]) -> Iterator[type[Any]]:
    """Yields the direct and indirect subclasses of a class."""
    for child in cls.__subclasses__():
        yield child
        yield from descendants(child)


def snake_case(name: str) -> str:
    """Converts a name in CamelCase, such as `InfoNCE`, to snake_case, `info_nce`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()

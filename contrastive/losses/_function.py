"""A plain function used as a loss."""

from __future__ import annotations

import importlib
import operator
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import pydantic

from contrastive.errors import ITSELF, ConfigError
from contrastive.losses._loss import Loss
from contrastive.parts import foreign_policy

if TYPE_CHECKING:
    from contrastive.losses._loss import LossInputs

__all__ = ["Function"]


class Function(Loss):
    """A function that takes `LossInputs` and returns one loss per query."""

    function: Any
    """The function. Configs store it as `module:name`, so it must be defined at the top level of a
    module."""

    only_in_files: ClassVar[bool] = True

    def __call__(self, inputs: LossInputs) -> Any:
        return self.function(inputs)

    @pydantic.field_validator("function")
    @classmethod
    def _find(cls, value: Any) -> Callable[[LossInputs], Any]:
        if isinstance(value, str):
            return _imported(value)
        name = getattr(value, "__qualname__", None)
        if not callable(value) or name is None or "<" in name:
            raise ConfigError(
                f"is {name or repr(value):.80}, which a resumed run cannot import by its name; use "
                "a function of LossInputs that is defined at the top level of a module",
                field=ITSELF,
            )
        return value

    @pydantic.field_serializer("function")
    def _name(self, function: Any) -> str:
        if isinstance(function, _Inert):
            return function.name
        return f"{function.__module__}:{function.__qualname__}"


class _Inert:
    """Stands in for a function that must not be imported; it knows only the name."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, inputs: LossInputs) -> Any:
        module = self.name.partition(":")[0]
        raise ConfigError(f"{self.name} is not part of this package; import {module} to use it")


def _imported(name: str) -> Callable[[LossInputs], Any]:
    module, _, function = name.partition(":")
    policy = foreign_policy()
    if policy == "inert":  # `__main__` is always imported, but may be another program
        known = operator.attrgetter(function)
        try:
            return known(sys.modules[module])
        except (KeyError, AttributeError):
            return _Inert(name)
    if module not in sys.modules and policy != "import":
        raise ConfigError(
            f"is {name!r}, which was not imported; import {module} first", field=ITSELF
        )
    try:
        return operator.attrgetter(function)(importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the loss {name} cannot be imported ({error})") from None

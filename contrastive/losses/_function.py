"""A plain function used as a loss."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import pydantic

from contrastive.errors import ConfigError
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
        if not callable(value):
            raise ValueError(f"expected a function of LossInputs, got {value!r:.80}")
        if "<" in value.__qualname__:
            raise ValueError(
                f"the loss {value.__qualname__} is defined inside a function, where a resumed run "
                "cannot find it; define it at the top level of a module"
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
    if module not in sys.modules and policy == "inert":
        return _Inert(name)
    if module not in sys.modules and policy != "import":
        raise ValueError(f"{name!r} was not imported; import {module} first")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the loss {name} cannot be imported ({error})") from None

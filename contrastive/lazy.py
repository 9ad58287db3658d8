"""Modules that are imported on first use, and packages that export the names of their modules.

The command line reads the configs of losses, policies and other parts, and its `--help` must not
wait a second for JAX to be imported. Therefore these modules import JAX and NumPy from here.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from contrastive.errors import ConfigError

if TYPE_CHECKING:
    import jax as jax
    import jax.core
    import jax.numpy as jnp
    import numpy as np
    import optax as optax
    from jax import lax as lax
else:

    class _LazyModule:
        def __init__(self, name: str):
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(importlib.import_module(self._name), attribute)

    jax = _LazyModule("jax")
    jnp = _LazyModule("jax.numpy")
    lax = _LazyModule("jax.lax")
    np = _LazyModule("numpy")
    optax = _LazyModule("optax")


def optional(module: str, extra: str) -> Any:
    """Imports an optional dependency.

    Args:
      module: Name of the module.
      extra: The extra of this package that installs it.

    Returns:
      The module.

    Raises:
      ConfigError: If it is not installed, naming the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{module} cannot be imported ({error}); install it with "
            f'pip install "contrastive[{extra}]"'
        ) from None


def public_names(name: str, *packages: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Makes `__getattr__` and `__dir__` of a package that exports the names of its modules.

    A module exports the names in its `__all__`. A new module needs no other registration.

    Args:
      name: Name of the exporting package.
      *packages: Packages whose modules are searched, in order.

    Returns:
      The functions `__getattr__` and `__dir__`.
    """

    def get(attribute: str) -> Any:
        if attribute == "__all__":  # requested by `from contrastive.losses import *`
            return names()
        if not attribute.startswith("_"):
            for module in itertools.chain.from_iterable(map(modules_of, packages)):
                if attribute in getattr(module, "__all__", ()):
                    return getattr(module, attribute)
        raise AttributeError(f"module {name!r} has no attribute {attribute!r}")

    def names() -> list[str]:
        modules = itertools.chain.from_iterable(map(modules_of, packages))
        return sorted({name for module in modules for name in getattr(module, "__all__", ())})

    return get, names


def modules_of(package: str) -> Iterator[ModuleType]:
    """Imports and yields the modules of a package, without subpackages, in alphabetical order."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if not module.ispkg:
            yield importlib.import_module(f"{package}.{module.name}")

"""Executes Python files that users pass to a command."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from contrastive.errors import ConfigError


def execute(file: Path) -> ModuleType:
    """Executes a Python file as the module of its name, so that its classes can be imported.

    The file can import modules from its own folder, as a script can. If it was executed before, the
    new module replaces the earlier one.

    Args:
      file: The file.

    Returns:
      The module.

    Raises:
      ConfigError: If there is no such file, it fails (the message names the line), or another
        module of its name was imported.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: no such file")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    folder = str(file.resolve().parent)
    with _registered(file, module):
        if folder not in sys.path:
            sys.path.insert(0, folder)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            line = max((f.lineno or 0 for f in frames if f.filename == str(file)), default=0)
            where = f"{file}:{line}" if line else str(file)
            raise ConfigError(f"{where}: {type(error).__name__}: {error}") from error
    return module


@contextlib.contextmanager
def _registered(file: Path, module: ModuleType) -> Iterator[None]:
    """Registers a module under the name of its file; an error in the block undoes it."""
    name = file.stem
    before = sys.modules.get(name)
    if before is not None and not _is_of(before, file):
        place = getattr(before, "__file__", None) or "a module of Python"
        raise ConfigError(
            f"{file}: the name {name!r} belongs to a module that is already imported ({place}); "
            "rename the file"
        )
    sys.modules[name] = module
    try:
        yield
    except BaseException:
        if before is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = before
        raise


def _is_of(module: ModuleType, file: Path) -> bool:
    place = getattr(module, "__file__", None)
    return place is not None and Path(place).resolve() == file.resolve()

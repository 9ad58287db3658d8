"""Finds and executes Python files that define experiments."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from importlib.resources import files
from pathlib import Path

from contrastive.errors import ConfigError
from contrastive.training.experiment import Experiment


def experiment_file(name: str) -> Path:
    """Finds the file of an experiment.

    Args:
      name: A Python file, or the name of an experiment that comes with the package, such as
        `quickstart`.

    Returns:
      The file.

    Raises:
      ConfigError: If there is no such file; the message names those that come with the package.
    """
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise ConfigError(
                f"{name}: no such file; expected a Python file that defines an Experiment"
            )
        return Path(name)
    room = Path(str(files("contrastive"))) / "experiments"
    known = sorted(path.stem for path in room.glob("*.py") if not path.stem.startswith("_"))
    if name not in known:
        raise ConfigError(
            f"{name!r} is neither a Python file nor an experiment of this package; those are "
            f"{', '.join(known)}"
        )
    return room / f"{name}.py"


def load_experiments(file: Path) -> dict[str, Experiment]:
    """Loads the experiments that a Python file defines at its top level.

    The file can import modules from its own folder, as a script can.

    Args:
      file: The file, which is executed.

    Returns:
      Experiments by name, including `default`.

    Raises:
      ConfigError: If the file fails (the message names the line) or does not define `default`.
    """
    module = execute(file)
    settings = {
        name: value for name, value in vars(module).items() if isinstance(value, Experiment)
    }
    if "default" not in settings:
        raise ConfigError(f"{file} defines no Experiment called `default`; it has {list(settings)}")
    return settings


def execute(file: Path):
    """Executes a Python file as the module of its name, so that its classes can be imported.

    Args:
      file: The file.

    Returns:
      The module.

    Raises:
      ConfigError: If there is no such file, or it fails (the message names the line).
    """
    if not file.is_file():
        raise ConfigError(f"{file}: no such file")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    sys.modules.setdefault(file.stem, module)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = max((f.lineno or 0 for f in frames if f.filename == str(file)), default=0)
        where = f"{file}:{line}" if line else str(file)
        raise ConfigError(f"{where}: {type(error).__name__}: {error}") from error
    return module

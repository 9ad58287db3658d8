"""Finds and loads Python files that define experiments."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from contrastive.errors import ConfigError
from contrastive.python_files import execute
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
      ConfigError: If the file fails (the message names the line), does not define `default`, or has
        the name of another module that was imported.
    """
    module = execute(file)
    settings = {
        name: value for name, value in vars(module).items() if isinstance(value, Experiment)
    }
    if "default" not in settings:
        raise ConfigError(f"{file} defines no Experiment called `default`; it has {list(settings)}")
    return settings

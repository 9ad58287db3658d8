"""Flags of `contrastive evaluate` that name tasks, and a file that defines tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_args

import tyro

from contrastive.errors import ConfigError
from contrastive.tasks._evaluator import Evaluator

# Flags that are not called as the kind of their evaluators.
_SHORTER = {"pair_classification": "pairs"}


def tasks_of_one_path() -> dict[str, tuple[type[Evaluator], str]]:
    """Returns the built-in evaluators that need only a path.

    Returns:
      The evaluator and its field for the path, by the name of its flag.
    """
    fields = {
        kind: (evaluator, field)
        for kind, evaluator in Evaluator.known().items()
        if evaluator.is_built_in() and (field := _path_field(evaluator)) is not None
    }
    return {_SHORTER.get(kind, kind): found for kind, found in fields.items()}


def _path_field(evaluator: type[Evaluator]) -> str | None:
    """Returns the name of the only required field if its value can be a path."""
    required = [name for name, field in evaluator.model_fields.items() if field.is_required()]
    if len(required) != 1:
        return None
    annotation = evaluator.model_fields[required[0]].annotation
    return required[0] if str in (annotation, *get_args(annotation)) else None


def _help(evaluator: type[Evaluator], field: str) -> str:
    data = (evaluator.model_fields[field].description or "").split()
    return f"{evaluator.summary()} Data: {' '.join(data)}"


def _flags() -> type:
    fields = [
        (
            name,
            Annotated[tuple[str, ...], tyro.conf.arg(help=_help(evaluator, field))],
            dataclasses.field(default=()),
        )
        for name, (evaluator, field) in tasks_of_one_path().items()
    ]
    return dataclasses.make_dataclass("TaskPaths", fields, frozen=True)


NO_PATHS: Any = _flags()()
if TYPE_CHECKING:
    TaskPaths: TypeAlias = Any
else:
    TaskPaths = type(NO_PATHS)


def tasks_of_paths(paths: TaskPaths, settings: Mapping[str, Any]) -> dict[str, Evaluator]:
    """Makes the evaluators that flags name.

    Args:
      paths: The paths by flag.
      settings: Values of other fields, for the evaluators that have them.

    Returns:
      Evaluators, which are named after their paths.

    Raises:
      ConfigError: If a path is given twice.
    """
    evaluators: dict[str, Evaluator] = {}
    for flag, (evaluator, field) in tasks_of_one_path().items():
        own = {name: x for name, x in settings.items() if name in evaluator.model_fields}
        for path in getattr(paths, flag):
            evaluators[unused_name(path, evaluators)] = evaluator(**{field: path, **own})
    return evaluators


def unused_name(path: str, taken: Mapping[str, Any]) -> str:
    """Names a task after its file or folder, with more of its path if that name is taken.

    Args:
      path: The file or folder.
      taken: Names of other tasks.

    Returns:
      The name.

    Raises:
      ConfigError: If the path is given twice.
    """
    parts = [part for part in Path(path).absolute().parts if part != "/"]
    parts[-1] = parts[-1].split(".")[0] or parts[-1]
    for count in range(1, len(parts) + 1):
        name = "-".join(parts[-count:])
        if name not in taken:
            return name
    raise ConfigError(f"{path} is given twice")


def tasks_of_file(file: Path, taken: Mapping[str, Any]) -> dict[str, Evaluator]:
    """Executes a Python file that defines tasks.

    Args:
      file: The file.
      taken: Names of other tasks.

    Returns:
      The evaluators that the file defines as `evaluators`, by name.

    Raises:
      ConfigError: If the file fails, `evaluators` is not a dict of evaluators, or one of its names
        is taken.
    """
    from contrastive.python_files import execute

    way_out = 'define a dict, such as evaluators = {"sts": contrastive.tasks.STS("sts.jsonl")}'
    module = execute(file)
    if not hasattr(module, "evaluators"):
        raise ConfigError(f"--tasks {file}: the file does not define `evaluators`; {way_out}")
    evaluators = module.evaluators
    if not isinstance(evaluators, Mapping):
        raise ConfigError(
            f"--tasks {file}: `evaluators` is {evaluators!r:.60}, but must be evaluators by name; "
            f"{way_out}"
        )
    for name, evaluator in evaluators.items():
        if not (isinstance(name, str) and isinstance(evaluator, Evaluator)):
            raise ConfigError(
                f"--tasks {file}: evaluators[{name!r}] is {evaluator!r:.60}, but must be an "
                f"evaluator, under a name that is a string; {way_out}"
            )
        if name in taken:
            raise ConfigError(
                f"--tasks {file}: evaluators[{name!r}] has the name of a task that another flag "
                "adds; rename it"
            )
    return dict(evaluators)

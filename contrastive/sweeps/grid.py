"""The runs of a sweep: every combination of field values, with every seed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from contrastive.errors import ConfigError
from contrastive.models._checkpoint import Checkpoint
from contrastive.training.experiment import Experiment

Axes = dict[str, tuple[float, ...]]
_ONLY_NUMBERS = (
    "only numbers can be swept; train other settings in folders of their own, and compare them "
    "with contrastive report"
)
_OF_THE_COMMAND = ("seeds", "setting", "workdir")


@dataclasses.dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Attributes:
      number: Index of the run, from 0.
      values: Values of the swept fields.
      init_seed: Seed of the initial parameters and of dropout.
    """

    number: int
    values: dict[str, float]
    init_seed: int


@dataclasses.dataclass(frozen=True)
class Grid:
    """The grid of a sweep.

    Attributes:
      base: The experiment that all runs share.
      axes: Values of each swept field.
      seeds: Number of runs per combination of values.
    """

    base: Experiment
    axes: Axes
    seeds: int = 1

    def __post_init__(self):
        if self.seeds < 1:
            raise ConfigError(
                f"is {self.seeds}; it is the number of runs per setting and must be at least 1",
                field="seeds",
            )
        if self.base.on_divergence != "stop":
            raise ConfigError(
                f"on_divergence is {self.base.on_divergence!r}, but a sweep keeps the temperature "
                "of a run that diverges; leave on_divergence out"
            )
        self._check_base()
        for name, values in self.axes.items():
            self._check_axis(name, values)
        for member in self.members:
            self.alone(member)  # validates every run before the first one starts

    def _check_base(self) -> None:
        if self.base.writers or self.base.fsdp > 1:
            raise ConfigError(
                f"a sweep writes only metrics.jsonl and keeps each run on one device; leave out "
                f"writers (now {self.base.writers}) and fsdp (now {self.base.fsdp})"
            )
        model = self.base.model
        if self.seeds > 1 and isinstance(model, Checkpoint) and model.dropout == 0:
            raise ConfigError(
                f"is {self.seeds}, but seeds only affect initial parameters and dropout, and a "
                "checkpoint without dropout has neither: all seeds would give the same run; leave "
                "it out",
                field="seeds",
            )

    def _check_axis(self, name: str, values: Sequence[float]) -> None:
        if name in ("seed", "init_seed"):
            raise ConfigError(
                lambda field: f"cannot be swept; set {field('seeds')} to train with several seeds",
                field=name,
            )
        try:
            self.base.at(name)
        except ValueError as error:
            raise ConfigError(f"cannot be swept: {error}", field=name) from None
        if not values:
            raise ConfigError("has no values to sweep; give at least one", field=name)
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(f"is {value!r}; {_ONLY_NUMBERS}", field=name)
        if len(set(values)) < len(values):
            raise ConfigError(f"contains a value more than once: {values}; remove it", field=name)

    @property
    def members(self) -> list[Member]:
        """All runs; the seeds of a combination are adjacent."""
        combinations = itertools.product(*self.axes.values())
        settings = [dict(zip(self.axes, values, strict=True)) for values in combinations]
        first = self.base.first_seed
        pairs = itertools.product(settings, range(first, first + self.seeds))
        return [Member(number, values, seed) for number, (values, seed) in enumerate(pairs)]

    def alone(self, member: Member) -> Experiment:
        """Returns the experiment that trains only this run."""
        return self.base.replace(**member.values, init_seed=member.init_seed)


def check_sweeps(axes: Axes, seeds: int) -> None:
    """Refuses a sweep of a single run, which is most likely a mistake.

    Args:
      axes: Values of each swept field.
      seeds: Number of runs per combination of values.

    Raises:
      ConfigError: If no field has values and there is one seed.
    """
    if not axes and seeds == 1:
        raise ConfigError(
            lambda name: (
                f"nothing is swept; give a field several values, such as "
                f"{name('loss.temperature')} 0.02 0.05 0.1, or set {name('seeds')} to 2 or more; "
                "to train the experiment as it is, use train"
            )
        )


def take_axes(arguments: Sequence[str], default: Experiment) -> tuple[Axes, list[str]]:
    """Separates the flags with several numbers from the rest of a command line.

    >>> from contrastive.config import Experiment
    >>> take_axes(["--loss.temperature", "0.05", "0.1", "--steps", "9"], Experiment(name="x"))
    ({'loss.temperature': (0.05, 0.1)}, ['--steps', '9'])

    Args:
      arguments: The arguments after the file.
      default: The experiment; flags of its sequence fields take several values and are not axes.

    Returns:
      The values of each swept field, and the other arguments. Fields that the experiment does not
      have, since another flag chooses their part, keep their first value there.

    Raises:
      ConfigError: If a value is not a number, or a flag is repeated or cannot be swept.
    """
    axes: Axes = {}
    rest: list[str] = []
    for flag, *values in _flags(arguments):
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or len(values) < 2 or _is_sequence(default, name):
            rest += [flag, *values]
            continue
        if not _has(default, name):
            # A field of a part that another flag chooses may be required, so it needs a value.
            rest += [flag, values[0]]
        if name in axes or name in _OF_THE_COMMAND:
            raise ConfigError(
                f"{flag} {' '.join(values)}: it can be given only once, with one value"
            )
        try:
            axes[name] = tuple(map(_number, values))
        except ValueError:
            raise ConfigError(f"{flag} {' '.join(values)}: {_ONLY_NUMBERS}") from None
    return axes, rest


def _flags(arguments: Sequence[str]) -> list[list[str]]:
    """Groups arguments by flag; an argument that belongs to no flag is its own group."""
    groups: list[list[str]] = []
    for word in arguments:
        if word.startswith("--") or ":" in word or not groups or ":" in groups[-1][0]:
            groups.append([word])
        else:
            groups[-1].append(word)
    return groups


def _number(word: str) -> float:
    value = float(word)
    return int(word) if value.is_integer() and word.lstrip("+-").isdigit() else value


def _has(default: Experiment, name: str) -> bool:
    try:
        default.at(name)
    except ValueError:
        return False
    return True


def _is_sequence(default: Experiment, name: str) -> bool:
    if not _has(default, name):
        return False
    value: Any = default.at(name)
    return isinstance(value, tuple)

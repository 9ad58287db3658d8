"""Which runs a sweep has: every combination of some fields' values, and every seed of each."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from contrastive.config import Checkpoint, Experiment
from contrastive.errors import ConfigError

Axes = dict[str, tuple[float, ...]]
_OF_THE_COMMAND = ("seeds", "setting", "workdir")


@dataclasses.dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Attributes:
      number: Its place, from 0.
      values: Of the swept fields.
      init_seed: Of its first parameters and dropout.
    """

    number: int
    values: dict[str, float]
    init_seed: int


@dataclasses.dataclass(frozen=True)
class Grid:
    """A sweep.

    Attributes:
      base: What all runs share.
      axes: Values of each swept field.
      seeds: Runs of each combination.
    """

    base: Experiment
    axes: Axes
    seeds: int = 1

    def __post_init__(self):
        if self.seeds < 1:
            raise ConfigError(f"--seeds is {self.seeds}; it counts runs of each setting, 1 or more")
        if self.base.patience is not None:
            raise ConfigError("a sweep trains all its runs to the end; leave patience out")
        if self.base.on_divergence != "stop":
            raise ConfigError(
                f"a run of a sweep that diverges stays where it was, at its own temperature; leave "
                f"on_divergence out ({self.base.on_divergence} now)"
            )
        self._check_base()
        for name, values in self.axes.items():
            self._check_axis(name, values)
        for member in self.members:
            self.alone(member)  # every run is a valid one before the first begins

    def _check_base(self) -> None:
        if self.base.writers or self.base.fsdp > 1:
            raise ConfigError(
                f"a sweep writes metrics.jsonl alone and keeps each run on one device; leave "
                f"writers ({self.base.writers}) and fsdp ({self.base.fsdp}) out"
            )
        model = self.base.model
        if self.seeds > 1 and isinstance(model, Checkpoint) and model.dropout == 0:
            raise ConfigError(
                f"--seeds is {self.seeds}, but a seed decides first parameters and dropout, and a "
                "checkpoint without dropout has neither: all would be one run; leave --seeds out"
            )

    def _check_axis(self, name: str, values: Sequence[float]) -> None:
        if name in ("seed", "init_seed"):
            raise ConfigError(f"--{name} {values}: --seeds N makes runs of other seeds")
        try:
            self.base.at(name)
        except ValueError as error:
            raise ConfigError(f"--{name} cannot be swept: {error}") from None
        if len(set(values)) < len(values):
            raise ConfigError(f"--{name} has a value twice: {values}")

    @property
    def members(self) -> list[Member]:
        """All runs, the seeds of a combination side by side."""
        combinations = itertools.product(*self.axes.values())
        settings = [dict(zip(self.axes, values, strict=True)) for values in combinations]
        first = self.base.first_seed
        pairs = itertools.product(settings, range(first, first + self.seeds))
        return [Member(number, values, seed) for number, (values, seed) in enumerate(pairs)]

    def alone(self, member: Member) -> Experiment:
        """The experiment that trains this run alone."""
        return self.base.replace(**member.values, init_seed=member.init_seed)


def take_axes(arguments: Sequence[str], default: Experiment) -> tuple[Axes, list[str]]:
    """Takes the flags with several numbers out of a command line.

    >>> from contrastive.config import Experiment
    >>> take_axes(["--loss.temperature", "0.05", "0.1", "--steps", "9"], Experiment(name="x"))
    ({'loss.temperature': (0.05, 0.1)}, ['--steps', '9'])

    Args:
      arguments: Words after the file.
      default: Says which fields are sequences, whose flags have several values anyway.

    Returns:
      Values by field, and the other words.

    Raises:
      ConfigError: For values that are not numbers.
    """
    axes: Axes = {}
    rest: list[str] = []
    for flag, *values in _flags(arguments):
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or len(values) < 2 or _is_sequence(default, name):
            rest += [flag, *values]
            continue
        if name in axes or name in _OF_THE_COMMAND:
            raise ConfigError(f"{flag} {' '.join(values)}: it takes one value, once")
        try:
            axes[name] = tuple(map(_number, values))
        except ValueError:
            raise ConfigError(f"{flag} {' '.join(values)}: only numbers can be swept") from None
    return axes, rest


def _flags(arguments: Sequence[str]) -> list[list[str]]:
    """Words by flag: each begins with it, or is a word that belongs to none."""
    found: list[list[str]] = []
    for word in arguments:
        if word.startswith("--") or ":" in word or not found or ":" in found[-1][0]:
            found.append([word])
        else:
            found[-1].append(word)
    return found


def _number(word: str) -> float:
    value = float(word)
    return int(word) if value.is_integer() and word.lstrip("+-").isdigit() else value


def _is_sequence(default: Experiment, name: str) -> bool:
    try:
        value: Any = default.at(name)
    except ValueError:
        return False  # of a subcommand that is chosen elsewhere on the line
    return isinstance(value, tuple)

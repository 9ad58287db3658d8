"""Names the fields of an experiment as flags, and refuses words that belong to no flag."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, get_args, get_origin

from tyro.conf import Fixed

from contrastive.errors import ConfigError, Naming
from contrastive.parts import Part
from contrastive.settings import Config


class Flag(NamedTuple):
    """A flag of an experiment.

    Attributes:
      field: The field that it sets, such as `loss.function.beta`.
      choice: The word that chooses the part which has the field, such as
        `loss.function:hard-negative`; empty for a field of the experiment as it is.
    """

    field: str
    choice: str = ""

    @property
    def leaf(self) -> str:
        """The last part of the field, such as `beta`."""
        return self.field.rpartition(".")[2]


def refusal(
    unknown: Sequence[str], arguments: Sequence[str], experiment: Config, others: Sequence[str]
) -> ConfigError:
    """Explains the first word that was not understood.

    Args:
      unknown: The words that belong to no flag.
      arguments: All words of the command line after the file.
      experiment: The experiment whose fields are flags.
      others: Names of the parameters that the command has in addition.

    Returns:
      The error, which names the nearest flag or part.
    """
    word = unknown[0]
    if word.startswith("--"):
        if part := _parts(experiment).get(_field(word)):
            return ConfigError(_part_as_flag(word, arguments, [*_choices(part, _field(word))]))
        return ConfigError(_unknown_flag(word, experiment, others))
    if ":" in word:
        return ConfigError(_unknown_part(word, experiment))
    return ConfigError(_unknown_value(word, arguments, experiment))


_OF_THE_COMMANDS = ("workdir", "seeds", "setting")


def flag_namer(experiment: Config) -> Naming:
    """Returns the function that names the fields of an experiment as flags.

    Args:
      experiment: The experiment whose fields are flags.
    """
    names = {*_OF_THE_COMMANDS, *(flag.field for flag in flags_of(experiment))}
    return lambda field: f"--{field}" if field in names else field


def flags_of(config: Config, prefix: str = "") -> Iterator[Flag]:
    """Yields the flags of a config: those of its fields, and those of parts to choose."""
    for name, field in type(config).model_fields.items():
        if Fixed in field.metadata:
            continue
        value, path = getattr(config, name), prefix + name
        if isinstance(value, Config):
            yield from flags_of(value, f"{path}.")
        elif not _has_config(field.annotation):
            yield Flag(path)
        if isinstance(value, Part):
            yield from _flags_to_choose(value, path)


def _has_config(annotation: Any) -> bool:
    """Returns whether a type has configs as choices, which words choose rather than a flag."""
    if get_origin(annotation) is tuple:  # writers, which a flag names
        return False
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return True
    return any(map(_has_config, get_args(annotation)))


def _flags_to_choose(chosen: Part, path: str) -> Iterator[Flag]:
    for word, part in _choices(chosen, path).items():
        if part is not type(chosen):
            yield from (Flag(f"{path}.{name}", word) for name in part.model_fields)


def _choices(chosen: Part, path: str) -> dict[str, type[Part]]:
    """Returns the parts that can take the place of a part, by the words that choose them."""
    return {
        f"{path}:{part.short_name().replace('_', '-')}": part
        for part in chosen.base().known().values()
        if not part.only_in_files
    }


def _field(flag: str) -> str:
    """Returns the field that a flag would set."""
    return flag.removeprefix("--").partition("=")[0].replace("-", "_")


def _part_as_flag(word: str, arguments: Sequence[str], choices: Sequence[str]) -> str:
    """Explains how a part is chosen to someone who gave its name as the value of a flag."""
    following = arguments[arguments.index(word) + 1 :] if word in arguments else ()
    value = word.partition("=")[2] or next(iter(following), "")
    meant = f"{_field(word)}:{value.replace('_', '-')}"
    near = difflib.get_close_matches(meant, choices, n=1) or choices[:1]
    return f"{word} is not a flag; a part is chosen with a colon, as in {near[0]}"


def _unknown_flag(word: str, experiment: Config, others: Sequence[str]) -> str:
    name = _field(word)
    flags = [*map(Flag, others), *flags_of(experiment)]
    return f"{word} is not a flag; {_nearest(name, flags)}"


def _nearest(name: str, flags: Sequence[Flag]) -> str:
    whole = [flag for flag in flags if flag.field == name]
    same_leaf = [flag for flag in flags if flag.leaf == name.rpartition(".")[2]]
    for flag in whole:  # of a part that is not chosen
        return (
            f"it sets a field of {flag.choice}, which must be chosen first: {flag.choice} "
            f"--{flag.field} VALUE"
        )
    near = [flag for flag in same_leaf if not flag.choice] or same_leaf
    if not near:
        # Flags as they are win over those of parts that would have to be chosen first.
        ordered = sorted(flags, key=lambda flag: not flag.choice)
        names = {flag.field: flag for flag in ordered} | {flag.leaf: flag for flag in ordered}
        near = [names[x] for x in difflib.get_close_matches(name, names, n=1)]
    if not near:
        return "see --help for those that there are"
    options = dict.fromkeys(" ".join([flag.choice, f"--{flag.field}"]).strip() for flag in near[:3])
    return f"did you mean {' or '.join(options)}?"


def _unknown_part(word: str, experiment: Config) -> str:
    path, _, name = word.partition(":")
    parts = _parts(experiment)
    if path not in parts:
        return f"{word}: {path} is not a choice of parts; those are {', '.join(parts)}"
    choices = [choice.partition(":")[2] for choice in _choices(parts[path], path)]
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"did you mean {path}:{near[0]}?" if near else f"choose from {', '.join(choices)}"
    return f"{word}: {path} has no {name!r}; {hint}"


def _parts(config: Config, prefix: str = "") -> dict[str, Part]:
    parts: dict[str, Part] = {}
    for name, value in config:
        if isinstance(value, Part):
            parts[prefix + name] = value
        if isinstance(value, Config):
            parts |= _parts(value, f"{prefix}{name}.")
    return parts


def _unknown_value(word: str, arguments: Sequence[str], experiment: Config) -> str:
    flag, values = _flag_before(word, arguments)
    if not flag:
        return f"{word!r} belongs to no flag; see --help"
    field = flag.removeprefix("--").replace("-", "_")
    if isinstance(_value(experiment, field), bool):
        path, _, leaf = field.rpartition(".")
        no = ".".join(filter(None, (path, f"no_{leaf}")))
        return f"{flag} {word}: the flag takes no value; write --{field} or --{no}"
    if len(values) < 2 or _value(experiment, field) is None:
        return f"{flag} {' '.join(values)}: {word!r} belongs to no flag; see --help"
    return (
        f"{flag} {' '.join(values)}: train takes one value; contrastive sweep trains one run for "
        "each, with the same flags"
    )


def _flag_before(word: str, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Returns the flag that a word follows, with the words between it and the next flag."""
    flag, values = "", []
    for argument in arguments:
        if argument.startswith("--") or ":" in argument:
            if word in values:
                break
            flag, values = argument, []
        else:
            values.append(argument)
    return (flag, values) if flag.startswith("--") and word in values else ("", [])


def _value(experiment: Config, field: str) -> Any:
    try:
        return experiment.at(field)
    except ValueError:
        return None

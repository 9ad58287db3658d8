"""Parsing of the command line."""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from contrastive.errors import ConfigError
from contrastive.finetune.arguments import (
    GROUPS,
    DataArguments,
    EncoderArguments,
    LossArguments,
    ModelArguments,
)
from contrastive.finetune.help import HelpFormatter
from contrastive.finetune.other_flags import check_unsupported
from contrastive.finetune.trainer_flags import TrainerArguments

_USAGE = "%(prog)s --model_name_or_path MODEL --train_data ROWS.jsonl --output_dir FOLDER ..."
_DESCRIPTION = """Fine-tune an embedding model with the flags of FlagEmbedding:

  torchrun ... -m FlagEmbedding.finetune.embedder.encoder_only.base --model_name_or_path ...
  contrastive finetune --model_name_or_path ...

The result is a model folder that sentence-transformers, transformers and FlagEmbedding load. Run
the same command again to resume a run that was stopped, which exits with status 75. Flags marked
'Not in FlagEmbedding' are additions."""


class Arguments(NamedTuple):
    """The values of all flags, by group."""

    model: ModelArguments
    data: DataArguments
    loss: LossArguments
    encoder: EncoderArguments
    trainer: TrainerArguments


def parse(words: Sequence[str]) -> tuple[Arguments, list[str]]:
    """Parses the command line with the Hugging Face parser, as FlagEmbedding does.

    Args:
      words: The command-line arguments after `finetune`.

    Returns:
      The arguments, and the names of flags on the command line that have no effect.

    Raises:
      ConfigError: If a flag is unknown or not supported, or a word belongs to no flag; the message
        names an alternative.
    """
    os.environ.setdefault(
        "TRANSFORMERS_NO_ADVISORY_WARNINGS", "1"
    )  # no warning about missing PyTorch
    from transformers.hf_argparser import HfArgumentParser

    parser = HfArgumentParser(
        GROUPS,
        prog="contrastive finetune",
        usage=_USAGE,
        description=_DESCRIPTION,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    kept, ignored = _without_ignored(words, parser._option_string_actions)
    groups = parser.parse_args_into_dataclasses(kept, look_for_args_file=False)
    return Arguments(*groups), ignored


class _Flag(NamedTuple):
    """A flag on the command line and the words up to the next flag; no flag before the first."""

    option: str
    values: list[str]
    words: list[str]

    @property
    def name(self) -> str:
        return self.option.removeprefix("--").replace("-", "_")


def _without_ignored(
    words: Sequence[str], actions: Mapping[str, argparse.Action]
) -> tuple[list[str], list[str]]:
    """Separates the words of flags that have an effect from the names of those that have none.

    Raises:
      ConfigError: If there is a word that belongs to no flag, or a flag that is not supported.
    """
    kept, ignored = [], []
    for flag in _split(words, actions):
        if flag.option in actions:
            kept += flag.words
            most = {None: 1, "?": 1, 0: 0}.get(actions[flag.option].nargs)  # the others: any number
        elif not flag.option or check_unsupported(flag.name, flag.values):
            ignored += [flag.name] if flag.option else []
            most = 1 if flag.option else 0
        else:
            raise ConfigError(f"--{flag.name} is not a flag of finetune{_nearest(flag, actions)}")
        if most is not None and len(flag.values) > most:
            raise ConfigError(_stray(flag, most))
    return kept, ignored


def _split(words: Sequence[str], actions: Mapping[str, argparse.Action]) -> list[_Flag]:
    """Splits the command line at its flags."""
    flags = [_Flag("", [], [])]
    for word in words:
        option, equals, value = word.partition("=")
        # As for the parser, a word with a space is text, even if it starts with dashes.
        if option in actions or (word.startswith("--") and " " not in option):
            flags.append(_Flag(option, [value] if equals else [], [word]))
        else:
            flags[-1].values.append(word)
            flags[-1].words.append(word)
    return flags


def _stray(flag: _Flag, most: int) -> str:
    """Words the error about words that belong to no flag."""
    stray = repr(flag.values[most])
    if not flag.option:
        return f"{stray} does not belong to a flag; see contrastive finetune --help"
    if not most:
        return f"{stray} does not belong to a flag: {flag.option} has no value; remove {stray}"
    quoted = shlex.quote(" ".join(flag.values))
    return (
        f"{stray} does not belong to a flag: {flag.option} has the value {flag.values[0]!r}; put "
        f"quotes around a value with spaces, {flag.option} {quoted}, or remove {stray}"
    )


def _nearest(flag: _Flag, actions: Mapping[str, argparse.Action]) -> str:
    known = [option[2:] for option in actions if option.startswith("--")]
    matches = difflib.get_close_matches(flag.name, known, n=1)
    return f"; did you mean --{matches[0]}? See --help." if matches else ". See --help."

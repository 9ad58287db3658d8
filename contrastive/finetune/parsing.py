"""Parsing of the command line."""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Sequence
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
from contrastive.finetune.trainer_flags import (
    ASKS_FOR_NOTHING,
    IGNORED,
    REPLACEMENTS,
    TrainerArguments,
)

_USAGE = "%(prog)s --model_name_or_path MODEL --train_data ROWS.jsonl --output_dir FOLDER ..."
_DESCRIPTION = """Fine-tune an embedding model with the flags of FlagEmbedding:

  torchrun ... -m FlagEmbedding.finetune.embedder.encoder_only.base --model_name_or_path ...
  contrastive finetune --model_name_or_path ...

The result is a model folder that FlagEmbedding, sentence-transformers and transformers load. Run
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
      ConfigError: If a flag is unknown or not supported; the message names an alternative.
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
    *groups, rest = parser.parse_args_into_dataclasses(
        list(words), look_for_args_file=False, return_remaining_strings=True
    )
    known = [
        option[2:]
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--")
    ]
    return Arguments(*groups), _leftover(rest, known)


def _leftover(words: Sequence[str], known: Sequence[str]) -> list[str]:
    """Returns the names of flags without effect; raises if there are any other words."""
    if words and not words[0].startswith("--"):
        raise ConfigError(
            f"{words[0]!r} does not belong to a flag; see contrastive finetune --help"
        )
    ignored = []
    for word, after in itertools.zip_longest(words, words[1:], fillvalue=""):
        if not word.startswith("--"):
            continue
        name, _, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if name in IGNORED or _asks_for_nothing(name, value or after):
            ignored.append(name)
        elif name in REPLACEMENTS:
            raise ConfigError(f"--{name} is not supported: {REPLACEMENTS[name]}")
        else:
            matches = difflib.get_close_matches(name, known, n=1)
            suggestion = f"; did you mean --{matches[0]}?" if matches else "."
            raise ConfigError(f"--{name} is not a flag of finetune{suggestion} See --help.")
    return ignored


def _asks_for_nothing(name: str, value: str) -> bool:
    """Returns whether a flag that is not supported asks for what happens without it."""
    if name == "optim":
        return value.startswith("adamw")
    return name in REPLACEMENTS and value.lower() in ASKS_FOR_NOTHING

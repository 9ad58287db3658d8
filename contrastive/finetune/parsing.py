"""Words of the command line to arguments."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from typing import NamedTuple

from contrastive.errors import ConfigError
from contrastive.finetune.arguments import (
    GROUPS,
    IGNORED,
    INSTEAD,
    DataArguments,
    EncoderArguments,
    LossArguments,
    ModelArguments,
    TrainerArguments,
)

_USAGE = "%(prog)s --model_name_or_path MODEL --train_data ROWS.jsonl --output_dir FOLDER ..."
_DESCRIPTION = """Fine-tune an embedding model with the flags of FlagEmbedding:

  torchrun ... -m FlagEmbedding.finetune.embedder.encoder_only.base --model_name_or_path ...
  contrastive finetune --model_name_or_path ...

Out comes a folder that FlagEmbedding, sentence-transformers and transformers load. The same command
again goes on where the run stopped."""


class Arguments(NamedTuple):
    """All flags, by group."""

    model: ModelArguments
    data: DataArguments
    loss: LossArguments
    encoder: EncoderArguments
    trainer: TrainerArguments


def parse(words: Sequence[str]) -> tuple[Arguments, list[str]]:
    """Parses the flags as FlagEmbedding does, with the Hugging Face parser.

    Args:
      words: The command line after `finetune`.

    Returns:
      The arguments, and flags that were given and change nothing.

    Raises:
      ConfigError: For a flag that is not supported, naming its equivalent.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that there is no PyTorch
    from transformers.hf_argparser import HfArgumentParser

    parser = HfArgumentParser(
        GROUPS,
        prog="contrastive finetune",
        usage=_USAGE,
        description=_DESCRIPTION,
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
    """Names of flags that change nothing; anything else is an error."""
    flags = [word for word in words if word.startswith("--")]
    if words and not words[0].startswith("--"):
        raise ConfigError(f"{words[0]!r} belongs to no flag; see contrastive finetune --help")
    ignored = []
    for flag in flags:
        name, _, value = flag[2:].partition("=")
        name = name.replace("-", "_")
        if name == "optim" and _value_after(words, flag, value).startswith("adamw"):
            ignored.append(name)
        elif name in INSTEAD:
            raise ConfigError(f"--{name} is not supported: {INSTEAD[name]}")
        elif name in IGNORED:
            ignored.append(name)
        else:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean --{near[0]}?" if near else ""
            raise ConfigError(f"--{name} is not a flag of finetune{meant} See --help")
    return ignored


def _value_after(words: Sequence[str], flag: str, value: str) -> str:
    place = list(words).index(flag) + 1
    return value or (words[place] if place < len(words) else "")

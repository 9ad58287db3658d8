"""Chooses the command that the words of a command line name, and runs it."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Sequence

import tyro

from contrastive.cli.experiment_files import built_in_experiments
from contrastive.cli.experiments import sweep, sweep_file, train, train_file
from contrastive.cli.explaining import advise, report, reproduce
from contrastive.cli.finetuning import finetune, finetune_model
from contrastive.cli.models import encode, evaluate, search
from contrastive.cli.stopping import BROKEN_PIPE, INTERRUPTED
from contrastive.errors import ConfigError, UserError

_DESCRIPTION = """Contrastive training of embedding models, with temperature as a first-class,
measurable thing.

contrastive train quickstart --workdir runs/quickstart

contrastive search runs/quickstart "parse a date from a string"

contrastive finetune --model_name_or_path MODEL --train_data train.jsonl --output_dir out

Exit status: 0 if the work is done, 1 after an error, 2 if words cannot be parsed, and 75 if a run
was asked to stop (Ctrl-C, SIGTERM) and the same command resumes it.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `contrastive`.

    Args:
      arguments: Command line arguments; those of the process by default.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _dispatch(words)
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        sys.exit(BROKEN_PIPE)
    except (UserError, OSError) as error:
        sys.exit(f"contrastive: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _dispatch(words: list[str]) -> None:
    of_files: dict[str, Callable[[str, list[str]], None]] = {
        "train": train_file,
        "sweep": sweep_file,
    }
    command, *rest = words or [""]
    place = _place_of_file(rest) if command in of_files else None
    if place is not None:
        # The fields of the file's experiment are flags, so the file is read before parsing them.
        of_files[command](rest.pop(place), rest)
    elif command == "finetune":
        finetune_model(rest)
    else:
        commands: dict[str, Callable[..., None]] = {
            "train": train,
            "sweep": sweep,
            "finetune": finetune,
            "advise": advise,
            "report": report,
            "reproduce": reproduce,
            "evaluate": evaluate,
            "encode": encode,
            "search": search,
        }
        if command and not command.startswith("-") and command not in commands:
            near = difflib.get_close_matches(command, commands, n=1)
            hint = f"did you mean {near[0]}?" if near else f"those are {', '.join(commands)}"
            raise ConfigError(f"there is no command {command!r}; {hint}")
        tyro.extras.subcommand_cli_from_dict(
            commands, prog="contrastive", description=_DESCRIPTION, args=words
        )


def _place_of_file(words: Sequence[str]) -> int | None:
    """Finds the file, or the name of an experiment, among the words after train or sweep."""
    known = built_in_experiments()
    places = [n for n, word in enumerate(words) if word.endswith(".py") or word in known]
    # A word after a flag is likely its value, such as the folder in `--workdir quickstart`.
    alone = [n for n in places if n == 0 or not words[n - 1].startswith("--")]
    unknown = [0] if words and not words[0].startswith("-") else []
    return next(iter((*alone, *places, *unknown)), None)

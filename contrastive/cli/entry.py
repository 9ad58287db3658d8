"""Words to commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import pydantic
import tyro

from contrastive.cli.experiments import sweep, sweep_file, train, train_file
from contrastive.cli.explaining import advise, report, reproduce
from contrastive.cli.models import encode, evaluate, search
from contrastive.cli.stopping import stoppable
from contrastive.errors import UserError

_DESCRIPTION = """Contrastive training of embedding models, with temperature as a first-class,
measurable thing.

contrastive train experiments/quickstart.py --workdir runs/quickstart

contrastive search runs/quickstart "parse a date from a string"

contrastive finetune --model_name_or_path MODEL --train_data train.jsonl --output_dir out
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `contrastive`.

    Args:
      arguments: Those of the process unless given.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        files = [word for word in given if word.endswith(".py")]
        if given[:1] == ["train"] and files:
            rest = given[1:]
            rest.remove(files[0])
            train_file(files[0], rest)
        elif given[:1] == ["sweep"] and files:
            rest = given[1:]
            rest.remove(files[0])
            sweep_file(files[0], rest)
        elif given[:1] == ["finetune"]:
            with stoppable():
                from contrastive.finetune.command import finetune as command

                command(given[1:])
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
            tyro.extras.subcommand_cli_from_dict(
                commands, prog="contrastive", description=_DESCRIPTION, args=given
            )
    except (UserError, OSError, pydantic.ValidationError) as error:
        sys.exit(f"contrastive: {error}")


def finetune() -> None:
    """Fine-tune a checkpoint with the flags of FlagEmbedding: contrastive finetune --help."""

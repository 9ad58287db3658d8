"""The command `contrastive finetune`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from contrastive.errors import FolderError, fields_named
from contrastive.finetune.flag_names import flag_of
from contrastive.finetune.other_flags import HINTS
from contrastive.finetune.parsing import Arguments, parse

if TYPE_CHECKING:
    from contrastive.training.experiment import Experiment
    from contrastive.training.results import Results


class Finetuned(NamedTuple):
    """A finished run of `contrastive finetune`.

    Attributes:
      experiment: What the flags mean.
      results: The contents of results.json.
      run: Folder of the run.
      folder: The output folder, which contains the model and the folder of the run.
    """

    experiment: Experiment
    results: Results
    run: Path
    folder: Path


def finetune(words: Sequence[str]) -> Finetuned:
    """Trains the model that FlagEmbedding's flags describe, or resumes an earlier run.

    Args:
      words: The command-line arguments after `finetune`.

    Returns:
      The finished run.

    Raises:
      UserError: If a flag, the data or the model cannot be used, or training fails; the message
        names flags.
      KeyboardInterrupt: If training was asked to stop, after its state was saved.
    """
    arguments, ignored = parse(words)
    if arguments.model.token:
        os.environ["HF_TOKEN"] = arguments.model.token  # not in the config, which is saved
    folder = Path(arguments.trainer.output_dir)

    from contrastive.devices import distributed

    distributed.initialize()
    import jax

    from contrastive.finetune.pooling import with_pooling
    from contrastive.finetune.translation import translate
    from contrastive.interop.run_model import FINETUNED
    from contrastive.training.train import train_experiment
    from contrastive.whole_folders import recover

    run = folder / FINETUNED
    with distributed.announcing_failures():
        if distributed.is_first():
            recover(folder)
        distributed.barrier("recovered")
        _check_folder(folder, run, arguments)
        overwrite = arguments.trainer.overwrite_output_dir and not _resumes(arguments)
        with in_flags():
            experiment, notices = with_pooling(translate(arguments, jax.device_count()))
            if ignored:
                notices = [f"flags without effect: {', '.join(map(_hinted, ignored))}", *notices]
            for notice in notices if distributed.is_first() else ():
                print(f"contrastive: {notice}")
            results = train_experiment(experiment, run, model_folder=folder, overwrite=overwrite)
    if results is None:
        raise KeyboardInterrupt(f"The run is saved in {run}")
    return Finetuned(experiment, results, run, folder)


def in_flags() -> contextlib.AbstractContextManager[None]:
    """Context whose errors name the flags of the command instead of config fields."""
    return fields_named(flag_of)


def _hinted(flag: str) -> str:
    return f"--{flag} ({HINTS[flag]})" if flag in HINTS else f"--{flag}"


def _resumes(arguments: Arguments) -> bool:
    return (arguments.trainer.resume_from_checkpoint or "false").lower() != "false"


def _check_folder(folder: Path, run: Path, arguments: Arguments) -> None:
    from contrastive.interop.run_model import model_folder

    start = Path(arguments.model.model_name_or_path)
    if start.is_dir() and folder.is_dir() and model_folder(start).samefile(folder):
        raise FolderError(
            f"--output_dir {folder} is also --model_name_or_path, so training would overwrite the "
            "original model; choose another folder"
        )
    is_run = run.is_dir() or arguments.trainer.overwrite_output_dir
    if folder.is_dir() and any(folder.iterdir()) and not is_run:
        raise FolderError(
            f"--output_dir {folder} is not empty and contains no {run.name}/ of an earlier run; "
            "choose another folder, or add --overwrite_output_dir"
        )
    checkpoints = run / "checkpoints" / "latest"
    if _resumes(arguments) and not any(path.name.isdigit() for path in checkpoints.glob("*")):
        raise FolderError(
            f"--resume_from_checkpoint {arguments.trainer.resume_from_checkpoint}: there is no "
            f"checkpoint in {checkpoints} to resume from; set --output_dir to that of the run to "
            "resume, or start from the weights of a model with --model_name_or_path"
        )

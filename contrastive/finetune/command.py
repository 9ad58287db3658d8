"""`contrastive finetune`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from contrastive.errors import FolderError
from contrastive.finetune.arguments import REMARKS
from contrastive.finetune.parsing import Arguments, parse
from contrastive.finetune.wording import in_flags

RUN = "training"


def finetune(words: Sequence[str]) -> None:
    """Trains what FlagEmbedding's flags describe; goes on where an earlier call stopped.

    Args:
      words: The command line after `finetune`.
    """
    given, ignored = parse(words)
    if given.model.token:
        os.environ["HF_TOKEN"] = given.model.token  # not into the config, which is written down
    folder = Path(given.trainer.output_dir)

    from contrastive.training import distributed

    distributed.initialize()
    import jax

    from contrastive.finetune.translation import translate
    from contrastive.training.runner import run

    _check_folder(folder, given)
    overwrite = given.trainer.overwrite_output_dir and not _resumes(given)
    with in_flags():
        experiment, notices = translate(given, jax.device_count())
        if distributed.is_first():
            if ignored:
                print(f"contrastive: without effect here: {', '.join(map(_remarked, ignored))}")
            for notice in notices:
                print(f"contrastive: {notice}")
        results = run(experiment, folder / RUN, model_folder=folder, overwrite=overwrite)
    if distributed.is_first():
        if results is None:
            print(f"Stopped and saved in {folder / RUN}. The same command goes on from there.")
        else:
            print(f"\nmodel: {folder}   metrics: {folder / RUN / 'metrics.jsonl'}")


def _remarked(flag: str) -> str:
    return f"--{flag} ({REMARKS[flag]})" if flag in REMARKS else f"--{flag}"


def _resumes(given: Arguments) -> bool:
    return (given.trainer.resume_from_checkpoint or "false").lower() != "false"


def _check_folder(folder: Path, given: Arguments) -> None:
    start = Path(given.model.model_name_or_path)
    if start.is_dir() and folder.is_dir() and start.samefile(folder):
        raise FolderError(
            f"--output_dir {folder} is also --model_name_or_path; the trained model would replace "
            "what it starts from. Give another folder."
        )
    mine = (folder / RUN).is_dir() or given.trainer.overwrite_output_dir
    if folder.is_dir() and any(folder.iterdir()) and not mine:
        raise FolderError(
            f"--output_dir {folder} is not empty and holds no {RUN}/ of an earlier run; give "
            "another folder, or --overwrite_output_dir"
        )
    saved = folder / RUN / "checkpoints" / "latest"
    if _resumes(given) and not any(path.name.isdigit() for path in saved.glob("*")):
        raise FolderError(
            f"--resume_from_checkpoint {given.trainer.resume_from_checkpoint}: there is no "
            f"checkpoint in {saved} to go on from. Give the --output_dir of the run that is to go "
            "on, or start from another model's weights with --model_name_or_path."
        )

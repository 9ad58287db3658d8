"""The training sources of --train_data: files and folders, small files merged or dropped."""

from __future__ import annotations

from pathlib import Path

from contrastive.data.config import Mixture, MixturePart
from contrastive.data.groups import GroupRules
from contrastive.data.training_sources import TrainingSource, open_source, steps_per_epoch
from contrastive.errors import DataError
from contrastive.finetune.parsing import Arguments
from contrastive.sources._jsonl import Jsonl, row_files

_SUFFIX = "no_in_batch_neg"


def training_mixture(arguments: Arguments, notices: list[str]) -> Mixture:
    """Returns the training sources of --train_data.

    Args:
      arguments: The arguments of the command.
      notices: Notices for the user, to which those about files are added.

    Returns:
      The mixture, with one part per file, or per group of small files.

    Raises:
      DataError: If a file is missing, or all of them were dropped.
    """
    files = []
    for name in arguments.data.train_data:
        path = Path(name)
        if not path.exists():
            raise DataError(f"--train_data: {path}: no such file or folder; check the path")
        files += _in_folder(path, arguments, notices) if path.is_dir() else [[path]]
    if not files:
        raise DataError("--train_data: every file was dropped; lower --drop_threshold")
    alone = [file for group in files if _any_is_alone(group) for file in group]
    if alone:
        notices.append(
            f"{', '.join(map(str, alone))}: the name of the file or folder ends in {_SUFFIX}, so "
            "each query has only its own passages as negatives (in_batch=False in an experiment "
            "file)"
        )
    parts = tuple(
        MixturePart(source=_jsonl(group, arguments), in_batch=not _any_is_alone(group))
        for group in files
    )
    return Mixture(parts=parts, homogeneous_batches=arguments.data.same_dataset_within_batch)


def _in_folder(folder: Path, arguments: Arguments, notices: list[str]) -> list[list[Path]]:
    """Returns the files of a folder; small ones are together, or dropped."""
    data = arguments.data
    files = row_files(folder)
    if not (data.same_dataset_within_batch and data.small_threshold):
        return [[file] for file in files]
    rows = {file: _rows(file, arguments) for file in files}
    small = [file for file in files if rows[file] < data.small_threshold]
    large = [[file] for file in files if file not in small]
    if not small:
        return large
    merged_rows = sum(rows[file] for file in small)
    names = ", ".join(file.name for file in small)
    if merged_rows < data.drop_threshold:
        notices.append(
            f"{folder}: dropped {names} ({merged_rows} rows together, --drop_threshold is "
            f"{data.drop_threshold})"
        )
        return large
    notices.append(f"{folder}: merged {names} into one dataset of {merged_rows} rows")
    return [*large, small]


def _rows(file: Path, arguments: Arguments) -> int:
    return len(open_source(_jsonl([file], arguments)))


def _any_is_alone(files: list[Path]) -> bool:
    return any(map(_is_alone, files))


def _is_alone(file: Path) -> bool:
    stem = file.name.removesuffix(".gz").rpartition(".")[0]
    return stem.endswith(_SUFFIX) or file.absolute().parent.name.endswith(_SUFFIX)


def _jsonl(files: list[Path], arguments: Arguments) -> Jsonl:
    names = tuple(map(str, files))
    limit = arguments.data.max_example_num_per_dataset
    return Jsonl(path=names[0] if len(names) == 1 else names, limit=limit)


def mixture_steps_per_epoch(train: Mixture, batch_size: int) -> int:
    """Returns the number of steps that read every example of a mixture once.

    Args:
      train: The mixture.
      batch_size: Number of queries per step.

    Returns:
      The number of steps; 0 if no part fills a batch.

    Raises:
      DataError: If a file is missing or a row cannot be used.
    """
    parts = [TrainingSource(open_source(part.source), GroupRules(), 1.0) for part in train.parts]
    return steps_per_epoch(parts, batch_size, homogeneous_batches=train.homogeneous_batches)

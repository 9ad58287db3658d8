"""The training sources of --train_data, with FlagEmbedding's rules for files and folders."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from contrastive.data.config import Mixture, MixturePart
from contrastive.data.groups import GroupRules
from contrastive.data.training_sources import TrainingSource, open_source, steps_per_epoch
from contrastive.errors import DataError
from contrastive.finetune.arguments import DataArguments
from contrastive.finetune.parsing import Arguments
from contrastive.sources._jsonl import Jsonl, row_files

_SUFFIX = "no_in_batch_neg"


class _Dataset(NamedTuple):
    """Files that are one source, and whether their names end in `no_in_batch_neg`."""

    files: list[Path]
    alone: bool


def training_mixture(arguments: Arguments, devices: int, notices: list[str]) -> Mixture:
    """Returns the training sources of --train_data.

    Args:
      arguments: The arguments of the command.
      devices: Number of devices of all processes.
      notices: Notices for the user, to which those about files are added.

    Returns:
      The mixture, with one part per file, or per group of small files.

    Raises:
      DataError: If a file is missing, a value of a row cannot be used, or all files were dropped.
    """
    data = arguments.data
    datasets = [dataset for name in data.train_data for dataset in _datasets(name, data, notices)]
    if not datasets:
        raise DataError(
            "--train_data: every file was dropped; lower --small_threshold or --drop_threshold"
        )
    applies = applies_dataset_rules(data)
    alone = ", ".join(str(file) for dataset in datasets if dataset.alone for file in dataset.files)
    if alone and applies:
        theirs = "" if data.same_dataset_within_batch else f" ({_THEIR_RULE})"
        notices.append(
            f"{alone}: the name ends in {_SUFFIX}, so each query has only its own passages as "
            f"negatives{theirs}"
        )
    elif alone:
        notices.append(
            f"{alone}: the name ends in {_SUFFIX}, which has no effect without "
            "--same_dataset_within_batch, as in FlagEmbedding; --dataset_rules always applies it"
        )
    own_sizes = data.same_dataset_within_batch and _group_sizes_count(datasets)
    parts = [
        MixturePart(
            source=_jsonl(dataset.files, data),
            in_batch=not (dataset.alone and applies),
            batch_size=_batch_size(dataset, arguments, devices),
            group_size=_number(dataset.files[0], "train_group_size") if own_sizes else None,
        )
        for dataset in datasets
    ]
    return Mixture(parts=tuple(parts), homogeneous_batches=data.same_dataset_within_batch)


_THEIR_RULE = "FlagEmbedding does so only with --same_dataset_within_batch"


def applies_dataset_rules(data: DataArguments) -> bool:
    """Returns whether names of files and types of rows have an effect."""
    return data.same_dataset_within_batch or data.dataset_rules == "always"


def applies_row_prompts(data: DataArguments) -> bool:
    """Returns whether prompts of rows have an effect."""
    return applies_dataset_rules(data) or data.query_instruction_for_retrieval is not None


def _datasets(name: str, data: DataArguments, notices: list[str]) -> list[_Dataset]:
    """Returns the sources in a file or folder."""
    path = Path(name)
    if not path.exists():
        raise DataError(f"--train_data: {path}: no such file or folder; check the path")
    if path.is_dir():
        alone = path.name.endswith(_SUFFIX)
        if alone and name.endswith("/") and applies_dataset_rules(data):
            notices.append(
                f"{name}: FlagEmbedding does not see that the name ends in {_SUFFIX}, because of "
                "the slash after it"
            )
        return [_Dataset(files, alone) for files in _in_folder(path, data, notices)]
    alone = path.name.removesuffix(".gz").rpartition(".")[0].endswith(_SUFFIX)
    if data.same_dataset_within_batch and (rows := _rows(path, data)) < data.small_threshold:
        notices.append(
            f"{path}: dropped, as in FlagEmbedding ({rows} rows, --small_threshold is "
            f"{data.small_threshold})"
        )
        return []
    return [_Dataset([path], alone)]


def _in_folder(folder: Path, data: DataArguments, notices: list[str]) -> list[list[Path]]:
    """Returns the files of a folder; small ones are together, or dropped."""
    files = row_files(folder)
    if not (data.same_dataset_within_batch and data.small_threshold):
        return [[file] for file in files]
    rows = {file: _rows(file, data) for file in files}
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


def _rows(file: Path, data: DataArguments) -> int:
    return len(open_source(_jsonl([file], data)))


def _jsonl(files: list[Path], data: DataArguments) -> Jsonl:
    names = tuple(map(str, files))
    limit = data.max_example_num_per_dataset
    return Jsonl(path=names[0] if len(names) == 1 else names, limit=limit)


def _batch_size(dataset: _Dataset, arguments: Arguments, devices: int) -> int | None:
    """Returns the number of queries per step, if it is not that of the run."""
    if not arguments.data.same_dataset_within_batch:
        return None
    trainer = arguments.trainer
    sizes = [
        _device_batch_size(file, trainer.per_device_train_batch_size) for file in dataset.files
    ]
    if min(sizes) == trainer.per_device_train_batch_size:
        return None
    return min(sizes) * devices * trainer.gradient_accumulation_steps


def _device_batch_size(file: Path, default: int) -> int:
    """Returns the number of queries per device; those of symmetric types are half as many."""
    own = _number(file, "batch_size")
    if own is not None:
        return own
    kind = _first_row(file).get("type")
    return max(1, default // 2) if isinstance(kind, str) and "symmetric" in kind else default


def _group_sizes_count(datasets: list[_Dataset]) -> bool:
    """Returns whether group sizes of rows have an effect: no row has a type."""
    files = (file for dataset in datasets for file in dataset.files)
    return not any("type" in _first_row(file) for file in files)


def _number(file: Path, field: str) -> int | None:
    """Returns a positive integer that the first row of a file sets for the whole file."""
    value = _first_row(file).get(field)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise DataError(
            f'{file}: the "{field}" of the first row is {value!r:.60}, but must be a positive '
            "integer; correct or remove it"
        )
    return value


def _first_row(file: Path) -> Mapping[str, Any]:
    """Reads the first row of a file whose rows have been checked."""
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8-sig") as lines:
        row = json.loads(next(filter(str.strip, lines), "{}"))
    return row if isinstance(row, dict) else {}


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
    parts = [
        TrainingSource(open_source(part.source), GroupRules(), 1.0, part.batch_size)
        for part in train.parts
    ]
    return steps_per_epoch(parts, batch_size, homogeneous_batches=train.homogeneous_batches)

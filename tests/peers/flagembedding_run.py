"""FlagEmbedding's own training run: its arguments, data, trainer and schedule, and what it did."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from FlagEmbedding.abc.finetune.embedder import AbsDataset
from FlagEmbedding.finetune.embedder.encoder_only.base import (
    EncoderOnlyEmbedderDataArguments,
    EncoderOnlyEmbedderModelArguments,
    EncoderOnlyEmbedderRunner,
    EncoderOnlyEmbedderTrainingArguments,
)
from transformers import HfArgumentParser, TrainerCallback


class Drawn(NamedTuple):
    """A row that was taken, and what was drawn of it.

    Attributes:
      row: The row as FlagEmbedding read it.
      positive: Index of its positive.
      negatives: Indices of its negatives.
    """

    row: dict[str, Any]
    positive: int
    negatives: list[int]


@dataclass
class Recorded:
    """What a run did.

    Attributes:
      steps: Number of steps that the whole run would have.
      batches: Rows of each step.
      losses: Loss of each step.
      rates: Learning rate of each update.
      norms: Gradient norm of each step, before clipping.
    """

    steps: int = 0
    batches: list[list[Drawn]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)


class _Draws:
    """The module `random` for FlagEmbedding's data, which remembers what it drew."""

    def __init__(self, random):
        self._random = random
        self.positives: list[int] = []
        self.negatives: list[list[int]] = []

    def choice(self, indices):
        self.positives.append(self._random.choice(indices))
        return self.positives[-1]

    def sample(self, indices, count):
        self.negatives.append(self._random.sample(indices, count))
        return self.negatives[-1]

    def __getattr__(self, name):
        return getattr(self._random, name)


class _Watch(TrainerCallback):
    """Notes learning rates, and stops the run."""

    def __init__(self, recorded: Recorded, steps: int):
        self.recorded, self.steps = recorded, steps

    def on_train_begin(self, args, state, control, **kwargs):
        self.recorded.steps = state.max_steps

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.recorded.rates.append(optimizer.param_groups[0]["lr"])

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "grad_norm" in logs:
            self.recorded.norms.append(logs["grad_norm"])

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.steps


def record(words: Sequence[str], steps: int, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Runs FlagEmbedding's command for some steps.

    Args:
      words: The command-line arguments, for the installed transformers, without those of GPUs.
      steps: Number of steps after which the run is stopped; its schedule is that of the whole run.
      monkeypatch: Replaces the module `random` in FlagEmbedding's data.

    Returns:
      What the run did.
    """
    parser = HfArgumentParser(
        (
            EncoderOnlyEmbedderModelArguments,
            EncoderOnlyEmbedderDataArguments,
            EncoderOnlyEmbedderTrainingArguments,
        )
    )
    model, data, training = parser.parse_args_into_dataclasses(list(words))
    draws, recorded = _Draws(AbsDataset.random), Recorded()
    monkeypatch.setattr(AbsDataset, "random", draws)
    if not dist.is_initialized():  # negatives across devices need it, even on one
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        runner = EncoderOnlyEmbedderRunner(model_args=model, data_args=data, training_args=training)
        trainer = runner.trainer
        taken = _record_rows(trainer.train_dataset, data.same_dataset_within_batch)
        compute_loss = trainer.compute_loss

        def computed(*args, **kwargs):
            loss = compute_loss(*args, **kwargs)
            recorded.losses.append(loss.item())
            return loss

        trainer.compute_loss = computed
        trainer.add_callback(_Watch(recorded, steps))
        trainer.train()
    finally:
        dist.destroy_process_group()
    drawn = [
        Drawn(row, positive, negatives)
        for row, positive, negatives in zip(
            [row for batch in taken for row in batch], draws.positives, draws.negatives, strict=True
        )
    ]
    size = 1 if data.same_dataset_within_batch else training.per_device_train_batch_size
    for start in range(0, len(taken), size):
        rows = sum(map(len, taken[start : start + size]))
        recorded.batches.append(drawn[:rows])
        drawn = drawn[rows:]
    recorded.batches = recorded.batches[: len(recorded.losses)]
    return recorded


def _record_rows(dataset, same_dataset: bool) -> list[list[dict[str, Any]]]:
    """Makes a dataset remember the rows of each of its items."""
    taken = []
    kind = type(dataset)

    class Remembering(kind):
        def __getitem__(self, item):
            indices = [item]
            if same_dataset:
                indices = [int(i) for i in self.batch_datas[self.step][0]]
            taken.append([self.dataset[i] for i in indices])
            return super().__getitem__(item)

    dataset.__class__ = Remembering
    return taken


def without_dropout(folder: Path) -> None:
    """Sets every dropout rate of a checkpoint to zero."""
    config = json.loads((folder / "config.json").read_text())
    rates = {name: 0.0 for name in config if "dropout" in name and config[name]}
    (folder / "config.json").write_text(json.dumps({**config, **rates}))
    torch.manual_seed(0)

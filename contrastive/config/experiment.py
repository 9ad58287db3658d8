"""One training run."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field, PositiveInt

from contrastive.config.base import Config
from contrastive.config.data import Data, Mixture, Part
from contrastive.config.loss import Loss, needs_in_batch
from contrastive.config.model import Checkpoint, Model, Static, Transformer
from contrastive.config.optimizer import Optimizer
from contrastive.config.policy import Fixed, Learned


class Experiment(Config):
    """One training run."""

    name: str
    """What the run is called in logs."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Decides shuffles, groups and, unless init_seed does, first parameters and dropout."""
    init_seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """Decides first parameters and dropout; None is seed. Runs of a sweep differ in it alone."""
    steps: PositiveInt = 1000
    """Optimizer steps."""
    batch_size: PositiveInt = 256
    """Queries a step, over all devices."""
    data: Data = Data()
    """What is trained on."""
    model: Model = Transformer()
    """The encoder of queries and documents."""
    pooling: Literal["mean", "cls", "last_token"] | None = None
    """How token vectors become a text's; None is as the checkpoint says, or the mean."""
    normalize: bool = True
    """Scale embeddings to unit length, so that similarities are cosines."""
    loss: Loss = Loss()
    """What is minimised."""
    chunk_tokens: PositiveInt | None = None
    """Tokens a device encodes at a time; the memory is a chunk's, the gradient the batch's."""
    optimizer: Optimizer = Optimizer()
    """How."""
    log_steps: PositiveInt = 10
    """Steps between lines of metrics."""
    examine_steps: PositiveInt | None = None
    """Steps between histograms and other diagnostics that take a pass of their own; None takes them
    at the end alone."""
    eval_steps: PositiveInt | None = None
    """Steps between evaluations on data.validation; None evaluates at the end alone."""
    save_steps: PositiveInt | None = None
    """Steps between checkpoints; None saves at the end and when interrupted."""
    keep_checkpoints: PositiveInt | None = 2
    """Latest checkpoints that are kept; None is all."""
    metric: Literal["nDCG@10", "MRR@10", "Recall@10", "Recall@100", "MAP"] = "nDCG@10"
    """What chooses the best checkpoint."""
    patience: PositiveInt | None = None
    """Evaluations without a better metric after which training stops."""
    on_divergence: Literal["stop", "raise_temperature"] = "stop"
    """What to do after a step that is not finite: stop, or go back to the last checkpoint and on at
    twice the temperature, three times at most."""
    fsdp: PositiveInt = 1
    """Devices that share one copy of the parameters; divides their number."""
    writers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where metrics go besides metrics.jsonl."""

    @property
    def first_seed(self) -> int:
        """Of first parameters and dropout."""
        return self.seed if self.init_seed is None else self.init_seed

    @pydantic.model_validator(mode="after")
    def _goes_together(self):
        if self.batch_size % self.loss.shards:
            raise ValueError(
                f"loss.shards is {self.loss.shards}, which does not divide batch_size "
                f"{self.batch_size}"
            )
        _check_parts(self)
        if isinstance(self.model, Checkpoint) and self.data.tokenizer is not None:
            raise ValueError(
                f"data.tokenizer is {self.data.tokenizer.kind!r}, but a checkpoint has its own; "
                "leave data.tokenizer out"
            )
        if isinstance(self.model, Static) and self.pooling not in (None, "mean"):
            raise ValueError(f"a static model pools by the mean; pooling is {self.pooling!r}")
        if self.on_divergence != "stop" and not isinstance(self.loss.policy, Fixed | Learned):
            raise ValueError(
                f"on_divergence is {self.on_divergence}, which a temperature that is "
                f"{self.loss.policy.kind} leaves no room for; make it fixed or learned, or stop"
            )
        if self.optimizer.warmup_steps > self.steps:
            raise ValueError(
                f"optimizer.warmup_steps is {self.optimizer.warmup_steps}, more than the run's "
                f"{self.steps} steps; lower it"
            )
        if self.eval_steps and self.data.validation is None:
            raise ValueError("eval_steps evaluates on data.validation, which is not set; set it")
        if self.patience and not (self.eval_steps and self.data.validation):
            raise ValueError(
                "patience needs evaluations while training: set eval_steps and data.validation"
            )
        return self


def _check_parts(experiment: Experiment) -> None:
    train, loss = experiment.data.train, experiment.loss
    parts = train.parts if isinstance(train, Mixture) else (Part(source=train),)
    for number, part in enumerate(parts):
        if part.temperature is not None and experiment.on_divergence != "stop":
            raise ValueError(
                f"on_divergence is {experiment.on_divergence}, but data.train.parts[{number}] has "
                "a temperature of its own, which nothing raises; leave one out"
            )
        if part.temperature is not None and loss.has_one_temperature:
            raise ValueError(
                f"data.train.parts[{number}].temperature is {part.temperature}, but "
                f"{loss.function.kind} with a temperature that is {loss.policy.kind} has no "
                "temperature by source; leave it out, or take another loss"
            )
        if not part.in_batch and needs_in_batch(loss):
            raise ValueError(
                f"data.train.parts[{number}].in_batch is False, but the loss compares texts of "
                "different queries; use in-batch negatives or another loss"
            )
        if (part.group_size or experiment.data.group_size) > 1:
            continue
        name = "data" if len(parts) == 1 else f"data.train.parts[{number}]"
        if not (loss.sees_other_documents and part.in_batch):
            why = "in_batch is False"
            if loss.in_batch and part.in_batch:
                why = f"{loss.function.kind} compares a query's own documents alone"
            raise ValueError(
                f"{why} and {name}.group_size is 1: no negatives are left; "
                "raise the group size or use in-batch negatives"
            )
        if experiment.batch_size == loss.shards:
            raise ValueError(
                f"batch_size is {experiment.batch_size}, one query for each of loss.shards, and "
                f"{name}.group_size is 1: no negatives are left; raise either size"
            )

"""Config of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import pydantic
from pydantic import BeforeValidator, Field, PositiveInt
from tyro.conf import Fixed

from contrastive.data.config import Data, MixturePart
from contrastive.errors import ConfigError
from contrastive.models._model import Model
from contrastive.models._transformer import Transformer
from contrastive.settings import Config
from contrastive.tasks._evaluator import Evaluator
from contrastive.tasks._score_name import TEST, VALIDATION, ScoreName
from contrastive.training.objective import Objective, as_objective
from contrastive.training.optimizer import Optimizer
from contrastive.writers._writer import Writer

__all__ = ["Experiment"]


class Experiment(Config):
    """Config of a training run."""

    renamed: ClassVar[Mapping[str, str]] = {
        "metric": 'select_best="EVALUATOR/METRIC"',
        "examine_steps": "detail_steps",
    }

    name: str
    """Name of the run in logs."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Random seed of shuffles and groups and, unless init_seed is set, of initialization and
    dropout."""
    init_seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """Random seed of initialization and dropout; None uses seed. The seeds of a sweep change only
    this one."""
    steps: PositiveInt = 1000
    """Number of optimizer steps."""
    batch_size: PositiveInt = 256
    """Number of queries per step, over all devices."""
    data: Data = Data()
    """Training data and tokenization."""
    model: Model = Transformer()
    """The encoder of queries and documents."""
    pooling: Literal["mean", "cls", "last_token"] | None = None
    """How token vectors are pooled into the vector of a text; None uses the checkpoint's pooling,
    or the mean."""
    normalize: bool = True
    """Scale embeddings to unit length, so that similarities are cosines."""
    loss: Annotated[Objective, BeforeValidator(as_objective)] = Objective()
    """The loss, its temperature and its negatives."""
    chunk_tokens: PositiveInt | None = None
    """Maximum number of tokens that a device encodes at a time (gradient caching): needs only the
    memory of a chunk, but computes the gradient of the whole batch. None encodes all at once."""
    optimizer: Optimizer = Optimizer()
    """Optimizer settings."""
    log_steps: PositiveInt = 10
    """Number of steps between logged metrics."""
    detail_steps: PositiveInt | None = None
    """Number of steps between histograms and other diagnostics that need a separate pass; None
    computes them only at the end."""
    evaluators: Annotated[dict[str, Evaluator], Fixed] = Field(default_factory=dict)
    """Evaluators by name, which score the encoder every eval_steps to select the best
    checkpoint."""
    final_evaluators: Annotated[dict[str, Evaluator], Fixed] = Field(default_factory=dict)
    """Evaluators by name, which score the best checkpoint at the end. These are test scores, and
    select nothing. If there are none, evaluators are used, and the final scores are validation
    scores."""
    select_best: str | None = None
    """Metric that selects the best checkpoint, as EVALUATOR/METRIC of `evaluators`; None uses the
    main metric of the first evaluator."""
    eval_steps: PositiveInt | None = None
    """Number of steps between evaluations; None evaluates only at the end."""
    save_steps: PositiveInt | None = None
    """Number of steps between checkpoints; None saves only at the end and when interrupted."""
    keep_checkpoints: PositiveInt | None = 2
    """Number of latest checkpoints to keep; None keeps all."""
    patience: PositiveInt | None = None
    """Number of evaluations without improvement after which training stops; None never stops
    early."""
    on_divergence: Literal["stop", "raise_temperature"] = "stop"
    """What to do after a step that is not finite: stop, or return to the last checkpoint and
    double the temperature, up to three times."""
    fsdp: PositiveInt = 1
    """Number of devices that share one copy of the parameters; must divide the number of
    devices."""
    writers: tuple[Writer, ...] = ()
    """Where metrics are written in addition to metrics.jsonl."""

    @property
    def first_seed(self) -> int:
        """Random seed of initialization and dropout."""
        return self.seed if self.init_seed is None else self.init_seed

    @property
    def selection(self) -> tuple[str, str] | None:
        """Evaluator and metric that select the best checkpoint; None without evaluators."""
        if not self.evaluators:
            return None
        if self.select_best is None:
            name, evaluator = next(iter(self.evaluators.items()))
            return (name, evaluator.main_metric) if evaluator.main_metric else None
        name, _, metric = self.select_best.partition("/")
        return name, metric

    @property
    def final_split(self) -> str:
        """Split of the final scores: `test`, or `validation` without final evaluators."""
        return TEST if self.final_evaluators else VALIDATION

    @property
    def select_by(self) -> str | None:
        """Name of the validation score that selects the best checkpoint; None if there is none."""
        return str(ScoreName(VALIDATION, *self.selection)) if self.selection else None

    @pydantic.model_validator(mode="after")
    def _goes_together(self):
        loss, data = self.loss, self.data
        parts = (self.model, *self.evaluators.values(), loss.function, loss.policy)
        if any(part.is_inert for part in parts):
            return self  # the traits of placeholders are unknown; the run was validated before
        for size in (self.batch_size, *(part.batch_size or 0 for part in data.parts)):
            if size % loss.negative_groups:
                raise ConfigError(
                    f"is {loss.negative_groups}, which does not divide the batch of {size} queries",
                    field="loss.negative_groups",
                )
        _check_parts(self)
        if self.model.is_pretrained and data.tokenizer is not None:
            raise ConfigError(
                f"is {data.tokenizer.kind!r}, but the checkpoint has its own tokenizer; leave it "
                "out",
                field="data.tokenizer",
            )
        if self.pooling is not None and self.pooling not in self.model.poolings:
            raise ConfigError(
                f"is {self.pooling!r}, but {self.model.short_name()} pools by "
                f"{', '.join(self.model.poolings)}",
                field="pooling",
            )
        if self.on_divergence != "stop" and not loss.policy.can_be_raised:
            raise ConfigError(
                f"is {self.on_divergence}, which needs a fixed or learned temperature (got "
                f"{loss.policy.short_name()}); choose such a policy, or set it to stop",
                field="on_divergence",
            )
        if self.optimizer.warmup_steps > self.steps:
            raise ConfigError(
                f"is {self.optimizer.warmup_steps}, more than the run's {self.steps} steps; lower "
                "it",
                field="optimizer.warmup_steps",
            )
        _check_evaluations(self)
        return self


def _check_evaluations(experiment: Experiment) -> None:
    evaluators = experiment.evaluators
    for name in (*evaluators, *experiment.final_evaluators):
        if not name or "/" in name:
            raise ValueError(
                f"an evaluator is called {name!r}; names must not be empty or contain /"
            )
    if experiment.eval_steps and not evaluators:
        raise ConfigError("needs evaluators, which are not set; set some", field="eval_steps")
    if experiment.patience and not (experiment.eval_steps and evaluators):
        raise ConfigError(
            lambda name: (
                f"needs evaluations while training: set {name('eval_steps')} and "
                f"{name('evaluators')}"
            ),
            field="patience",
        )
    if experiment.select_best is not None:
        name, _, metric = experiment.select_best.partition("/")
        if name not in evaluators or not metric:
            known = ", ".join(evaluators) or "none"
            raise ValueError(
                f"select_best is {experiment.select_best!r}; it must be EVALUATOR/METRIC, and the "
                f"evaluators are {known}"
            )
        names = evaluators[name].metric_names
        if names and metric not in names:
            raise ConfigError(
                f"is {experiment.select_best!r}, but {name} has the metrics {', '.join(names)}",
                field="select_best",
            )
        return
    for name, evaluator in list(evaluators.items())[:1]:
        if not evaluator.main_metric and not evaluator.is_inert:
            raise ValueError(
                f"select_best is not set, and the evaluator {name!r} has no main metric; set "
                "select_best to EVALUATOR/METRIC"
            )


def _check_parts(experiment: Experiment) -> None:
    data, loss = experiment.data, experiment.loss
    name = loss.function.short_name()
    for number, part in enumerate(data.parts):
        place = "data" if len(data.parts) == 1 else f"data.train.parts[{number}]"
        if part.temperature is not None and experiment.on_divergence != "stop":
            raise ValueError(
                f"on_divergence is {experiment.on_divergence}, but data.train.parts[{number}] has "
                "a temperature of its own, which cannot be raised; leave one out"
            )
        if part.temperature is not None and loss.has_one_temperature:
            raise ValueError(
                f"data.train.parts[{number}].temperature is {part.temperature}, but {name} with "
                f"the policy {loss.policy.short_name()} has no per-source temperature; leave it "
                "out, or choose another loss"
            )
        if not part.in_batch and loss.function.compares_queries:
            raise ConfigError(
                f"is False, but {name} compares texts of different queries; use in-batch "
                "negatives or another loss",
                field=f"data.train.parts[{number}].in_batch",
            )
        if (part.group_size or data.group_size) == 1:
            _check_negatives_exist(experiment, part, place)


def _check_negatives_exist(experiment: Experiment, part: MixturePart, place: str) -> None:
    loss, batch_size = experiment.loss, part.batch_size or experiment.batch_size
    if not (loss.sees_other_documents and part.in_batch):
        why = "in_batch is False"
        if loss.in_batch and part.in_batch:
            why = f"{loss.function.short_name()} compares only a query's own documents"
        raise ConfigError(
            f"is 1 and {why}, so no negatives are left; raise it, or use in-batch negatives",
            field=f"{place}.group_size",
        )
    if batch_size == loss.negative_groups:
        raise ConfigError(
            f"is 1, and the batch of {batch_size} has one query per negative group, so "
            "no negatives are left; raise it, or use fewer negative groups",
            field=f"{place}.group_size",
            see=("batch_size", "loss.negative_groups"),
        )

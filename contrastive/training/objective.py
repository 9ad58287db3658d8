"""Config of the training objective: a loss, its temperature and its negatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pydantic
from pydantic import PositiveFloat, PositiveInt

from contrastive.errors import ConfigError
from contrastive.interop.guide import Guide
from contrastive.losses._info_nce import InfoNCE
from contrastive.losses._loss import Loss
from contrastive.settings import Config, PositiveFloat32
from contrastive.temperature.policies._fixed import Fixed
from contrastive.temperature.policies._policy import Policy

__all__ = ["Objective"]


class Objective(Config):
    """A loss, its temperature and its negatives.

    Where a config expects an objective, it also accepts a loss, or a function of
    `contrastive.losses.LossInputs`.
    """

    renamed: ClassVar[Mapping[str, str]] = {
        "widths": "matryoshka_dims",
        "width_weights": "matryoshka_weights",
        "shards": "negative_groups",
        "distill": "function=InfoNCE() + DistillKL(teacher_temperature=...), or DistillM3(...)",
        "spread_out": "function=InfoNCE() + 1.0 * SpreadOut()",
    }

    function: Loss = InfoNCE()
    """The loss, or a weighted sum of losses."""
    temperature: PositiveFloat32 = 0.02
    """Temperature, which divides the similarities. At low values hard negatives dominate; at high
    values all negatives have similar weight."""
    policy: Policy = Fixed()
    """How the temperature of each step is determined."""
    in_batch: bool = True
    """Use other queries' documents as negatives."""
    mask_false_negatives: bool = True
    """Exclude negatives whose text is known to answer the query."""
    above_positive: float | None = None
    """Exclude negatives whose similarity exceeds the positive's by more than this (0.1 in
    Qwen3)."""
    relative_to_positive: PositiveFloat | None = None
    """Exclude negatives whose similarity exceeds this fraction of the positive's (0.95 in
    NV-Retriever)."""
    guide: Guide | None = None
    """Exclude negatives that a frozen encoder ranks above the positive."""
    matryoshka_dims: tuple[PositiveInt, ...] = ()
    """Embedding dimensions to train with Matryoshka; each truncates embeddings to their first
    values."""
    matryoshka_weights: tuple[PositiveFloat, ...] = ()
    """Weights of the losses at these dimensions; if empty, the losses are averaged."""
    negative_groups: PositiveInt = 1
    """Number of equal parts of the batch within which documents are negatives."""
    tile: PositiveInt | None = None
    """Number of rows and columns per tile of the loss computation; does not change its value."""
    ring: bool = False
    """Pass documents around the devices instead of gathering them on each, so that the memory per
    device does not grow with the number of devices."""

    @pydantic.model_validator(mode="after")
    def _goes_together(self):
        loss, name = self.function, self.function.short_name()
        if loss.is_inert or self.policy.is_inert:
            return self  # the traits of placeholders are unknown; the run was validated before
        try:
            self.policy.check(self.temperature)
        except ValueError as error:
            limits = [f"policy.{name}" for name in self.policy.limits]
            raise ConfigError(str(error), field="temperature", see=limits) from None
        if self.matryoshka_weights and len(self.matryoshka_weights) != len(self.matryoshka_dims):
            raise ValueError(
                f"{len(self.matryoshka_weights)} matryoshka_weights for "
                f"{len(self.matryoshka_dims)} matryoshka_dims; give one per dimension, or none"
            )
        if not loss.has_temperature and not self.policy.is_constant:
            raise ConfigError(
                f"is {self.policy.short_name()}, but {name} has no temperature; leave it out, or "
                "choose another loss",
                field="policy",
            )
        self._check_individual_temperatures()
        for rule in ("above_positive", "relative_to_positive", "guide"):
            if getattr(self, rule) is not None and not loss.uses_negatives:
                raise ConfigError(
                    f"leaves out negatives, but {name} has none; do not set it", field=rule
                )
        if self.negative_groups > 1 and loss.whole_batch:
            raise ConfigError(
                f"is {self.negative_groups}, but {name} takes the whole batch; set it to 1",
                field="negative_groups",
            )
        if not self.in_batch and loss.compares_queries:
            raise ValueError(
                f"{name} compares texts of different queries, but in_batch is False; use in-batch "
                "negatives or another loss"
            )
        return self

    def _check_individual_temperatures(self) -> None:
        loss, name = self.function, self.function.short_name()
        if self.policy.is_individual and not loss.has_individual_temperatures:
            raise ConfigError(
                f"is {self.policy.short_name()}, which needs sogclr, not {name}; choose sogclr "
                "with a rho, or another policy",
                field="policy",
            )
        moves = self.policy.is_learned or self.policy.is_individual
        if moves and getattr(loss, "rho", None) == 0:
            raise ConfigError(
                f"is 0; rho must be positive when the temperature is {self.policy.short_name()}, "
                "or it would only rise (iSogCLR uses 0.4; larger values give lower temperatures)",
                field="function.rho",
            )

    @property
    def has_one_temperature(self) -> bool:
        """Whether sources cannot have their own temperatures."""
        loss = self.function
        by_query = loss.has_temperature and loss.has_query_temperatures
        return not by_query or self.policy.is_individual

    @property
    def sees_other_documents(self) -> bool:
        """Whether the loss uses documents of other queries."""
        return self.in_batch and not self.function.own_documents_only


def as_objective(value: Any) -> Any:
    """Converts a loss, or a function that serves as one, to an objective."""
    if isinstance(value, Loss) or (callable(value) and not isinstance(value, Objective | type)):
        return Objective(function=Loss.convert(value))
    return value

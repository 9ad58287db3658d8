"""Computes losses and diagnostics from the embeddings of a batch."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from contrastive.errors import ConfigError
from contrastive.losses._loss import LossInputs
from contrastive.losses._matryoshka import prefix
from contrastive.losses._negatives.pairs import Pairs
from contrastive.losses._tiles import Axis
from contrastive.temperature._detailed_diagnostics import Details, examine
from contrastive.temperature._diagnostics import Diagnostics, diagnose
from contrastive.training.objective import Objective
from contrastive.types import Batch, Params

Scalars: TypeAlias = dict[str, Float[Array, ""]]
# Named arrays: facts about each query, and the per-example memory of a run.
Columns: TypeAlias = Mapping[str, Any]
Memory: TypeAlias = dict[str, Float[Array, "E ..."]]

_SCORES, _SOURCE_TEMPERATURES = "teacher_scores", "temperatures"
_PAIRS = frozenset(Pairs.__annotations__)


@dataclasses.dataclass(frozen=True)
class BatchLoss:
    """The objective of a run, as pure functions of embeddings and parameters.

    Attributes:
      objective: The loss, its temperature and its negatives.
      steps: Number of steps of the run.
      group_size: Maximum number of documents per query, over all sources.
      renormalize: Whether truncated embeddings are scaled to unit length.
      source_temperatures: Whether some sources have their own temperature.
    """

    objective: Objective = dataclasses.field(default_factory=Objective)
    steps: int = 1
    group_size: int = 1
    renormalize: bool = True
    source_temperatures: bool = False

    def __post_init__(self):
        function = self.objective.function
        reserved = {"temperature", _SOURCE_TEMPERATURES, *_PAIRS, _SCORES, "labels"}
        if taken := reserved & {*function.initial_values(), *function.memory}:
            raise ConfigError(
                f"is {function.short_name()}, whose learned scalars or memory are called "
                f"{', '.join(sorted(taken))}; rename them, since a batch has arrays of these names",
                field="loss.function",
            )

    def init(self) -> Params:
        """Returns the initial parameters of the temperature policy and, if it has any, the loss."""
        params = {}
        if not self.objective.policy.is_individual:
            params["temperature"] = self.objective.policy.init(self.objective.temperature)
        if values := self.objective.function.initial_values():
            params["loss"] = {name: jnp.float32(value) for name, value in values.items()}
        return params

    def init_memory(self, examples: int) -> Memory:
        """Returns the initial memory, with one row per training example."""
        memory = {
            name: jnp.full((examples, len(self.objective.matryoshka_dims) or 1), value)
            for name, value in self.objective.function.memory.items()
        }
        if self.objective.policy.is_individual:
            memory["temperature"] = jnp.full(examples, self.objective.temperature)
        return memory

    def updated_memory(self, rows: Memory, new: Memory, slopes: Memory) -> Memory:
        """Computes the memory of a batch's queries after a step.

        Args:
          rows: Memory of these queries before the step.
          new: Memory that the loss returned.
          slopes: Gradient of the mean loss with respect to `rows`.

        Returns:
          The new rows.
        """
        policy = self.objective.policy
        if not policy.is_individual:
            return new
        own_slopes = slopes["temperature"] * len(slopes["temperature"])
        return {**new, "temperature": policy.update(rows["temperature"], own_slopes)}

    def scalars(self, params: Params, step: Int[Array, ""], rows: Memory) -> Scalars:
        """Returns the temperature, and the scalars that the loss learns.

        Individual temperatures are averaged. Temperatures that sources set are not part of the
        result; `describe` reports them.
        """
        policy = self.objective.policy
        if policy.is_individual:
            scalars = {"temperature": lax.stop_gradient(rows["temperature"]).mean()}
        else:
            initial, params_of_policy = self.objective.temperature, params["temperature"]
            scalars = {
                "temperature": policy.temperature(
                    params_of_policy, step, initial=initial, steps=self.steps
                )
            }
        for name, value in params.get("loss", {}).items():
            scalars[name] = value if policy.is_learned else lax.stop_gradient(value)
        return scalars

    def project(self, params: Params) -> Params:
        """Projects the policy's parameters back into their range after an update."""
        policy = self.objective.policy
        if policy.is_individual:
            return params
        return {**params, "temperature": policy.project(params["temperature"])}

    def columns(self, batch: Batch) -> dict[str, Any]:
        """Returns what the loss may use besides the embeddings; every array is sharded by query."""
        names = ["query_pools", "document_pools"]
        if self.source_temperatures:
            names += [_SOURCE_TEMPERATURES]
        if self.objective.mask_false_negatives:
            names += ["query_ids", "document_ids", "known_positive_ids"]
        if self.objective.function.needs_scores:
            names += [_SCORES]
        if self.objective.function.needs_labels:
            names += ["labels"]
        return {name: jnp.asarray(getattr(batch, name)) for name in names}

    def losses(
        self,
        queries: Float[Array, "B D"],
        documents: Float[Array, "N D"],
        scalars: Scalars,
        columns: Columns,
        axis_name: Axis,
    ) -> tuple[Float[Array, " B"], Memory]:
        """Computes one loss per query, and the new memory.

        Documents are shared among all devices along `axis_name`.
        """
        function = self.objective.function
        inputs = LossInputs(
            queries,
            documents,
            self._temperature(scalars, columns),
            self._pairs(columns, axis_name),
            scores=columns.get(_SCORES),
            labels=columns.get("labels"),
            learned={name: scalars[name] for name in function.initial_values()},
            memory={name: columns[name] for name in function.memory},
        )
        dims = self.objective.matryoshka_dims or (None,)
        weights = self.objective.matryoshka_weights or [1.0 / len(dims)] * len(dims)
        terms, memories = [], []
        for number, (dim, weight) in enumerate(zip(dims, weights, strict=True)):
            losses, memory = self._at(inputs, number, dim)
            is_whole = isinstance(weight, int | float) and weight == 1  # a sweep may trace it
            terms.append(losses if is_whole else weight * losses)
            memories.append(memory)
        memory = {
            name: jnp.stack([one[name] for one in memories], axis=1) for name in function.memory
        }
        return functools.reduce(operator.add, terms), memory

    def _at(self, inputs: LossInputs, number: int, dim: int | None) -> tuple[Array, Memory]:
        """Computes the loss of embeddings truncated to `dim`, which has its own memory column."""
        memory = {name: rows[:, number] for name, rows in inputs.memory.items()}
        inputs = dataclasses.replace(inputs, memory=memory)
        if dim is not None:
            queries, documents = (
                prefix(x, dim, renormalize=self.renormalize)
                for x in (inputs.queries, inputs.documents)
            )
            inputs = dataclasses.replace(inputs, queries=queries, documents=documents)
        function = self.objective.function
        result = function(inputs)
        losses, memory = result if function.memory else (result, {})
        if jnp.shape(losses) != (count := inputs.queries.shape[:1]):
            raise ConfigError(
                f"is {function.short_name()}, which returned an array of shape "
                f"{jnp.shape(losses)}; return one value per query, {count}, of which the run takes "
                "the mean",
                field="loss.function",
            )
        return losses, memory

    def describe(
        self,
        queries: Float[Array, "B D"],
        documents: Float[Array, "N D"],
        scalars: Scalars,
        columns: Columns,
        axis_name: Axis,
    ) -> Diagnostics:
        """Computes diagnostics of the temperature, one value per query each.

        They describe InfoNCE's softmax over the pairs that the loss uses, whatever the loss is.
        """
        pairs = self._pairs(columns, axis_name)
        temperature = self._temperature(scalars, columns)
        return diagnose(queries, documents, temperature=temperature, **pairs)

    def describe_in_detail(
        self,
        queries: Float[Array, "B D"],
        documents: Float[Array, "N D"],
        scalars: Scalars,
        columns: Columns,
        axis_name: Axis,
    ) -> Details:
        """Computes detailed diagnostics of some queries.

        The choice of queries is the same for most numbers of devices.
        """
        pairs = self._pairs(columns, axis_name)
        temperature = self._temperature(scalars, columns)
        labels = columns["labels"]
        return examine(queries, documents, temperature=temperature, labels=labels, **pairs)

    def _temperature(self, scalars: Scalars, columns: Columns) -> Array:
        """Returns the temperature of the batch, or one per query: individual or by source."""
        if _SOURCE_TEMPERATURES in columns:
            own = columns[_SOURCE_TEMPERATURES]
            return jnp.where(own > 0, own, scalars["temperature"])
        return columns.get("temperature", scalars["temperature"])

    def _pairs(self, columns: Columns, axis_name: Axis) -> Pairs:
        objective = self.objective
        known: Any = {name: value for name, value in columns.items() if name in _PAIRS}
        if objective.guide is not None:
            known["guide_margin"] = objective.guide.margin
            known["guide_relative_margin"] = objective.guide.relative_margin
        return Pairs(
            group_size=self.group_size,
            in_batch=objective.in_batch,
            above_positive=objective.above_positive,
            relative_to_positive=objective.relative_to_positive,
            tile=objective.tile,
            axis_name=axis_name,
            ring=objective.ring,
            **known,
        )

"""What the embeddings of a batch are scored by."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from contrastive import config
from contrastive.losses.pairs import Pairs
from contrastive.losses.tiles import Axis
from contrastive.temperature.details import Details, examine
from contrastive.temperature.diagnostics import Diagnostics, diagnose
from contrastive.temperature.policies import Individual, Learned, Policy
from contrastive.training.recipes import Given, RememberingLoss, make_loss
from contrastive.types import Batch, Params

Scalars: TypeAlias = dict[str, Float[Array, ""]]
# What is known of each query, and what a run remembers of each example: arrays by name.
Columns: TypeAlias = Mapping[str, Any]
Memory: TypeAlias = dict[str, Float[Array, "E ..."]]

_SCORES, _OWN = "teacher_scores", "temperatures"
_PAIRS = frozenset(Pairs.__annotations__)


@dataclasses.dataclass(frozen=True)
class Objective:
    """Embeddings to losses.

    Attributes:
      policy: Who sets the temperature.
      group_size: Documents a query.
      loss: Which loss, and which pairs it sees.
      renormalize: Whether shortened embeddings are scaled to unit length.
      own_temperatures: Whether some sources have a temperature of their own.
    """

    policy: Policy | Individual
    group_size: int = 1
    loss: config.Loss = dataclasses.field(default_factory=config.Loss)
    renormalize: bool = True
    own_temperatures: bool = False

    def init(self) -> Params:
        """First parameters of the temperature, and of SigLIP's bias."""
        params = {}
        if not isinstance(self.policy, Individual):
            params["temperature"] = self.policy.init()
        if isinstance(self.loss.function, config.SigLIP):
            params["bias"] = {"value": jnp.float32(self.loss.function.bias)}
        return params

    def init_memory(self, examples: int) -> Memory:
        """What is remembered of every example before it was seen, one row each."""
        memory = {}
        if isinstance(self.loss.function, config.SogCLR):
            memory["log_average"] = jnp.full((examples, len(self.loss.widths) or 1), -jnp.inf)
        if isinstance(self.policy, Individual):
            memory["temperature"] = jnp.full(examples, self.policy.initial)
        return memory

    def renewed(self, rows: Memory, averages: Memory, slopes: Memory) -> Memory:
        """What is remembered of a batch's queries after it.

        Args:
          rows: What was before it.
          averages: Found by the losses.
          slopes: Of the mean loss in each row.

        Returns:
          The new rows.
        """
        if not isinstance(self.policy, Individual):
            return averages
        own_slopes = slopes["temperature"] * len(slopes["temperature"])
        temperature = self.policy.update(rows["temperature"], own_slopes)
        return {**averages, "temperature": temperature}

    def scalars(self, params: Params, step: Int[Array, ""], rows: Memory) -> Scalars:
        """The policy's temperature, of individual ones the mean, and bias, learned where it is.

        Queries whose source has a temperature of its own do not use it: `describe` has theirs.
        """
        if isinstance(self.policy, Individual):
            scalars = {"temperature": lax.stop_gradient(rows["temperature"]).mean()}
        else:
            scalars = {"temperature": self.policy.temperature(params["temperature"], step)}
        if "bias" in params:
            bias = params["bias"]["value"]
            learned = isinstance(self.policy, Learned)
            scalars["bias"] = bias if learned else lax.stop_gradient(bias)
        return scalars

    def project(self, params: Params) -> Params:
        """All parameters, the policy's brought back into their range after an update."""
        if isinstance(self.policy, Individual):
            return params
        return {**params, "temperature": self.policy.project(params["temperature"])}

    def columns(self, batch: Batch) -> dict[str, Any]:
        """What the loss may know of texts besides their embeddings, each divided by query."""
        names = ["query_pools", "document_pools"]
        if self.own_temperatures:
            names += [_OWN]
        if self.loss.mask_false_negatives:
            names += ["query_ids", "document_ids", "known_positive_ids"]
        if self.loss.of_scores:
            names += [_SCORES]
        if isinstance(self.loss.function, config.SupCon):
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
        """One loss a query, and what is to be remembered; documents of all of `axis_name` count."""
        given = Given(
            temperature=self._temperature(scalars, columns),
            bias=scalars.get("bias"),
            scores=columns.get(_SCORES),
            labels=columns.get("labels"),
            log_average=columns.get("log_average"),
        )
        found = self._loss(queries, documents, given, self._pairs(columns, axis_name))
        averages = {} if found.log_average is None else {"log_average": found.log_average}
        return found.losses, averages

    def describe(
        self,
        queries: Float[Array, "B D"],
        documents: Float[Array, "N D"],
        scalars: Scalars,
        columns: Columns,
        axis_name: Axis,
    ) -> Diagnostics:
        """What the temperature does to the batch, one value a query of each diagnostic.

        Of InfoNCE's softmax over the pairs that the loss sees, whichever the loss.
        """
        pairs = self._pairs(columns, axis_name)
        temperature = self._temperature(scalars, columns)
        return diagnose(queries, documents, temperature=temperature, **pairs)

    def examine(
        self,
        queries: Float[Array, "B D"],
        documents: Float[Array, "N D"],
        scalars: Scalars,
        columns: Columns,
        axis_name: Axis,
    ) -> Details:
        """A closer look at some of the queries, the same ones on most numbers of devices."""
        pairs = self._pairs(columns, axis_name)
        told = {"temperature": self._temperature(scalars, columns), "labels": columns["labels"]}
        return examine(queries, documents, **told, **pairs)

    def _temperature(self, scalars: Scalars, columns: Columns) -> Array:
        """One of the batch, or one a query: its own, its source's, or the batch's."""
        if _OWN in columns:
            return jnp.where(columns[_OWN] > 0, columns[_OWN], scalars["temperature"])
        return columns.get("temperature", scalars["temperature"])

    @functools.cached_property
    def _loss(self) -> RememberingLoss:
        return make_loss(self.loss, renormalize=self.renormalize)

    def _pairs(self, columns: Columns, axis_name: Axis) -> Pairs:
        known: Any = {name: value for name, value in columns.items() if name in _PAIRS}
        if self.loss.guide is not None:
            known["guide_margin"] = self.loss.guide.margin
        return Pairs(
            group_size=self.group_size,
            in_batch=self.loss.in_batch,
            above_positive=self.loss.above_positive,
            relative_to_positive=self.loss.relative_to_positive,
            tile=self.loss.tile,
            axis_name=axis_name,
            ring=self.loss.ring,
            **known,
        )

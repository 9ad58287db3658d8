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
from contrastive.temperature.diagnostics import Diagnostics, diagnose
from contrastive.temperature.policies import Learned, Policy
from contrastive.training.recipes import Given, Loss, make_loss
from contrastive.types import Batch, Params

Scalars: TypeAlias = dict[str, Float[Array, ""]]

_SCORES = "teacher_scores"


@dataclasses.dataclass(frozen=True)
class Objective:
    """Embeddings to losses.

    Attributes:
      policy: Who sets the temperature.
      group_size: Documents a query.
      loss: Which loss, and which pairs it sees.
      renormalize: Whether shortened embeddings are scaled to unit length.
    """

    policy: Policy
    group_size: int = 1
    loss: config.Loss = dataclasses.field(default_factory=config.Loss)
    renormalize: bool = True

    def init(self) -> Params:
        """First parameters of the temperature, and of SigLIP's bias."""
        params = {"temperature": self.policy.init()}
        if isinstance(self.loss.function, config.SigLIP):
            params["bias"] = {"value": jnp.float32(self.loss.function.bias)}
        return params

    def scalars(self, params: Params, step: Int[Array, ""]) -> Scalars:
        """Temperature and bias of a step; the bias is learned where the temperature is."""
        scalars = {"temperature": self.policy.temperature(params["temperature"], step)}
        if "bias" in params:
            bias = params["bias"]["value"]
            learned = isinstance(self.policy, Learned)
            scalars["bias"] = bias if learned else lax.stop_gradient(bias)
        return scalars

    def project(self, params: Params) -> Params:
        """All parameters, the policy's brought back into their range after an update."""
        return {**params, "temperature": self.policy.project(params["temperature"])}

    def columns(self, batch: Batch) -> dict[str, Any]:
        """What the loss may know of texts besides their embeddings, each divided by query."""
        names = ["query_pools", "document_pools"]
        if self.loss.mask_false_negatives:
            names += ["query_ids", "document_ids", "known_positive_ids"]
        if self.loss.of_scores:
            names += [_SCORES]
        return {name: jnp.asarray(getattr(batch, name)) for name in names}

    def losses(
        self,
        queries: Float[Array, "B D"],
        documents: Float[Array, "N D"],
        scalars: Scalars,
        columns: Mapping[str, Any],
        axis_name: Axis,
    ) -> Float[Array, " B"]:
        """One loss a query; documents of all of `axis_name` count."""
        given = Given(scalars["temperature"], scalars.get("bias"), columns.get(_SCORES))
        return self._loss(queries, documents, given, self._pairs(columns, axis_name))

    def describe(
        self,
        queries: Float[Array, "B D"],
        documents: Float[Array, "N D"],
        scalars: Scalars,
        columns: Mapping[str, Any],
        axis_name: Axis,
    ) -> Diagnostics:
        """What the temperature does to the batch, one value a query of each diagnostic."""
        pairs = self._pairs(columns, axis_name)
        return diagnose(queries, documents, temperature=scalars["temperature"], **pairs)

    @functools.cached_property
    def _loss(self) -> Loss:
        return make_loss(self.loss, renormalize=self.renormalize)

    def _pairs(self, columns: Mapping[str, Any], axis_name: Axis) -> Pairs:
        known: Any = {name: value for name, value in columns.items() if name != _SCORES}
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

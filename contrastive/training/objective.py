"""What the embeddings of a batch are scored by."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from contrastive import losses
from contrastive.losses.matryoshka import prefix
from contrastive.losses.partition import Axis
from contrastive.temperature.diagnostics import Diagnostics, diagnose
from contrastive.temperature.policies import Policy
from contrastive.types import Batch


@dataclasses.dataclass(frozen=True)
class Distillation:
    """A teacher's part in the loss.

    Attributes:
      kind: `kl` is added to InfoNCE, `m3` takes its place.
      temperature: Of the teacher's softmax.
      weight: Of the distillation loss.
    """

    kind: Literal["kl", "m3"]
    temperature: float = 1.0
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class Objective:
    """Embeddings to losses.

    Attributes:
      policy: Who sets the temperature.
      group_size: Documents a query.
      in_batch: Whether other queries' documents are negatives.
      mask_false_negatives: Whether text ids are used.
      tile: Rows and columns a tile.
      distillation: A teacher's part, None for none.
      widths: Matryoshka widths, averaged; none is the full width.
      renormalize: Whether shortened embeddings are scaled to unit length.
    """

    policy: Policy
    group_size: int = 1
    in_batch: bool = True
    mask_false_negatives: bool = True
    tile: int | None = None
    distillation: Distillation | None = None
    widths: tuple[int, ...] = ()
    renormalize: bool = True

    def columns(self, batch: Batch) -> dict[str, Any]:
        """What the loss may know of texts besides their embeddings, each divided by query."""
        names = ["query_pools", "document_pools"]
        if self.mask_false_negatives:
            names += ["query_ids", "document_ids", "known_positive_ids"]
        if self.distillation is not None:
            names += ["teacher_scores"]
        return {name: jnp.asarray(getattr(batch, name)) for name in names}

    def losses(
        self,
        queries: Float[Array, "B D"],
        documents: Float[Array, "N D"],
        temperature: Float[Array, ""],
        columns: dict[str, Any],
        axis_name: Axis,
    ) -> Float[Array, " B"]:
        """One loss a query; documents are gathered over `axis_name`."""
        widths = self.widths or (queries.shape[-1],)
        total = jnp.zeros(queries.shape[0])
        for width in widths:
            cut = self.renormalize and width < queries.shape[-1]
            q, d = (prefix(x, width, renormalize=cut) for x in (queries, documents))
            total += self._at_one_width(q, d, temperature, columns, axis_name)
        return total / len(widths)

    def _at_one_width(self, queries, documents, temperature, columns, axis_name):
        known = {name: value for name, value in columns.items() if name != "teacher_scores"}
        shared = {
            "temperature": temperature,
            "in_batch": self.in_batch,
            "tile": self.tile,
            "axis_name": axis_name,
            **known,
        }
        teacher = self.distillation
        if teacher is not None and teacher.kind == "m3":
            found = losses.distill_m3(
                queries,
                documents,
                columns["teacher_scores"],
                teacher_temperature=teacher.temperature,
                **shared,
            )
            return teacher.weight * found
        found = losses.info_nce(queries, documents, group_size=self.group_size, **shared)
        if teacher is not None:
            found += teacher.weight * losses.distill_kl(
                queries,
                documents,
                columns["teacher_scores"],
                temperature=temperature,
                teacher_temperature=teacher.temperature,
                document_pools=columns["document_pools"],
            )
        return found

    def describe(
        self,
        queries: Float[Array, "B D"],
        documents: Float[Array, "N D"],
        temperature: Float[Array, ""],
        columns: dict[str, Any],
        axis_name: Axis,
    ) -> Diagnostics:
        """What the temperature does to the batch, one value a query of each diagnostic."""
        known = {name: value for name, value in columns.items() if name != "teacher_scores"}
        return diagnose(
            queries,
            documents,
            temperature=temperature,
            group_size=self.group_size,
            in_batch=self.in_batch,
            tile=self.tile,
            axis_name=axis_name,
            **known,
        )

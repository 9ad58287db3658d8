"""The base class of losses: settings, traits, and a pure function of a batch's embeddings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

from pydantic import Field, PositiveFloat

from contrastive.losses._negatives.pairs import Pairs
from contrastive.parts import Part
from contrastive.settings import Config

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

__all__ = ["Loss", "LossInputs", "Sum", "Term"]

Memory: TypeAlias = "Mapping[str, Float[Array, '...']]"


@dataclasses.dataclass(frozen=True)
class LossInputs:
    """The inputs of a loss.

    Attributes:
      queries: Embeddings of the B queries [B, D].
      documents: Embeddings [B * G, D], query-major, the positive first in each group.
      temperature: The temperature of this step: a scalar, or one per query [B].
      pairs: Structure of the batch and text ids, as keywords of `contrastive.losses` functions.
      scores: Scores of each query's own documents [B, G]; None unless the loss `needs_scores`.
      labels: Class id of each query [B]; None unless the loss `needs_labels`.
      learned: The loss's own learned scalars, by name.
      memory: Values that the loss stored for these queries [B], by name.
    """

    queries: Float[Array, "B D"]
    documents: Float[Array, "N D"]
    temperature: Float[Array, ""] | Float[Array, " B"] | float
    pairs: Pairs = dataclasses.field(default_factory=lambda: Pairs())
    scores: Float[Array, "B G"] | None = None
    labels: Int[Array, " B"] | None = None
    learned: Mapping[str, Float[Array, ""]] = dataclasses.field(default_factory=dict)
    memory: Memory = dataclasses.field(default_factory=dict)

    def required(self, name: str) -> Any:
        """Returns an attribute that the loss cannot do without.

        Args:
          name: `scores` or `labels`.

        Returns:
          Its value.

        Raises:
          ValueError: If it is None.
        """
        if getattr(self, name) is None:
            raise ValueError(f"this loss needs {name}; pass {name}=... to LossInputs")
        return getattr(self, name)


class Loss(Part):
    """A loss, with its settings as fields.

    A subclass implements `__call__` and declares its requirements as class attributes:

        class Softplus(contrastive.losses.Loss):
            '''Softplus of the margin between the positive and each negative.'''

            margin: float = 0.1

            def __call__(self, inputs):
                queries, documents = inputs.queries, inputs.documents
                batch = contrastive.losses.contrast(queries, documents, **inputs.pairs)
                ...

    Field values may be traced arrays when a sweep runs many settings in one program.
    """

    package: ClassVar[str] = "contrastive.losses"

    has_temperature: ClassVar[bool] = True
    """Whether a temperature divides the similarities."""
    has_query_temperatures: ClassVar[bool] = True
    """Whether queries from different sources may have different temperatures."""
    has_individual_temperatures: ClassVar[bool] = False
    """Whether the loss can learn one temperature for every training query."""
    needs_scores: ClassVar[bool] = False
    """Whether every document needs a score: `pos_scores` and `neg_scores` in each row."""
    accepts_unscored: ClassVar[bool] = False
    """Whether rows may be without scores where the loss needs them; their scores are NaN then."""
    needs_labels: ClassVar[bool] = False
    """Whether every row needs a `label`."""
    uses_negatives: ClassVar[bool] = True
    """Whether the loss has negatives, so that false-negative rules apply."""
    own_documents_only: ClassVar[bool] = False
    """Whether each query is compared only with the documents of its own group."""
    whole_batch: ClassVar[bool] = False
    """Whether the loss needs the whole batch, which then cannot be split into negative groups."""
    smallest_group: ClassVar[int] = 1
    """Minimum number of documents in a group."""
    largest_group: ClassVar[int | None] = None
    """Maximum number of documents in a group; None means no limit."""
    memory: ClassVar[Mapping[str, float]] = {}
    """Values that the loss stores for every example, by name, with their initial values. A loss
    with memory returns the losses and, by the same names, the new values [B]."""

    def __call__(self, inputs: LossInputs) -> Any:
        """Computes the loss.

        Args:
          inputs: Embeddings of the batch, and everything that goes with them.

        Returns:
          One loss per query [B]; for a loss with memory, a pair of that and the new memory.
        """
        raise self._not_implemented("__call__")

    def initial_values(self) -> dict[str, float]:
        """Returns initial values, by name, of scalars that are learned if the temperature is."""
        return {}

    @property
    def compares_queries(self) -> bool:
        """Whether the loss also compares queries with queries or documents with documents."""
        return False

    @property
    def scores_are_shares(self) -> bool:
        """Whether scores must not be negative."""
        return False

    def why_not_softmax(self) -> str:
        """Explains why the gradient does not weight a query's negatives by exp(s / t).

        Returns:
          The reason, for reports; an empty string if it does.
        """
        return f"{self.short_name()} weights negatives differently from InfoNCE"

    def why_not_info_nce(self) -> str:
        """Explains why the gradient is not (1 - p) r / t, which reports show as histograms.

        Returns:
          The reason, for reports; an empty string if it is.
        """
        why = self.why_not_softmax()
        return why or f"{self.short_name()} weights queries differently from InfoNCE"

    @classmethod
    def convert(cls, value: Any) -> Any:
        """Converts a plain function of `LossInputs` to a loss."""
        if callable(value) and not isinstance(value, Loss | type):
            from contrastive.losses._function import Function

            return Function(function=value)
        return value

    def __add__(self, other: Loss) -> Sum:
        return Sum(terms=(*_terms(self), *_terms(other)))

    def __mul__(self, weight: float) -> Sum:
        return Sum(terms=tuple(Term(loss=x.loss, weight=x.weight * weight) for x in _terms(self)))

    __rmul__ = __mul__


class Term(Config):
    """One term of a sum: a loss and its weight."""

    loss: Loss
    """The loss of this term."""
    weight: PositiveFloat = 1.0
    """Factor by which the loss is multiplied."""


class Sum(Loss):
    """Weighted sum of losses, all at the same temperature: `InfoNCE() + 0.5 * SpreadOut()`."""

    terms: Annotated[tuple[Term, ...], Field(min_length=1)]
    """The losses and their weights."""

    only_in_files: ClassVar[bool] = True

    def __call__(self, inputs: LossInputs) -> Any:
        total, memory = 0.0, {}
        for number, term in enumerate(self.terms):
            term_inputs = dataclasses.replace(
                inputs,
                learned=_of_term(number, inputs.learned),
                memory=_of_term(number, inputs.memory),
            )
            losses = term.loss(term_inputs)
            if term.loss.memory:
                losses, new = losses
                memory.update(_named(number, new))
            total = total + (losses if _is_one(term.weight) else term.weight * losses)
        return (total, memory) if memory else total

    def why_not_softmax(self) -> str:
        return self._reason("why_not_softmax")

    def why_not_info_nce(self) -> str:
        return self._reason("why_not_info_nce")

    def _reason(self, of: str) -> str:
        """Returns the first reason of the terms that have a softmax over negatives, or of all."""
        terms = [x for x in self.terms if _has_softmax(x.loss)] or self.terms
        reasons = [getattr(x.loss, of)() for x in terms]
        return next(filter(None, reasons), "")

    def initial_values(self) -> dict[str, float]:
        values = {}
        for number, term in enumerate(self.terms):
            values.update(_named(number, term.loss.initial_values()))
        return values

    def _any(self, trait: str) -> bool:
        return any(getattr(term.loss, trait) for term in self.terms)

    def _all(self, trait: str) -> bool:
        return all(getattr(term.loss, trait) for term in self.terms)

    @property
    def is_inert(self) -> bool:
        return self._any("is_inert")

    @property
    def has_temperature(self) -> bool:
        return self._any("has_temperature")

    @property
    def has_query_temperatures(self) -> bool:
        return self._all("has_query_temperatures")

    @property
    def has_individual_temperatures(self) -> bool:
        return False

    @property
    def needs_scores(self) -> bool:
        return self._any("needs_scores")

    @property
    def accepts_unscored(self) -> bool:
        return all(term.loss.accepts_unscored for term in self.terms if term.loss.needs_scores)

    @property
    def needs_labels(self) -> bool:
        return self._any("needs_labels")

    @property
    def uses_negatives(self) -> bool:
        return self._any("uses_negatives")

    @property
    def own_documents_only(self) -> bool:
        return self._all("own_documents_only")

    @property
    def whole_batch(self) -> bool:
        return self._any("whole_batch")

    @property
    def compares_queries(self) -> bool:
        return self._any("compares_queries")

    @property
    def scores_are_shares(self) -> bool:
        return self._any("scores_are_shares")

    @property
    def smallest_group(self) -> int:
        return max(term.loss.smallest_group for term in self.terms)

    @property
    def largest_group(self) -> int | None:
        sizes = [term.loss.largest_group for term in self.terms]
        return min((size for size in sizes if size is not None), default=None)

    @property
    def memory(self) -> dict[str, float]:
        memory = {}
        for number, term in enumerate(self.terms):
            memory.update(_named(number, term.loss.memory))
        return memory


def _is_one(weight: Any) -> bool:
    """Returns whether a weight, which a sweep may trace, is known to be 1."""
    return isinstance(weight, int | float) and weight == 1


def _has_softmax(loss: Loss) -> bool:
    return loss.has_temperature and loss.uses_negatives


def _terms(loss: Loss) -> tuple[Term, ...]:
    return loss.terms if isinstance(loss, Sum) else (Term(loss=loss),)


def _named(number: int, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{number}.{name}": value for name, value in values.items()}


def _of_term(number: int, values: Mapping[str, Any]) -> dict[str, Any]:
    prefix = f"{number}."
    return {n.removeprefix(prefix): x for n, x in values.items() if n.startswith(prefix)}

"""F2LLM's loss: an in-batch term and a hard-negative term, with a softmax each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from contrastive.losses._info_nce import info_nce
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.contrast import Temperature
from contrastive.losses._negatives.pairs import Pairs

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["F2LLM", "f2llm"]

_BY_DOCUMENT = ("document_ids", "document_pools", "valid", "guide_documents")


class F2LLM(Loss):
    """Sum of InfoNCE over the batch's positives and InfoNCE over the query's own negatives."""

    kind: ClassVar[str] = "f2llm"

    smallest_group: ClassVar[int] = 2

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        return f2llm(
            inputs.queries, inputs.documents, temperature=inputs.temperature, **inputs.pairs
        )


def f2llm(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """Sum of InfoNCE over the batch's positives and InfoNCE over the query's own negatives.

    loss_i = -log( e^(s_i+/t) / sum_j e^(q_i.d_j+/t) ) - log( e^(s_i+/t) / sum_k e^(q_i.d_ik/t) )

    where d_j+ are the positives of all queries and d_ik the documents of query i's own group. Hard
    negatives of other queries are not used. A query that has a pool of its own, as those of a
    source with in_batch=False do, has only the second term.

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`; each group needs a hard negative.
      temperature: As in `info_nce`.
      **pairs: As in `info_nce`; in_batch=False leaves only the second term.

    Returns:
      One loss per query [B], float32.

    Raises:
      ValueError: As in `info_nce`, and if groups have no hard negatives.

    Source:
      Zhang et al., 2025, arXiv:2510.02294.
    """
    hard = info_nce(queries, documents, temperature=temperature, **{**pairs, "in_batch": False})
    if not pairs.get("in_batch", True):
        return hard
    positives, of_positives = _positives_only(documents, pairs)
    return hard + info_nce(queries, positives, temperature=temperature, **of_positives)


def _positives_only(documents: Any, pairs: Pairs) -> tuple[Any, Any]:
    """Returns the positives of each group, and the keywords that describe them."""
    group_size, positives = pairs.get("group_size", 1), pairs.get("positives", 1)

    def select(values):
        groups = values.reshape(-1, group_size, *values.shape[1:])
        return groups[:, :positives].reshape(-1, *values.shape[1:])

    selected = {
        name: select(value) for name in _BY_DOCUMENT if (value := pairs.get(name)) is not None
    }
    return select(documents), {**pairs, **selected, "group_size": positives}

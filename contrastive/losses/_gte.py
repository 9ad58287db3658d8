"""GTE's loss: one softmax over all four directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from contrastive.losses._info_nce import ALL_IN_ONE, info_nce
from contrastive.losses._negatives.contrast import Temperature
from contrastive.losses._negatives.pairs import Pairs

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["gte"]


def gte(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """GTE's improved contrastive loss: one softmax over all four directions.

    Z_i = sum_j (e^(q_i.d_j/t) + e^(q_j.d_i/t)) + sum_j/=i (e^(q_i.q_j/t) + e^(d_j.d_i/t))

    The positive pair occurs in Z_i twice, so the loss is at least log 2.

    Args:
      queries: As in `info_nce`.
      documents: As in `info_nce`.
      temperature: As in `info_nce`.
      **pairs: As in `info_nce`.

    Returns:
      One loss per query [B], float32.

    Raises:
      ValueError: As in `info_nce`.

    Source:
      Li et al., 2023, arXiv:2308.03281.
    """
    return info_nce(queries, documents, temperature=temperature, directions=ALL_IN_ONE, **pairs)

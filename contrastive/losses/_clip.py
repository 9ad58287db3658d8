"""CLIP's loss: InfoNCE in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from contrastive.losses._info_nce import SYMMETRIC, info_nce
from contrastive.losses._negatives.contrast import Temperature
from contrastive.losses._negatives.pairs import Pairs

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["clip"]


def clip(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """Symmetric InfoNCE: the mean of query-to-document and document-to-query losses.

    Hard negatives count only in the query-to-document direction, as in Jina Embeddings.

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
      Radford et al., 2021, arXiv:2103.00020; Günther et al., 2023, arXiv:2310.19923.
    """
    return info_nce(queries, documents, temperature=temperature, directions=SYMMETRIC, **pairs)

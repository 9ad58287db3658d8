"""SimCLR's loss on two views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from contrastive.losses._info_nce import TWO_VIEWS, info_nce
from contrastive.losses._negatives.contrast import Temperature
from contrastive.losses._negatives.pairs import Pairs

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["nt_xent"]


def nt_xent(
    first: Float[Array, "B D"],
    second: Float[Array, "B D"],
    *,
    temperature: Temperature,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """SimCLR's loss on two views: each of the 2 B texts against the 2 B - 1 others.

    Args:
      first: Embeddings of one view [B, D].
      second: Embeddings of the other view [B, D].
      temperature: As in `info_nce`.
      **pairs: As in `info_nce`.

    Returns:
      One loss per pair [B], the mean over its two texts, float32.

    Raises:
      ValueError: As in `info_nce`.

    Source:
      Chen et al., 2020, arXiv:2002.05709.
    """
    return info_nce(first, second, temperature=temperature, directions=TWO_VIEWS, **pairs)

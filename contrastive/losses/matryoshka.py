"""Matryoshka: the first d values of an embedding are an embedding too."""

from __future__ import annotations

from jaxtyping import Array, Float

from contrastive.losses.similarity import normalize


def prefix(
    embeddings: Float[Array, "B D"], width: int, *, renormalize: bool
) -> Float[Array, "B d"]:
    """The first `width` values of each embedding.

    Args:
      embeddings: Embeddings [B, D].
      width: d, at most D.
      renormalize: Whether to scale them to unit length again.

    Returns:
      Embeddings [B, d].

    Source:
      Kusupati et al., 2022, arXiv:2205.13147.
    """
    cut = embeddings[:, :width]
    return normalize(cut) if renormalize else cut

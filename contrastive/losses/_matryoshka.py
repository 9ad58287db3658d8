"""Matryoshka: applies a loss to prefixes of the embeddings."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from contrastive.similarity import normalize

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["matryoshka", "prefix"]


def matryoshka(
    loss: Callable[..., Float[Array, " B"]],
    *,
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    renormalize: bool = True,
) -> Callable[..., Float[Array, " B"]]:
    """Applies a loss of queries and documents to prefixes of their embeddings.

    loss_i = sum_d w_d loss_i(q[:d], d[:d])

    >>> import jax.numpy as jnp
    >>> from contrastive.losses import info_nce
    >>> half = matryoshka(info_nce, dims=(2, 1))
    >>> half(jnp.eye(2), jnp.eye(2), temperature=1.0)
    Array([0.3132617 , 0.50320446], dtype=float32)

    Args:
      loss: A function of queries, documents, and any other arguments.
      dims: Prefix lengths d.
      weights: Weight w_d of each prefix's loss; None takes the mean of the losses.
      renormalize: Whether to scale prefixes to unit length.

    Returns:
      A loss with the same arguments as `loss`.

    Raises:
      ValueError: If the numbers of weights and dims differ, if a dim is below 1, or, when the loss
        is called, if a dim exceeds the width of the embeddings.

    Source:
      Kusupati et al., 2022, arXiv:2205.13147.
    """
    if not dims or min(dims) < 1:
        raise ValueError(f"dims is {list(dims)}; give at least one dim, each at least 1")
    if weights is not None and len(weights) != len(dims):
        raise ValueError(f"{len(weights)} weights for {len(dims)} dims; give one weight per dim")
    weights = [1.0 / len(dims)] * len(dims) if weights is None else weights

    def of_prefixes(queries, documents, *args, **kwargs):
        def at(dim):
            cut = (prefix(x, dim, renormalize=renormalize) for x in (queries, documents))
            return loss(*cut, *args, **kwargs)

        terms = [weight * at(dim) for dim, weight in zip(dims, weights, strict=True)]
        return functools.reduce(operator.add, terms)

    return of_prefixes


def prefix(embeddings: Float[Array, "B D"], dim: int, *, renormalize: bool) -> Float[Array, "B d"]:
    """Returns the first `dim` values of each embedding.

    Args:
      embeddings: Embeddings [B, D].
      dim: Prefix length d, at most D; with d = D embeddings are returned unchanged.
      renormalize: Whether to scale prefixes to unit length.

    Returns:
      Embeddings [B, d].

    Raises:
      ValueError: If `dim` exceeds the width of the embeddings.
    """
    if dim > embeddings.shape[1]:
        raise ValueError(f"dim is {dim}, but embeddings have only {embeddings.shape[1]} values")
    if dim == embeddings.shape[1]:
        return embeddings
    cut = embeddings[:, :dim]
    return normalize(cut) if renormalize else cut

"""Matryoshka: the first d values of an embedding are an embedding too."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence

from jaxtyping import Array, Float

from contrastive.losses.similarity import normalize


def matryoshka(
    loss: Callable[..., Float[Array, " B"]],
    *,
    widths: Sequence[int],
    weights: Sequence[float] | None = None,
    renormalize: bool = True,
) -> Callable[..., Float[Array, " B"]]:
    """Any loss of queries and documents, over prefixes of their embeddings.

    loss_i = sum_d w_d loss_i(q[:d], d[:d])

    >>> import jax.numpy as jnp
    >>> from contrastive.losses import info_nce
    >>> half = matryoshka(info_nce, widths=(2, 1))
    >>> half(jnp.eye(2), jnp.eye(2), temperature=1.0)
    Array([0.3132617 , 0.50320446], dtype=float32)

    Args:
      loss: Takes queries, documents, and anything else.
      widths: Values that are kept.
      weights: Of the losses; their mean unless given.
      renormalize: Whether prefixes are scaled to unit length.

    Returns:
      A loss with the arguments of the one given.

    Raises:
      ValueError: If there are not as many weights as widths, or a width is below 1 or, when the
        loss is called, above that of the embeddings.

    Source:
      Kusupati et al., 2022, arXiv:2205.13147.
    """
    if not widths or min(widths) < 1:
        raise ValueError(f"widths are {list(widths)}; at least one, and each at least 1")
    if weights is not None and len(weights) != len(widths):
        raise ValueError(f"{len(weights)} weights for {len(widths)} widths; give one each")
    weights = [1.0 / len(widths)] * len(widths) if weights is None else weights

    def of_prefixes(queries, documents, *args, **kwargs):
        def at(width):
            cut = (prefix(x, width, renormalize=renormalize) for x in (queries, documents))
            return loss(*cut, *args, **kwargs)

        terms = [weight * at(width) for width, weight in zip(widths, weights, strict=True)]
        return functools.reduce(operator.add, terms)

    return of_prefixes


def prefix(
    embeddings: Float[Array, "B D"], width: int, *, renormalize: bool
) -> Float[Array, "B d"]:
    """The first `width` values of each embedding.

    Args:
      embeddings: Embeddings [B, D].
      width: d, at most D; all of them are left as they are.
      renormalize: Whether to scale them to unit length again.

    Returns:
      Embeddings [B, d].

    Raises:
      ValueError: If there are fewer values.
    """
    if width > embeddings.shape[1]:
        raise ValueError(f"width {width} of embeddings that have {embeddings.shape[1]} values")
    if width == embeddings.shape[1]:
        return embeddings
    cut = embeddings[:, :width]
    return normalize(cut) if renormalize else cut

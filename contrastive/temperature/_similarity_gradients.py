"""Gradients of a loss in the similarities of one query's documents."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["similarity_gradients"]


def similarity_gradients(
    loss: Callable[[Float[Array, "1 D"], Float[Array, "N D"]], Float[Array, " 1"]],
    similarities: Float[Array, " N"],
) -> Float[Array, " N"]:
    """Derivatives of one query's loss in its similarity to each document.

    w_j = dloss/ds_j: positive pushes document j away, negative pulls it closer

    The documents are unit vectors with the given cosines to the query; their components across the
    query are orthogonal to each other. Each document moves only along the query, which changes its
    length. For a loss that normalizes embeddings itself, derivatives are therefore scaled by
    1 - s_j^2.

    >>> import functools
    >>> from contrastive.losses import info_nce
    >>> loss = functools.partial(info_nce, temperature=0.5, group_size=3)
    >>> similarity_gradients(loss, jnp.array([0.5, 0.5, 0.5]))  # (p_j - [j is the positive]) / t
    Array([-1.3333333,  0.6666666,  0.6666666], dtype=float32)

    Args:
      loss: Function of queries and documents, for example `info_nce` with all other arguments
        bound, including group_size=N.
      similarities: Cosines of the query's documents [N], the positive first.

    Returns:
      One derivative per document [N], float32.
    """
    across = jnp.sqrt(1.0 - similarities**2)
    documents = jnp.concatenate([similarities[:, None], jnp.diag(across)], axis=1)
    query = jnp.eye(1, documents.shape[1])
    return jax.grad(lambda d: loss(query, d).sum())(documents)[:, 0]

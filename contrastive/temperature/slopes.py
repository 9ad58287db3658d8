"""How a loss pushes the documents of one query."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def slopes(
    loss: Callable[[Float[Array, "1 D"], Float[Array, "N D"]], Float[Array, " 1"]],
    similarities: Float[Array, " N"],
) -> Float[Array, " N"]:
    """Derivative of one query's loss in its similarity to each document.

    w_j = dloss/ds_j: positive pushes document j away, negative pulls it closer

    The documents are unit vectors with just these cosines to the query, and orthogonal to each
    other besides. A document moves along the query alone, which changes its length: of a loss that
    normalises embeddings itself the slopes are 1 - s_j^2 of what they would be otherwise.

    >>> import functools
    >>> from contrastive.losses import info_nce
    >>> loss = functools.partial(info_nce, temperature=0.5, group_size=3)
    >>> slopes(loss, jnp.array([0.5, 0.5, 0.5]))  # (p_j - [j is the positive]) / t
    Array([-1.3333333,  0.6666666,  0.6666666], dtype=float32)

    Args:
      loss: Of queries and documents, for example `info_nce` with all else given, group_size=N too.
      similarities: Cosines of the query's documents [N], the positive first.

    Returns:
      One slope a document [N], float32.
    """
    across = jnp.sqrt(1.0 - similarities**2)
    documents = jnp.concatenate([similarities[:, None], jnp.diag(across)], axis=1)
    query = jnp.eye(1, documents.shape[1])
    return jax.grad(lambda d: loss(query, d).sum())(documents)[:, 0]

"""Similarities of embeddings, always in float32."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def normalize(embeddings: Float[Array, "... D"], *, eps: float = 1e-12) -> Float[Array, "... D"]:
    """Scales vectors to unit length.

    x / ||x||, and zero, with zero gradient, where ||x|| <= eps.

    Args:
      embeddings: Vectors [..., D] of any float type.
      eps: Length at or under which a vector counts as zero.

    Returns:
      Unit vectors [..., D] in float32.
    """
    x = embeddings.astype(jnp.float32)
    squared = jnp.sum(x * x, axis=-1, keepdims=True)
    is_zero = squared <= eps * eps
    # The inner `where` keeps the gradient of the branch not taken finite.
    return jnp.where(is_zero, 0.0, x * lax.rsqrt(jnp.where(is_zero, 1.0, squared)))


def dot(queries: Float[Array, "B D"], documents: Float[Array, "N D"]) -> Float[Array, "B N"]:
    """Every dot product, s_ij = q_i . d_j, accumulated in float32.

    The full float32 product is asked for: at temperature 0.02 the three decimal digits of a TPU's
    or TF32's default would move logits by 0.05.

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [N, D].

    Returns:
      Similarities [B, N] in float32.
    """
    return lax.dot_general(
        queries,
        documents,
        (((1,), (1,)), ((), ())),
        precision=lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )


def cosine(queries: Float[Array, "B D"], documents: Float[Array, "N D"]) -> Float[Array, "B N"]:
    """Every cosine, s_ij = q_i . d_j / (||q_i|| ||d_j||).

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [N, D].

    Returns:
      Cosines [B, N] in float32, 0 where either vector is zero.
    """
    return dot(normalize(queries), normalize(documents))


def paired_dot(a: Float[Array, "... D"], b: Float[Array, "... D"]) -> Float[Array, "..."]:
    """Dot products of vectors in the same place, s_i = a_i . b_i.

    Args:
      a: Embeddings [..., D].
      b: Embeddings [..., D].

    Returns:
      Similarities [...] in float32.
    """
    return jnp.sum(a.astype(jnp.float32) * b.astype(jnp.float32), axis=-1)

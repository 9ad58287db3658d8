"""Similarities of embeddings, always in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrastive.lazy import jnp, lax

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["cosine", "dot", "normalize", "paired_dot"]


def normalize(embeddings: Float[Array, "... D"], *, eps: float = 1e-12) -> Float[Array, "... D"]:
    """Scales vectors to unit length.

    x / ||x||, or zero with zero gradient if ||x|| <= eps

    Args:
      embeddings: Vectors [..., D] of any floating-point type.
      eps: Length at or below which a vector counts as zero.

    Returns:
      Unit vectors [..., D] in float32.
    """
    x = embeddings.astype(jnp.float32)
    squared = jnp.sum(x * x, axis=-1, keepdims=True)
    is_zero = squared <= eps * eps
    # The inner `where` keeps the gradient of the unused branch finite.
    return jnp.where(is_zero, 0.0, x * lax.rsqrt(jnp.where(is_zero, 1.0, squared)))


def dot(queries: Float[Array, "B D"], documents: Float[Array, "N D"]) -> Float[Array, "B N"]:
    """All dot products, s_ij = q_i . d_j, accumulated in float32.

    It requests full float32 precision: at temperature 0.02, the three decimal digits of TF32 or of
    a TPU's default would change logits by 0.05.

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
    """All cosines, s_ij = q_i . d_j / (||q_i|| ||d_j||).

    Args:
      queries: Embeddings [B, D].
      documents: Embeddings [N, D].

    Returns:
      Cosines [B, N] in float32, 0 if either vector is zero.
    """
    return dot(normalize(queries), normalize(documents))


def paired_dot(a: Float[Array, "... D"], b: Float[Array, "... D"]) -> Float[Array, "..."]:
    """Dot products of corresponding vectors, s_i = a_i . b_i.

    Args:
      a: Embeddings [..., D].
      b: Embeddings [..., D].

    Returns:
      Similarities [...] in float32.
    """
    return jnp.sum(a.astype(jnp.float32) * b.astype(jnp.float32), axis=-1)


def __dir__() -> list[str]:
    return __all__

"""Alignment and uniformity on the unit sphere, used as a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Unpack

from pydantic import PositiveFloat

from contrastive.lazy import jax, jnp
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.contrast import Contrast, contrast
from contrastive.losses._negatives.masks import Direction
from contrastive.losses._negatives.pairs import Pairs
from contrastive.losses._terms import batch_mean
from contrastive.losses._tiles import gather

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["AlignUniform", "align_uniform"]


class AlignUniform(Loss):
    """Alignment of positives and uniformity of everything else; has no temperature."""

    power: PositiveFloat = 2.0
    """Exponent of the distance between a query and its positive."""
    sharpness: PositiveFloat = 2.0
    """Sharpness u of the uniformity term, the log of the mean of exp(-u distance^2)."""
    weight: PositiveFloat = 1.0
    """Weight of the uniformity term."""

    has_temperature: ClassVar[bool] = False

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        return align_uniform(
            inputs.queries,
            inputs.documents,
            power=self.power,
            sharpness=self.sharpness,
            weight=self.weight,
            **inputs.pairs,
        )

    @property
    def compares_queries(self) -> bool:
        return True


def align_uniform(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    power: float = 2.0,
    sharpness: float = 2.0,
    weight: float = 1.0,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """Alignment and uniformity: pulls positives together and spreads everything else out.

    loss_i = ||q_i - d_i+||^p + w (U(q) + U(d)) / 2, U(x) = log mean_{i/=j} exp(-u ||x_i - x_j||^2)

    Args:
      queries: Unit vectors [B, D].
      documents: Unit vectors, as in `info_nce`. U(d) compares each positive with the documents of
        other queries.
      power: Exponent p of the distance between a query and its positive.
      sharpness: Sharpness u of the uniformity term.
      weight: Weight w of the uniformity term.
      **pairs: As in `info_nce`; U leaves out known false negatives.

    Returns:
      One loss per query [B], float32. U is computed over the whole batch.

    Raises:
      ValueError: As in `info_nce`.

    Source:
      Wang & Isola, 2020, arXiv:2005.10242.
    """
    batch = contrast(queries, documents, **pairs)
    # Not 2 - 2 s, which loses digits when positives are close. The lower bound avoids the infinite
    # slope of the square root at 0.
    differences = (queries - batch.first_positives).astype(jnp.float32)
    squared = jnp.maximum(jnp.sum(differences**2, axis=-1), 1e-12)
    uniformity = _uniformity(batch, "query_to_query", sharpness, pairs)
    uniformity += _uniformity(batch, "document_to_document", sharpness, pairs)
    return squared ** (power / 2) + weight * uniformity / 2


def _uniformity(batch: Contrast, direction: Direction, sharpness, pairs):
    """Computes U from a log-partition: exp(-u (2 - 2 s)) corresponds to temperature 1 / (2 u)."""
    axis_name = pairs.get("axis_name")
    log_sums = batch.log_negatives(0.5 / sharpness, direction=direction) - 2.0 * sharpness
    count = batch_mean(batch.count_negatives(direction), axis_name)
    log_sums = gather(log_sums, axis_name)
    some = log_sums != -jnp.inf
    total = jax.nn.logsumexp(jnp.where(some, log_sums, -1e9))
    log_mean = total - jnp.log(log_sums.shape[0] * jnp.maximum(count, 1e-9))
    return jnp.where(count > 0, log_mean, 0.0)

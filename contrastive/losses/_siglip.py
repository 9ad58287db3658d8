"""SigLIP: binary classification of every pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Unpack

from contrastive.lazy import jax, jnp
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.contrast import Temperature, contrast
from contrastive.losses._negatives.masks import TextInfo
from contrastive.losses._negatives.pairs import Pairs
from contrastive.losses._partition import check_temperature

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = ["SigLIP", "siglip"]


class SigLIP(Loss):
    """Classifies every pair as positive or negative; start with temperature 0.1, learned."""

    kind: ClassVar[str] = "siglip"

    bias: float = -10.0
    """Initial bias added to logits; it is learned if the temperature is learned."""

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        return siglip(
            inputs.queries,
            inputs.documents,
            temperature=inputs.temperature,
            bias=inputs.learned.get("bias", self.bias),
            **inputs.pairs,
        )

    def initial_values(self) -> dict[str, float]:
        return {"bias": self.bias}


def siglip(
    queries: Float[Array, "B D"],
    documents: Float[Array, "N D"],
    *,
    temperature: Temperature,
    bias: float | Float[Array, ""] = -10.0,
    **pairs: Unpack[Pairs],
) -> Float[Array, " B"]:
    """Sigmoid loss: binary cross-entropy of each pair, without a softmax over negatives.

    loss_i = softplus(-(s_i+ / t + b)) + sum_j- softplus(s_ij / t + b)

    Args:
      queries: Embeddings [B, D]; normalize them for cosines.
      documents: As in `info_nce`.
      temperature: As in `info_nce`; SigLIP learns it, starting from 0.1.
      bias: Bias b, negative because most pairs are negatives. SigLIP learns it, starting from -10.
      **pairs: As in `info_nce`.

    Returns:
      One loss per query [B], float32.

    Raises:
      ValueError: As in `info_nce`.

    Source:
      Zhai et al., 2023, arXiv:2303.15343.
    """
    check_temperature(temperature)
    batch = contrast(queries, documents, several=True, **pairs)
    negatives = batch.sum_negatives(_no, temperature, given={"bias": bias})
    logits = batch.own_similarities / jnp.asarray(temperature)[..., None] + bias
    yes = jnp.where(batch.own_valid, jax.nn.softplus(-logits), 0.0).sum(axis=1)
    return yes + negatives


def _no(similarities, scale, rows: TextInfo, columns):
    del columns
    return jax.nn.softplus(similarities * scale + rows.given["bias"][:, None])

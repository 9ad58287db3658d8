"""Supervised contrastive loss: texts of the same class are positives."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from contrastive.lazy import jax, jnp, lax
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.contrast import Temperature
from contrastive.losses._negatives.pairs import check_finite
from contrastive.losses._partition import (
    log_partition,
    one,
    pair_sum,
    scaled,
)
from contrastive.losses._tiles import Axis

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

__all__ = ["SupCon", "sup_con"]


class SupCon(Loss):
    """Treats all texts with the same "label" as positives, queries and documents alike."""

    inside: bool = False
    """Take the mean over positives inside the logarithm (L_in) instead of outside (L_out)."""

    needs_labels: ClassVar[bool] = True
    uses_negatives: ClassVar[bool] = False
    whole_batch: ClassVar[bool] = True
    largest_group: ClassVar[int | None] = 1

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        # A query and its document are two texts of one class; a row's loss is the mean of the two.
        temperature = inputs.temperature
        if jnp.ndim(temperature):
            temperature = jnp.tile(temperature, 2)
        losses = sup_con(
            jnp.concatenate([inputs.queries, inputs.documents]),
            jnp.tile(jnp.asarray(inputs.required("labels")), 2),
            temperature=temperature,
            inside=self.inside,
            tile=inputs.pairs.get("tile"),
            axis_name=inputs.pairs.get("axis_name"),
            ring=inputs.pairs.get("ring", False),
        )
        return losses.reshape(2, -1).mean(axis=0)

    @property
    def compares_queries(self) -> bool:
        return True


def sup_con(
    embeddings: Float[Array, "B D"],
    labels: Int[Array, " B"],
    *,
    temperature: Temperature,
    inside: bool = False,
    tile: int | None = None,
    axis_name: Axis = None,
    ring: bool = False,
) -> Float[Array, " B"]:
    """Supervised contrastive loss: each text against all others, its class as positives.

    L_out: loss_i = log sum_{a/=i} exp(s_ia / t) - mean_{p of i's class} s_ip / t
    L_in:  loss_i = log sum_{a/=i} exp(s_ia / t) - log mean_{p of i's class} exp(s_ip / t)

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[1., 0.], [1., 0.], [0., 1.]])
    >>> sup_con(x, jnp.array([7, 7, 8]), temperature=1.0)  # log(e + 1) - 1, twice
    Array([0.3132617, 0.3132617, 0.       ], dtype=float32)

    Args:
      embeddings: Embeddings of B texts [B, D]; normalize them for cosines. Views of the same text
        have the same label.
      labels: Class id of each text [B].
      temperature: Positive scalar, or one per text [B].
      inside: Whether to take the mean inside the logarithm: L_in, which the paper finds worse.
      tile: As in `log_partition`.
      axis_name: As in `log_partition`.
      ring: As in `log_partition`.

    Returns:
      One loss per text [B], float32; 0 for a text that is alone in its class.

    Raises:
      ValueError: If a temperature is not positive or labels do not match the embeddings.

    Source:
      Khosla et al., 2020, arXiv:2004.11362.
    """
    batch = embeddings.shape[0]
    if labels.shape != (batch,):
        raise ValueError(
            f"labels have shape {labels.shape} for {batch} texts; give one label per text"
        )
    check_finite("embeddings", embeddings)
    first = 0 if axis_name is None else lax.axis_index(axis_name) * batch
    about = {"number": first + jnp.arange(batch), "label": jnp.asarray(labels)}
    spread = {"tile": tile, "axis_name": axis_name, "ring": ring}
    both = {"rows": about, "columns": about, **spread}
    texts = (embeddings, embeddings)
    negatives = log_partition(*texts, temperature=temperature, keep=_other_class, **both)
    positives = log_partition(*texts, temperature=temperature, keep=_same_class, **both)
    count = lax.stop_gradient(pair_sum(*texts, value=one, keep=_same_class, **both))
    has_positives, count = count > 0, jnp.maximum(count, 1.0)
    together = jnp.where(has_positives, positives, 0.0)
    # Separate sums of positives and negatives keep the precision of a small loss, as in `info_nce`.
    loss = jax.nn.softplus(negatives - together)
    if inside:
        loss += jnp.log(count)
    else:
        total = pair_sum(*texts, value=scaled, temperature=temperature, keep=_same_class, **both)
        loss += together - total / count
    return jnp.where(has_positives, loss, 0.0)


def _other_class(similarities, rows, columns):
    del similarities
    return rows["label"][:, None] != columns["label"][None, :]


def _same_class(similarities, rows, columns):
    same = ~_other_class(similarities, rows, columns)
    return same & (rows["number"][:, None] != columns["number"][None, :])

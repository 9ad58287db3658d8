"""SupCon: every text of the same class is a positive."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from contrastive.losses.contrast import Temperature
from contrastive.losses.pairs import check_finite
from contrastive.losses.partition import log_partition, one, pair_sum, scaled
from contrastive.losses.tiles import Axis


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
    """Supervised contrastive loss: each text against all others, those of its class positives.

    L_out: loss_i = log sum_{a/=i} exp(s_ia / t) - mean_{p of i's class} s_ip / t
    L_in:  loss_i = log sum_{a/=i} exp(s_ia / t) - log mean_{p of i's class} exp(s_ip / t)

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[1., 0.], [1., 0.], [0., 1.]])
    >>> sup_con(x, jnp.array([7, 7, 8]), temperature=1.0)  # log(e + 1) - 1, twice
    Array([0.3132617, 0.3132617, 0.       ], dtype=float32)

    Args:
      embeddings: B texts [B, D]; normalise them for cosines. Views of one text share its label.
      labels: Class of each text [B].
      temperature: Positive scalar, or one a text [B].
      inside: Whether the mean is inside the logarithm: L_in, which the paper finds the worse one.
      tile: As in `log_partition`.
      axis_name: As in `log_partition`.
      ring: As in `log_partition`.

    Returns:
      One loss a text [B], float32; 0 where no other text is of its class.

    Raises:
      ValueError: For a temperature that is not positive, or labels that do not fit.

    Source:
      Khosla et al., 2020, arXiv:2004.11362.
    """
    batch = embeddings.shape[0]
    if labels.shape != (batch,):
        raise ValueError(f"labels {labels.shape} for {batch} texts; give one each")
    check_finite("embeddings", embeddings)
    first = 0 if axis_name is None else lax.axis_index(axis_name) * batch
    about = {"number": first + jnp.arange(batch), "label": jnp.asarray(labels)}
    spread = {"tile": tile, "axis_name": axis_name, "ring": ring}
    both = {"rows": about, "columns": about, **spread}
    texts = (embeddings, embeddings)
    negatives = log_partition(*texts, temperature=temperature, keep=_other_class, **both)
    positives = log_partition(*texts, temperature=temperature, keep=_same_class, **both)
    count = lax.stop_gradient(pair_sum(*texts, value=one, keep=_same_class, **both))
    some, count = count > 0, jnp.maximum(count, 1.0)
    together = jnp.where(some, positives, 0.0)
    # Positives and negatives apart keep every digit of a small loss, as in `info_nce`.
    loss = jax.nn.softplus(negatives - together)
    if inside:
        loss += jnp.log(count)
    else:
        total = pair_sum(*texts, value=scaled, temperature=temperature, keep=_same_class, **both)
        loss += together - total / count
    return jnp.where(some, loss, 0.0)


def _other_class(similarities, rows, columns):
    del similarities
    return rows["label"][:, None] != columns["label"][None, :]


def _same_class(similarities, rows, columns):
    same = ~_other_class(similarities, rows, columns)
    return same & (rows["number"][:, None] != columns["number"][None, :])

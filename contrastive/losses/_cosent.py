"""CoSENT and AnglE: losses on the ranking of scored pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from contrastive.lazy import jax, jnp, lax
from contrastive.losses._loss import Loss, LossInputs
from contrastive.losses._negatives.pairs import check_finite
from contrastive.losses._partition import check_temperature
from contrastive.losses._tiles import Axis, gather
from contrastive.similarity import normalize, paired_dot

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

__all__ = ["CoSENT", "angle", "cosent"]


class CoSENT(Loss):
    """Ranks pairs by similarity as their "pos_scores" and "neg_scores" rank them."""

    kind: ClassVar[str] = "cosent"

    angle: bool = False
    """Use AnglE: compare angles of embeddings read as complex vectors, instead of cosines."""

    has_query_temperatures: ClassVar[bool] = False
    needs_scores: ClassVar[bool] = True
    uses_negatives: ClassVar[bool] = False
    whole_batch: ClassVar[bool] = True

    def __call__(self, inputs: LossInputs) -> Float[Array, " B"]:
        # Each document forms a pair with its query. The batch's loss is repeated for each query.
        scores = inputs.required("scores")
        group_size = scores.shape[1]
        pools = inputs.pairs.get("document_pools")
        losses = (angle if self.angle else cosent)(
            jnp.repeat(inputs.queries, group_size, axis=0),
            inputs.documents,
            scores.reshape(-1),
            temperature=inputs.temperature,
            valid=None if pools is None else pools >= 0,
            axis_name=inputs.pairs.get("axis_name"),
        )
        return losses[::group_size]

    @property
    def compares_queries(self) -> bool:
        return True


def cosent(
    queries: Float[Array, "B D"],
    documents: Float[Array, "B D"],
    scores: Float[Array, " B"],
    *,
    temperature: float | Float[Array, ""] = 0.05,
    valid: Bool[Array, " B"] | None = None,
    axis_name: Axis = None,
) -> Float[Array, " B"]:
    """CoSENT: pairs with a higher score should be more similar.

    loss = log( 1 + sum_{y_i > y_j} exp((s_j - s_i) / t) )

    Args:
      queries: Embeddings of one side of the pairs [B, D]; normalize both sides for cosines.
      documents: Embeddings of the other side [B, D].
      scores: Scores y of the pairs [B]; only their order matters.
      temperature: Positive scalar t.
      valid: Mask of the pairs that count [B]; None means all.
      axis_name: Mapped axis or axes of devices whose pairs are also compared.

    Returns:
      The loss of the whole batch, repeated for each pair [B], so that its mean is the loss.

    Raises:
      ValueError: If shapes do not match or the temperature is not positive.

    Source:
      Su, 2022; Huang et al., 2024, doi:10.1109/TASLP.2024.3402087.
    """
    _check_pairs(queries, documents, scores, temperature, valid)
    similarities = paired_dot(queries, documents)
    return _ordered(similarities, scores, temperature, valid, axis_name)


def angle(
    queries: Float[Array, "B D"],
    documents: Float[Array, "B D"],
    scores: Float[Array, " B"],
    *,
    temperature: float | Float[Array, ""] = 0.05,
    valid: Bool[Array, " B"] | None = None,
    axis_name: Axis = None,
) -> Float[Array, " B"]:
    """AnglE: CoSENT on the angle between embeddings read as complex vectors.

    s = |Re z + Im z|, z = sum_k x_k conj(y_k), x_k = x[k] + i x[k + D/2], x and y of unit length

    Unlike a cosine's, its gradient does not vanish near 1 or -1.

    Args:
      queries: As in `cosent`; vectors may have any length.
      documents: As in `cosent`.
      scores: As in `cosent`.
      temperature: As in `cosent`.
      valid: As in `cosent`.
      axis_name: As in `cosent`.

    Returns:
      As in `cosent`.

    Raises:
      ValueError: As in `cosent`.

    Source:
      Li & Li, 2023, arXiv:2309.12871.
    """
    _check_pairs(queries, documents, scores, temperature, valid)
    (a, b), (c, d) = (_halves(normalize(x)) for x in (queries, documents))
    similarities = jnp.abs(jnp.sum(a * c + b * d, axis=-1) + jnp.sum(b * c - a * d, axis=-1))
    return _ordered(similarities, scores, temperature, valid, axis_name)


def _ordered(similarities, scores, temperature, valid, axis_name):
    """Sorts pairs and takes the log-sum-exp over all higher-scored ones, in O(B log B)."""
    check_temperature(temperature)
    shape = similarities.shape
    scores = jnp.asarray(scores, jnp.float32)
    valid = jnp.ones(shape, bool) if valid is None else jnp.asarray(valid, bool)
    similarities, scores, valid = gather((similarities, scores, valid), axis_name)
    logits = similarities / temperature
    order = jnp.argsort(scores)
    logits, scores, valid = logits[order], scores[order], valid[order]
    # higher[k] = log of the sum of exp(-logit) over pairs k, k + 1, ...
    higher = lax.cumlogsumexp(jnp.where(valid, -logits, -jnp.inf), reverse=True)
    higher = jnp.append(higher, -jnp.inf)
    first_higher = jnp.searchsorted(scores, scores, side="right")
    terms = jnp.where(valid, logits + higher[first_higher], -jnp.inf)
    some = jnp.any(terms != -jnp.inf)
    together = jax.nn.logsumexp(jnp.where(some, terms, 0.0))
    return jnp.broadcast_to(jnp.where(some, jax.nn.softplus(together), 0.0), shape)


def _halves(x):
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2)))
    return jnp.split(x, 2, axis=1)


def _check_pairs(queries, documents, scores, temperature, valid):
    if queries.shape != documents.shape or scores.shape != queries.shape[:1]:
        raise ValueError(
            f"{queries.shape[0]} queries need one document and one score each; got documents "
            f"{documents.shape} for queries {queries.shape}, and scores {scores.shape}"
        )
    if valid is not None and jnp.shape(valid) != queries.shape[:1]:
        raise ValueError(f"valid has shape {jnp.shape(valid)} for {queries.shape[0]} pairs")
    if jnp.ndim(temperature):
        raise ValueError(
            f"temperature has shape {jnp.shape(temperature)}; pairs of queries are compared, so it "
            "must be a scalar"
        )
    check_finite("queries", queries)
    check_finite("documents", documents)

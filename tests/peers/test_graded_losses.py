"""Graded, distilled, triplet and spreading losses against the real sentence-transformers.

Values, and gradients of embeddings and temperatures; the peer in float64 is the truth.
"""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from parity import BATCH, MODEL, TEMPERATURE, compare, cosines, embeddings, features, ours, theirs
from scipy.special import entr, softmax
from sentence_transformers.sentence_transformer import losses as peer
from sentence_transformers.sentence_transformer.losses.triplet import TripletDistanceMetric

from contrastive import losses

GRADES = np.array([0.2, 1.0, 0.2, 0.7, 0.0, 1.0], np.float32)


def test_cosent():
    def build(temperature):
        return peer.CoSENTLoss(MODEL, scale=1 / temperature)

    compare(
        cosines(losses.cosent, GRADES),
        theirs(build, GRADES),
        *embeddings(),
        temperature=TEMPERATURE,
    )


@pytest.mark.parametrize("width", [8, 7], ids=["even width", "odd width"])
def test_angle(width):
    def build(temperature):
        return peer.AnglELoss(MODEL, scale=1 / temperature)

    compare(
        ours(losses.angle, GRADES),
        theirs(build, GRADES),
        *embeddings(width=width),
        temperature=TEMPERATURE,
    )


def teacher_scores(negatives):
    return np.random.default_rng(2).normal(size=(BATCH, 1 + negatives)).astype(np.float32)


@pytest.mark.parametrize("negatives", [1, 3])
def test_margin_mse(negatives):
    scores = teacher_scores(negatives)
    loss = theirs(lambda: peer.MarginMSELoss(MODEL), scores)
    compare(ours(losses.margin_mse, scores), loss, *embeddings(negatives))


# Theirs takes the teacher's entropy off, and multiplies by the student's temperature, squared.
@pytest.mark.parametrize("negatives", [1, 3])
def test_distill_kl_div(negatives):
    scores, teacher_temperature = teacher_scores(negatives), 0.5
    entropy = entr(softmax(scores / teacher_temperature, axis=1)).sum(axis=1)

    def divergence(*args, temperature):
        crossed = losses.distill_kl(
            *args, temperature=temperature, teacher_temperature=teacher_temperature
        )
        return temperature**2 * (crossed - entropy)

    def build(temperature):
        return peer.DistillKLDivLoss(
            MODEL, student_temperature=temperature, teacher_temperature=teacher_temperature
        )

    compare(
        ours(divergence, scores), theirs(build, scores), *embeddings(negatives), temperature=2.0
    )


@pytest.mark.parametrize("negatives", [1, 3])
def test_triplet(negatives):
    loss = peer.TripletLoss(MODEL, TripletDistanceMetric.COSINE, triplet_margin=0.5)

    def of_each_negative(queries, documents):
        query, positive, *others = features(queries, documents)
        values = [loss([query, positive, other], torch.empty(0)) for other in others]
        return torch.stack(values).mean()

    options = {"margin": 0.5, "in_batch": False, "group_size": 1 + negatives}
    compare(cosines(losses.triplet, **options), of_each_negative, *embeddings(negatives))


def close_together(negatives):
    """Embeddings whose second moments are above 1/D."""
    return (x + 1 for x in embeddings(negatives))


def orthogonal(**options):
    def loss(queries, documents):
        terms = peer.GlobalOrthogonalRegularizationLoss(MODEL, **options)(
            features(queries, documents)
        )
        return sum(terms.values())

    return loss


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, {}),
        ({"mean_weight": 0.7, "second_moment_weight": 0.3},) * 2,
        # A sum over two columns is twice their mean.
        (
            {"mean_weight": 0.0, "aggregation": "sum"},
            {"mean_weight": 0.0, "second_moment_weight": 2.0},
        ),
    ],
    ids=["default", "weighted", "EmbeddingGemma's"],
)
def test_global_orthogonal_regularization(options, weights):
    compare(cosines(losses.spread_out, **weights), orthogonal(**options), *close_together(0))


# Hard negatives are a column of their own; ours takes them as further documents of the positives.
def test_global_orthogonal_regularization_of_triplets():
    def of_columns(queries, documents):
        columns = (queries, documents[::2], documents[1::2])
        return jnp.stack([losses.spread_out(x, x) for x in columns])

    compare(cosines(of_columns), orthogonal(), *close_together(1))

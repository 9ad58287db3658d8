"""Every loss of the library, called alike, and what it must be where that can be said by hand."""

import dataclasses
import importlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import naive
import numpy as np
import reference
from reference import World, softplus

from contrastive import losses

B, G, D = 3, 2, 4
RHO = 0.3  # of sogclr
SCORES = np.array([1, 2, 1, 3, 1, 0], np.float32)  # all positives alike


@dataclasses.dataclass(frozen=True)
class Case:
    """A loss, and what it must be.

    loss: of queries, documents, temperature, and what is known of the texts.
    truth: of a `World`, in float64.
    equal: of three queries with two documents each, when every similarity is s: a number, an array
      [B], or a function of s and t.
    alone: of a query without negatives, whose positive has similarity s; likewise.
    masks: which of "pools" and "ids" can leave it without negatives.
    names: what it calls its embeddings.
      needs_hard_negatives: whether it refuses groups of one document.
    """

    loss: Callable[..., Any]
    truth: Callable[[World], np.ndarray]
    equal: Any
    alone: Any = 0.0
    masks: tuple[str, ...] = ("pools", "ids")
    names: tuple[str, ...] = ("queries", "documents")
    needs_hard_negatives: bool = False


def of_pairs(
    loss, truth, equal, alone=0.0, *, timeless=False, needs_hard_negatives=False, **options
):
    """A loss that is told all that is known of the texts."""

    def called(q, d, t, known):
        given = options if timeless else {"temperature": t, **options}
        return loss(q, d, group_size=len(d) // len(q), **given, **known)

    return Case(called, truth, equal, alone, needs_hard_negatives=needs_hard_negatives)


def scores(q, d):
    return SCORES[: len(d)].reshape(len(q), -1)


def places(known):
    """-1 where there is no document, from whatever says so."""
    return known["document_pools"] if "document_pools" in known else known["valid"] - 1


def of_group(loss, truth, equal, *, timeless=False, needs_hard_negatives=False, **options):
    """A loss of a query's own documents."""

    def called(q, d, t, known):
        given = options if timeless else {"temperature": t, **options}
        return loss(q, d, scores(q, d), document_pools=places(known), **given)

    return Case(
        called,
        lambda w: truth(w, scores(w.q, w.d)),
        equal,
        masks=("pools",),
        needs_hard_negatives=needs_hard_negatives,
    )


def of_scored_pairs(loss, truth):
    """A loss of every document with its query; one number."""

    def called(q, d, t, known):
        group_size = len(d) // len(q)
        queries = jnp.repeat(q, group_size, axis=0)
        there = places(known) >= 0
        return loss(queries, d, SCORES[: len(d)], temperature=t, valid=there)[::group_size]

    def true(w):
        g = w.group_size
        pairs = World(np.repeat(w.q, g, axis=0), w.d, np.repeat(w.t, g))
        return truth(pairs, SCORES[: len(w.d)])[::g]

    # 15 pairs of pairs, of which 3 have one score; positives alone are in no order.
    return Case(called, true, math.log(1 + 12), masks=("pools",))


def m3(q, d, t, known):
    return losses.distill_m3(q, d, scores(q, d), temperature=t, **known)


def true_m3(w):
    return naive.distill_m3(w.q, w.d, scores(w.q, w.d), w.t)[0]


def true_kl(w, teacher_scores):
    return naive.distill_kl(w.q, w.d, teacher_scores, w.t)[0]


def sup_con(q, d, t, known):
    """Queries and their positives, two classes, or as many as there are pools of queries."""
    classes = known.get("query_pools", np.zeros(len(q), np.int32))
    texts, labels = jnp.concatenate([q, d[:: len(d) // len(q)]]), [classes, classes + len(q)]
    return losses.sup_con(texts, jnp.concatenate(labels), temperature=t)


def true_sup_con(w):
    texts, labels = np.concatenate([w.q, w.d[:: w.group_size]]), np.repeat([0, 1], len(w.q))
    return reference.sup_con(texts, labels, np.repeat(w.t, 2))


def sogclr(q, d, *, temperature, **known):
    new = jnp.full(len(q), -jnp.inf)
    return losses.sogclr(q, d, new, temperature=temperature, rho=RHO, **known).losses


def alone(q, d, **options):
    return losses.info_nce(q, d, **{**options, "in_batch": False})


def true_alone(w):
    return reference.info_nce(dataclasses.replace(w, in_batch=False))


def true_matryoshka(w):
    q, d = (x[:, :2] / np.linalg.norm(x[:, :2], axis=1, keepdims=True) for x in (w.q, w.d))
    short = dataclasses.replace(w, q=q, d=d)
    return (reference.info_nce(w) + reference.info_nce(short)) / 2


TWO_WIDTHS = losses.matryoshka(losses.info_nce, dims=(D, 2))
WEIGHTED = {"hardness": 5.0, "label_smoothing": 0.1}
FIRST = 1 / (1 + np.exp([1.0, 2.0, -1.0]))  # the teacher's share of the positive
BIAS = -10.0


CASES = {
    "info_nce": of_pairs(losses.info_nce, reference.info_nce, math.log(6)),
    "info_nce weighted": of_pairs(
        losses.info_nce,
        partial(reference.info_nce, **WEIGHTED),
        lambda s, t: math.log1p(5 * math.exp(5 * s)),
        **WEIGHTED,
    ),
    "info_nce alone": of_pairs(alone, true_alone, math.log(2), needs_hard_negatives=True),
    "clip": of_pairs(
        losses.clip,
        partial(reference.info_nce, directions=losses.SYMMETRIC),
        (math.log(6) + math.log(3)) / 2,
    ),
    # The pair twice, 5 documents, 2 queries, 2 queries of the positive, 4 of others' documents.
    "gte": of_pairs(
        losses.gte,
        partial(reference.info_nce, directions=losses.ALL_IN_ONE),
        math.log(2 + 5 + 2 + 2 + 4),
        math.log(2),
    ),
    "nt_xent": of_pairs(
        losses.nt_xent,
        partial(reference.info_nce, directions=losses.TWO_VIEWS),
        (math.log(1 + 5 + 2) + math.log(1 + 2 + 4)) / 2,
    ),
    "decoupled": of_pairs(losses.decoupled, reference.decoupled, math.log(5)),
    "decoupled_weighted": of_pairs(
        losses.decoupled_weighted, partial(reference.decoupled, sigma=0.5), math.log(5)
    ),
    "hard_negative": of_pairs(losses.hard_negative, reference.hard_negative, math.log(6)),
    "debiased": of_pairs(losses.debiased, partial(reference.hard_negative, beta=0.0), math.log(6)),
    # The other three are as similar as the second.
    "hardest": of_pairs(losses.hardest, partial(reference.hardest, top=2), math.log(6), top=2),
    "dual_temperature": of_pairs(losses.dual_temperature, reference.dual_temperature, math.log(6)),
    "artanh": of_pairs(losses.artanh, reference.artanh, math.log(6)),
    "model_aware": of_pairs(
        losses.model_aware, partial(reference.model_aware, alpha=0.5), 6 / 5 * math.log(6)
    ),
    "sogclr": of_pairs(
        sogclr,
        lambda w: reference.sogclr(w, np.full(len(w.q), -np.inf), rho=RHO)[0],
        lambda s, t: t * RHO,
    ),
    "siglip": of_pairs(
        losses.siglip,
        reference.siglip,
        lambda s, t: softplus(-s / t - BIAS) + 5 * softplus(s / t + BIAS),
        np.vectorize(lambda s, t: softplus(-s / t - BIAS)),
    ),
    "triplet": of_pairs(losses.triplet, reference.triplet, 0.2, timeless=True),
    "align_uniform": of_pairs(
        losses.align_uniform,
        reference.align_uniform,
        lambda s, t: -2 * (2 - 2 * s),
        lambda s, t: 2 - 2 * s,
        timeless=True,
    ),
    "spread_out": of_pairs(
        losses.spread_out, reference.spread_out, lambda s, t: 2 * s - s / D, timeless=True
    ),
    "matryoshka": of_pairs(TWO_WIDTHS, true_matryoshka, math.log(6)),
    "distill_kl": of_group(losses.distill_kl, true_kl, math.log(2)),
    "distill_m3": Case(
        m3, true_m3, FIRST * math.log(6) + (1 - FIRST) * math.log(5), masks=("pools",)
    ),
    "listwise": of_group(losses.listwise, reference.listwise, math.log(2)),
    "listwise share": of_group(
        losses.listwise,
        partial(reference.listwise, target="share"),
        math.log(2),
        target="share",
    ),
    "margin_mse": of_group(
        losses.margin_mse,
        reference.margin_mse,
        np.array([1.0, 4.0, 1.0]),
        timeless=True,
        needs_hard_negatives=True,
    ),
    "cosent": of_scored_pairs(losses.cosent, reference.cosent),
    "angle": of_scored_pairs(losses.angle, reference.angle),
    "sup_con": Case(sup_con, true_sup_con, math.log(5), masks=("pools",), names=("embeddings",)),
}


def every_case():
    """The cases above, and the `CASES` of losses that have a test file of their own."""
    files = Path(__file__).parent.glob("test_*.py")
    with_cases = [file.stem for file in files if "\nCASES = {" in file.read_text(encoding="utf-8")]
    return CASES | {
        name: case
        for stem in sorted(with_cases)
        for name, case in importlib.import_module(stem).CASES.items()
    }

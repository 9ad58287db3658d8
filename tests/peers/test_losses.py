"""Contrastive losses against the real sentence-transformers and transformers.

Values, and gradients of embeddings, temperatures and biases; the peers in float64 are the truth.
"""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from parity import (
    GUIDE,
    MODEL,
    TEMPERATURE,
    compare,
    cosines,
    embeddings,
    features,
    flat,
    theirs,
)
from sentence_transformers.sentence_transformer import losses as peer
from torch.func import functional_call
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from contrastive import losses, similarity
from contrastive.losses._partition import log_add


def ranking(**options):
    return theirs(
        lambda temperature: peer.MultipleNegativesRankingLoss(
            MODEL, scale=1 / temperature, **options
        )
    )


FORWARD = ("query_to_doc",)
SYMMETRIC = (*FORWARD, "doc_to_query")
ALL = (*SYMMETRIC, "query_to_query", "doc_to_doc")
SOFTMAXES = {
    "forward": (FORWARD, "joint"),
    "query_to_query": ((*FORWARD, "query_to_query"), "joint"),
    "doc_to_query": (SYMMETRIC, "joint"),
    "doc_to_doc": ((*FORWARD, "doc_to_doc"), "joint"),
    "all": (ALL, "joint"),
    "per_direction": (SYMMETRIC, "per_direction"),
}


def in_our_words(directions, mode):
    """Either library counts the pair itself in both of the directions that hold it."""
    names = tuple(name.replace("doc", "document") for name in directions)
    return (names,) if mode == "joint" else tuple((name,) for name in names)


@pytest.mark.parametrize(
    ("softmaxes", "negatives"),
    [*((name, 3) for name in SOFTMAXES), ("forward", 0), ("all", 0), ("per_direction", 0)],
)
def test_multiple_negatives_ranking(softmaxes, negatives):
    directions, mode = SOFTMAXES[softmaxes]
    options = {"directions": in_our_words(directions, mode), "group_size": 1 + negatives}
    compare(
        cosines(losses.info_nce, **options),
        ranking(directions=directions, partition_mode=mode),
        *embeddings(negatives),
        temperature=TEMPERATURE,
    )


HARDER = {"in_batch_negatives": "in_batch", "hard_negatives": "hard", "all_negatives": "all"}


@pytest.mark.parametrize(
    ("mode", "softmaxes"),
    [
        *((mode, softmaxes) for mode in HARDER for softmaxes in ("forward", "all")),
        ("all_negatives", "per_direction"),
    ],
)
def test_hardness_of_multiple_negatives_ranking(mode, softmaxes):
    directions, partition = SOFTMAXES[softmaxes]
    options = {"directions": in_our_words(directions, partition), "group_size": 3}
    compare(
        cosines(losses.info_nce, hardness=9.0, harder=HARDER[mode], **options),
        ranking(
            directions=directions,
            partition_mode=partition,
            hardness_mode=mode,
            hardness_strength=9.0,
        ),
        *embeddings(negatives=2),
        temperature=TEMPERATURE,
    )


@pytest.mark.filterwarnings("ignore:The MultipleNegativesSymmetricRankingLoss")
@pytest.mark.parametrize("negatives", [0, 2])
def test_multiple_negatives_symmetric_ranking(negatives):
    def build(temperature):
        return peer.MultipleNegativesSymmetricRankingLoss(MODEL, scale=1 / temperature)

    ours = cosines(losses.clip, group_size=1 + negatives)
    compare(ours, theirs(build), *embeddings(negatives), temperature=TEMPERATURE)


# Unless told, sentence-transformers adds the widths' losses up, and ours is their mean.
@pytest.mark.parametrize(
    ("weights", "our_weights"),
    [(None, (1.0, 1.0, 1.0)), ((0.25, 2.0, 0.5), (0.25, 2.0, 0.5))],
    ids=["default", "weighted"],
)
def test_matryoshka_of_multiple_negatives_ranking(weights, our_weights):
    widths = (3, 8, 5)

    def build(temperature):
        inner = peer.MultipleNegativesRankingLoss(MODEL, scale=1 / temperature)
        return peer.MatryoshkaLoss(MODEL, inner, widths, weights)

    loss = losses.matryoshka(losses.info_nce, dims=widths, weights=our_weights)
    ours = cosines(loss, group_size=2)
    compare(ours, theirs(build), *embeddings(negatives=1), temperature=TEMPERATURE)


PAIRS = ("query_to_document", "query_to_query", "document_to_document")


def gist_embed(guides, directions, **options):
    """GISTEmbedLoss; guides that are None are the embeddings themselves."""

    def loss(queries, documents, temperature):
        of_guides = (queries.detach(), documents.detach()) if guides is None else guides
        named = features(queries, documents), features(*of_guides, name="guide")
        loss = peer.GISTEmbedLoss(
            MODEL,
            GUIDE,
            temperature=temperature,
            contrast_anchors="query_to_query" in directions,
            contrast_positives="document_to_document" in directions,
            **options,
        )
        return loss([a | b for a, b in zip(*named, strict=True)], torch.empty(0))

    return loss


def guides(negatives):
    """Guides that put some negatives above the positive, as either library takes them."""
    queries, documents = embeddings(negatives, seed=1, width=5, closeness=0.5)
    units = (similarity.normalize(jnp.asarray(x)) for x in (queries, flat(documents)))
    our_guides = dict(zip(("guide_queries", "guide_documents"), units, strict=True))
    return our_guides, (torch.tensor(queries), torch.tensor(documents))


@pytest.mark.parametrize(
    ("negatives", "directions", "margin"),
    [
        pytest.param(0, PAIRS, 0.0, id="pairs"),
        pytest.param(0, PAIRS, 0.2, id="margin"),
        pytest.param(0, PAIRS[::2], 0.2, id="contrast_anchors=False"),
        pytest.param(0, PAIRS[:1], 0.2, id="neither contrast"),
        pytest.param(1, PAIRS[:2], 0.2, id="triplets, contrast_positives=False"),
    ],
)
def test_gist_embed(negatives, directions, margin):
    our_guides, their_guides = guides(negatives)
    options = {"directions": (directions,), "guide_margin": margin, "group_size": 1 + negatives}
    compare(
        cosines(losses.info_nce, **options, **our_guides),
        gist_embed(their_guides, directions, margin=margin),
        *embeddings(negatives),
        temperature=TEMPERATURE,
    )


def test_gist_embed_with_a_relative_margin():
    our_guides, their_guides = guides(1)
    options = {"directions": (PAIRS[:1],), "guide_relative_margin": 0.2, "group_size": 2}
    compare(
        cosines(losses.info_nce, **options, **our_guides),
        gist_embed(their_guides, PAIRS[:1], margin_strategy="relative", margin=0.2),
        *embeddings(1),
        temperature=TEMPERATURE,
    )


def test_gist_embed_keeps_what_the_guide_scores_like_the_positive():
    # Three rows of one text: each is a tie with the positive of the other two.
    our_guides, (queries, documents) = guides(0)
    queries[1:3], documents[1:3] = queries[0], documents[0]
    our_guides = {
        name: similarity.normalize(jnp.asarray(x.reshape(len(x), -1).numpy()))
        for name, x in (("guide_queries", queries), ("guide_documents", documents))
    }
    own_queries, own_documents = embeddings()
    own_queries[1:3], own_documents[1:3] = own_queries[0], own_documents[0]
    compare(
        cosines(losses.info_nce, directions=(PAIRS[:1],), **our_guides),
        gist_embed((queries, documents), PAIRS[:1]),
        own_queries,
        own_documents,
        temperature=TEMPERATURE,
    )


# Of triplets, document_to_document is against other queries' hard negatives too, where
# contrast_positives is against their positives alone.
def test_gist_embed_of_triplets_contrasts_positives():
    our_guides, their_guides = guides(1)

    def of_positives(similarities, scale, rows, columns):
        return jnp.where(columns.is_positive, similarities * scale, -jnp.inf)

    def loss(queries, documents, temperature):
        seen = losses.contrast(queries, documents, group_size=2, **our_guides)
        negatives = log_add(
            seen.log_negatives(temperature),
            seen.log_negatives(temperature, direction="document_to_document", logit=of_positives),
        )
        return jax.nn.softplus(negatives - seen.positive / temperature)

    ours = cosines(loss)
    compare(ours, gist_embed(their_guides, PAIRS[::2]), *embeddings(1), temperature=TEMPERATURE)


@pytest.mark.parametrize(
    ("strategy", "limit"),
    [("absolute", {"above_positive": -0.2}), ("relative", {"relative_to_positive": 0.8})],
    ids=["absolute", "relative"],
)
def test_gist_embed_that_guides_itself(strategy, limit):
    compare(
        cosines(losses.info_nce, directions=(PAIRS,), **limit),
        gist_embed(None, PAIRS, margin_strategy=strategy, margin=0.2),
        *embeddings(closeness=0.5),
        temperature=TEMPERATURE,
    )


class Tower(torch.nn.Module):
    """Stands in for an encoder of texts or images: what it is given is their embeddings."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def forward(self, **inputs):
        return SimpleNamespace(pooler_output=inputs[self.name])


def two_towers(kind, config, *names):
    """The loss of a real model of texts and images, but for its encoders."""
    small = {"num_hidden_layers": 0, "hidden_size": 8, "num_attention_heads": 1}
    model = kind(config(text_config=small, vision_config=small))
    model.text_model, model.vision_model = Tower("input_ids"), Tower("pixel_values")
    model.text_projection = model.visual_projection = torch.nn.Identity()

    def loss(texts, images, *parameters):
        inputs = {"input_ids": texts, "pixel_values": images[:, 0], "return_loss": True}
        named = dict(zip(names, parameters, strict=True))
        return functional_call(model, named, kwargs=inputs).loss

    return loss


LOGIT_SCALE = np.float32(np.log(10.0))


def test_clip():
    def ours(texts, images, logit_scale):
        return cosines(losses.clip)(texts, images, temperature=jnp.exp(-logit_scale))

    clip = two_towers(CLIPModel, CLIPConfig, "logit_scale")
    compare(ours, clip, *embeddings(), LOGIT_SCALE)


@pytest.mark.parametrize("bias", [-10.0, 0.5])
def test_siglip(bias):
    def ours(texts, images, logit_scale, bias):
        return cosines(losses.siglip)(texts, images, temperature=jnp.exp(-logit_scale), bias=bias)

    siglip = two_towers(SiglipModel, SiglipConfig, "logit_scale", "logit_bias")
    compare(ours, siglip, *embeddings(), LOGIT_SCALE, np.float32(bias))

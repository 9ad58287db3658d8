"""The exported folder in the real sentence-transformers."""

import numpy as np
import pytest
import sentence_transformers
from tiny import WORDS, experiment
from transformers import AutoTokenizer

from contrastive import train
from contrastive.config import Static

TEXTS = [
    "kaba lode mifi",
    "",
    "Kaba, LODE! nugu-reba",
    " ".join(WORDS * 4),  # longer than the 24 tokens a document may have
    "words that nobody has seen",
]


@pytest.mark.parametrize(
    ("kind", "pooling"),  # a StaticEmbedding always takes the mean
    [
        ("static", "mean"),
        ("transformer", "mean"),
        ("transformer", "cls"),
        ("transformer", "last_token"),
    ],
)
def test_the_same_vectors(tmp_path, kind, pooling):
    model = {"model": Static(width=16)} if kind == "static" else {"model.depth": 2}
    config = experiment(tmp_path, steps=3, pooling=pooling, eval_steps=None, **model)
    ours = train(config, tmp_path / "run").encoder.encode_documents(TEXTS)
    peer = sentence_transformers.SentenceTransformer(str(tmp_path / "run" / "model"), device="cpu")
    theirs = peer.encode(TEXTS)
    cosine = (ours * theirs).sum(axis=1)
    empty = np.linalg.norm(ours, axis=1) == 0
    np.testing.assert_allclose(cosine[~empty], 1.0, atol=1e-5)
    np.testing.assert_allclose(theirs[empty], 0.0)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "run" / "model"))
    assert tokenizer("kaba lode")["input_ids"]


@pytest.mark.parametrize("kind", ["static", "transformer"])
def test_queries_longer_than_documents_are_not_cut(tmp_path, kind):
    model = {"model": Static(width=16)} if kind == "static" else {}
    lengths = {"data.query_max_length": 24, "data.document_max_length": 12}
    config = experiment(tmp_path, steps=3, eval_steps=None, **model, **lengths)
    encoder = train(config, tmp_path / "run").encoder
    texts = [" ".join(WORDS[:count]) for count in (4, 14, 20)]
    peer = sentence_transformers.SentenceTransformer(str(tmp_path / "run" / "model"), device="cpu")
    np.testing.assert_allclose(encoder.encode_queries(texts), peer.encode(texts), atol=1e-5)
    assert not np.allclose(encoder.encode_documents(texts)[2], peer.encode(texts)[2], atol=1e-3)

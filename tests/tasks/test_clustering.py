"""Clusters of embeddings against classes."""

import math
from collections import Counter

import numpy as np
import pytest
from fake import Fake, by_angle, written

from contrastive.tasks import Clustering


def entropy(counts):
    total = sum(counts)
    return -sum(n / total * math.log(n / total) for n in counts if n)


def v_measure(classes, clusters):
    """Homogeneity, completeness and their harmonic mean, by the entropies of their definition."""
    pairs = Counter(zip(classes, clusters, strict=True))
    of_classes, of_clusters = Counter(classes), Counter(clusters)
    joint = entropy(pairs.values())
    h_classes, h_clusters = entropy(of_classes.values()), entropy(of_clusters.values())
    homogeneity = 1 - (joint - h_clusters) / h_classes
    completeness = 1 - (joint - h_classes) / h_clusters
    v = 2 * homogeneity * completeness / (homogeneity + completeness)
    return {"v_measure": v, "homogeneity": homogeneity, "completeness": completeness}


def scores(tmp_path, angles, labels, **settings):
    rows = [{"text": text, "label": labels[text]} for text in angles]
    task = Clustering(written(tmp_path / "rows.jsonl", rows), **settings)
    return task.evaluate(Fake(by_angle(angles)), task.load())


GROUPS = {"a": 0, "b": 3, "c": 6, "d": 90, "e": 94, "f": 96, "g": 200, "h": 203, "i": 207}


def test_separable_classes_are_found(tmp_path):
    labels = {text: number // 3 for number, text in enumerate(GROUPS)}
    found = scores(tmp_path, GROUPS, labels, starts=5)
    assert found == pytest.approx({"v_measure": 1.0, "homogeneity": 1.0, "completeness": 1.0})


@pytest.mark.parametrize(
    "classes", ["xxyyyyzzz", "xyzxyzxyz", "xxxxxxyyz"], ids=["near", "across", "uneven"]
)
def test_classes_that_are_not_the_clusters_are_as_by_hand(tmp_path, classes):
    """Three groups that k-means finds whatever the classes are called."""
    found = scores(tmp_path, GROUPS, dict(zip(GROUPS, classes, strict=True)), starts=5)
    assert found == pytest.approx(v_measure(classes, "000111222"), abs=1e-9)


def test_there_are_as_many_clusters_as_classes(tmp_path):
    # Two classes of three groups: two of them, 90 degrees apart, become one cluster.
    found = scores(tmp_path, GROUPS, dict(zip(GROUPS, "xxxxxxyyy", strict=True)), starts=5)
    assert found["v_measure"] == pytest.approx(1.0)


def test_the_same_seed_finds_the_same_clusters(tmp_path):
    rng = np.random.default_rng(0)
    angles = {f"t{n}": float(x) for n, x in enumerate(rng.uniform(0, 360, 60))}
    labels = {text: f"class {n % 6}" for n, text in enumerate(angles)}
    first = scores(tmp_path, angles, labels, seed=3)
    assert scores(tmp_path, angles, labels, seed=3) == first
    assert any(scores(tmp_path, angles, labels, seed=seed) != first for seed in range(4, 9))


def test_one_class_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"rows\.jsonl: all texts have the class 'x'"):
        scores(tmp_path, {"a": 0, "b": 1}, {"a": "x", "b": "x"})

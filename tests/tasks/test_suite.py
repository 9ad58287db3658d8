"""Several evaluators by name."""

import json

import numpy as np
import pytest
from fake import Fake, by_angle, written

from contrastive import config
from contrastive.errors import ConfigError, DataError
from contrastive.tasks import STS, Clustering, Evaluator, PairClassification, Retrieval
from contrastive.tasks._suite import Suite, flat, named


class Counting(Evaluator):
    """Counts how often it is loaded and used."""

    data: str = ""
    more: int = 1

    def load(self):
        return []

    def evaluate(self, encoder, data):
        data.append(encoder)
        return {"uses": np.int64(len(data))}

    def baselines(self, data):
        return {"chance": {"uses": 0.0}}


def test_evaluators_of_a_sequence_are_called_what_they_are():
    made = [
        *(STS("a"), PairClassification("a"), STS("b"), PairClassification("b")),
        *(Counting(), PairClassification("c"), Retrieval("a"), Counting("x")),
    ]
    names = named(made)
    assert list(names.values()) == made
    assert list(names) == [
        *("sts", "pair_classification", "sts_2", "pair_classification_2"),
        *("counting", "pair_classification_3", "retrieval", "counting_2"),
    ]
    given = {"mine": STS("a")}
    assert named(given) == given
    with pytest.raises(ConfigError, match=r"expected evaluators, got 'sts\.jsonl'"):
        named("sts.jsonl")  # not its first letter
    with pytest.raises(ConfigError, match="expected evaluators, got 'sts'"):
        named(["sts"])


def test_the_first_field_needs_no_name():
    assert STS("a.jsonl") == STS(data="a.jsonl")
    assert Counting("x", more=3) == Counting(data="x", more=3)
    with pytest.raises(TypeError, match="STS takes at most one positional argument, got 2"):
        STS("a", "b")
    with pytest.raises(ConfigError, match="data is required"):
        STS()


def test_data_is_loaded_once_and_scored_again_and_again(tmp_path):
    rows = [{"text": f"t{n}", "label": n % 2} for n in range(4)]
    path = written(tmp_path / "rows.jsonl", rows)
    suite = Suite({"count": Counting("x"), "clusters": Clustering(path)})
    encoder = Fake(by_angle({f"t{n}": 90 * (n % 2) for n in range(4)}))
    (tmp_path / "rows.jsonl").unlink()
    for number in (1, 2):
        scores = suite.scores(encoder)
        assert list(scores) == ["count", "clusters"]
        assert scores["count"] == {"uses": number}
        assert type(scores["count"]["uses"]) is float
        assert scores["clusters"]["v_measure"] == pytest.approx(1.0)
    assert flat(scores)["clusters/v_measure"] == scores["clusters"]["v_measure"]
    assert suite.baselines() == {"count": {"chance": {"uses": 0.0}}}
    about = suite.describe()
    assert about["count"] == {"kind": Counting.kind, "data": "x", "more": 1, "counts": {}}
    assert about["clusters"]["texts"] == 4
    assert list(suite.fingerprints()) == ["clusters"]
    json.dumps(about)
    assert suite
    assert not Suite({})


def test_what_is_no_metric_is_refused_by_name():
    class Wrong(Evaluator):
        """Returns a number."""

        def evaluate(self, encoder, data):
            return 0.5

    with pytest.raises(ConfigError, match=r"the evaluator 'mine' returned 0.5; return a dict"):
        Suite({"mine": Wrong()}).scores(None)


def test_bad_data_is_refused_before_training(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        Suite({"sts": STS(str(tmp_path / "none.jsonl"))})


def test_a_run_is_chosen_by_the_main_metric_unless_it_says_otherwise():
    two = {"a": STS("a"), "b": Clustering("b")}
    made = config.Experiment(name="t", evaluators=two)
    assert made.selection == ("a", "spearman")
    assert made.replace(select_best="b/homogeneity").selection == ("b", "homogeneity")
    assert config.Experiment(name="t").selection is None
    with pytest.raises(ConfigError, match="the evaluator 'c' has no main metric"):
        config.Experiment(name="t", evaluators={"c": Counting()})
    with pytest.raises(ConfigError, match=r"select_best is 'c/x'; .* evaluators are a, b"):
        config.Experiment(name="t", evaluators=two, select_best="c/x")

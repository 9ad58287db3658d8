"""No step is lost when an evaluator fails, and a finished run stays as it is."""

import threading

import pytest
from tiny import experiment

import contrastive
from contrastive.config import Fixed, InfoNCE, Objective, Static
from contrastive.errors import ConfigError
from contrastive.tasks import Evaluator
from contrastive.training.metrics_file import read_metrics

CALLS, FAILS = [], set()


class Counting(Evaluator):
    """Counts evaluations, some of which fail."""

    main_metric = "number"

    def evaluate(self, encoder, data):
        del encoder, data
        CALLS.append(len(CALLS) + 1)
        if len(CALLS) in FAILS:
            raise RuntimeError("the disk with the judgments is gone")
        return {"number": float(len(CALLS))}


@pytest.fixture
def config(tmp_path):
    CALLS.clear()
    FAILS.clear()
    return experiment(
        tmp_path,
        model=Static(width=8),
        loss=Objective(function=InfoNCE(), temperature=0.1, policy=Fixed()),
        evaluators={"count": Counting()},
        final_evaluators={},
        steps=6,
        eval_steps=3,
        save_steps=None,
        patience=None,
        select_best=None,
    )


def losses(folder):
    return [row["loss"] for row in read_metrics(folder / "metrics.jsonl") if "loss" in row]


@pytest.mark.parametrize("failing", [1, 2])
def test_training_resumes_at_the_evaluation_that_failed(config, tmp_path, failing):
    undisturbed = contrastive.train(config, tmp_path / "undisturbed")
    CALLS.clear()
    FAILS.add(failing)
    with pytest.raises(RuntimeError, match="judgments"):
        contrastive.train(config, tmp_path / "run")
    saved = sorted(path.name for path in (tmp_path / "run/checkpoints/latest").iterdir())
    assert saved == [str(3 * failing)]
    run = contrastive.train(config, tmp_path / "run")
    assert losses(run.workdir) == losses(undisturbed.workdir)
    evaluated = [row["step"] for row in run.metrics.having("count/number")]
    assert evaluated == [3, 6]


def test_the_model_is_there_if_a_final_evaluator_fails(config, tmp_path):
    FAILS.add(1)
    config = config.replace(evaluators={}, eval_steps=None, final_evaluators={"c": Counting()})
    with pytest.raises(RuntimeError, match="judgments"):
        contrastive.train(config, tmp_path / "run")
    assert contrastive.Encoder.from_pretrained(tmp_path / "run").width == 8
    assert contrastive.train(config, tmp_path / "run").scores["c"] == {"number": 2.0}


def test_a_finished_run_is_not_changed_and_not_evaluated_again(config, tmp_path):
    run = contrastive.train(config, tmp_path / "run")
    before = {path: path.read_bytes() for path in run.workdir.rglob("*.json")}
    count = len(CALLS)
    again = contrastive.train(config, tmp_path / "run")
    assert {path: path.read_bytes() for path in again.workdir.rglob("*.json")} == before
    assert len(CALLS) == count


def test_it_trains_in_a_thread(config, tmp_path):
    runs = []
    thread = threading.Thread(
        target=lambda: runs.append(contrastive.train(config, tmp_path / "run"))
    )
    thread.start()
    thread.join()
    assert runs[0].finished


def test_a_misspelled_metric_is_refused_before_training(config):
    class Named(Counting):
        metric_names = ("number",)

    with pytest.raises(ConfigError, match=r"select_best is 'count/numbr', but count has .*number"):
        config.replace(evaluators={"count": Named()}, select_best="count/numbr")
    held_out = contrastive.tasks.Retrieval("x.jsonl")
    with pytest.raises(ConfigError, match="held_out has the metrics nDCG@10"):
        config.replace(evaluators={"held_out": held_out}, select_best="held_out/ndcg@10")

"""Results and tables of earlier versions are read, and their scores are of a split."""

import json

import pytest

import contrastive
from contrastive.config import Experiment, Retrieval

HELD_OUT = Retrieval("dev.jsonl")
ONE_TASK = {
    "name": "old",
    "steps": 6,
    "temperature": 0.1,
    "validation": {"MRR@10": 0.4},
    "versions": {"python": "3.11.7"},
    "task": "held-out test",
    "queries": 3,
    "documents": 4,
    "scores": {"MRR@10": 0.5},
    "bm25": {"MRR@10": 0.3},
}
"""results.json as c489075 wrote it: a single task, whose scores have no evaluator."""


def written(folder, config, name, content):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config.model_dump_json())
    (folder / name).write_text(json.dumps(content))
    return folder


def experiment(**evaluators):
    return Experiment(name="old", **evaluators)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_single_task_is_of_the_split_that_the_run_had(tmp_path, split):
    test = {"final_evaluators": {"test": HELD_OUT}} if split == "test" else {}
    config = experiment(evaluators={"validation": HELD_OUT}, **test)
    run = contrastive.load_run(written(tmp_path, config, "results.json", ONE_TASK))
    assert run.scores == {split: {"MRR@10": 0.5}}
    assert run.scores.split == split
    assert run.scores.about[split]["documents"] == 4
    assert run.results["baselines"] == {split: {"BM25": {"MRR@10": 0.3}}}
    assert run.results["select_best"] == {"validation/MRR@10": 0.4}


def test_tasks_have_the_split_of_their_evaluators(tmp_path):
    config = experiment(evaluators={"dev": HELD_OUT}, final_evaluators={"held_out": HELD_OUT})
    old = {"select_best": {"dev/nDCG@10": 0.4}, "scores": {"held_out": {"MAP": 0.5}}}
    run = contrastive.load_run(written(tmp_path, config, "results.json", old))
    assert (run.scores, run.scores.split) == ({"held_out": {"MAP": 0.5}}, "test")
    assert run.results["select_best"] == {"validation/dev/nDCG@10": 0.4}


AXIS = {"axes": {"loss.temperature": [0.1]}, "seeds": 1}
ROW = {"member": 0, "loss.temperature": 0.1, "init_seed": 0, "diverged_at": None, "last/loss": 2.0}


def test_columns_of_a_sweep_get_their_split(tmp_path):
    config = experiment(evaluators={"dev": HELD_OUT}, final_evaluators={"held_out": HELD_OUT})
    row = ROW | {"dev/nDCG@10": 0.4, "held_out/nDCG@10": 0.3}
    old = AXIS | {"select_best": "dev/nDCG@10", "evaluators": {"held_out": {}}, "rows": [row]}
    table = contrastive.load_sweep(written(tmp_path, config, "sweep.json", old))
    scores = {"validation/dev/nDCG@10": 0.4, "test/held_out/nDCG@10": 0.3}
    assert dict(table[0]) == ROW | scores
    assert table.chosen_by == "validation/dev/nDCG@10"
    assert table.score_names == list(scores)


def test_an_old_sweep_that_test_scores_selected_has_no_choice(tmp_path):
    config = experiment(final_evaluators={"held_out": HELD_OUT})
    row = ROW | {"held_out/nDCG@10": 0.3}
    old = AXIS | {"select_best": "held_out/nDCG@10", "evaluators": {"held_out": {}}, "rows": [row]}
    table = contrastive.load_sweep(written(tmp_path, config, "sweep.json", old))
    assert table.chosen_by is None
    with pytest.raises(contrastive.errors.FolderError, match="no validation scores; name a score"):
        table.best  # noqa: B018
    assert table.by_setting("test/held_out/nDCG@10")[(0.1,)].mean == 0.3


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_sweep_without_test_data_does_not_repeat_its_validation_score(tmp_path, split):
    """As c489075 wrote them: final scores had no prefix, whatever data they were of."""
    test = {"final_evaluators": {"test": HELD_OUT}} if split == "test" else {}
    config = experiment(evaluators={"validation": HELD_OUT}, **test)
    row = ROW | {"validation/nDCG@10": 0.4, "nDCG@10": 0.3 if test else 0.4, "MAP": 0.2}
    old = AXIS | {"metric": "nDCG@10", "rows": [row], "bm25": {"nDCG@10": 0.25}}
    table = contrastive.load_sweep(written(tmp_path, config, "sweep.json", old))
    assert table.chosen_by == "validation/nDCG@10"
    validation = {"validation/nDCG@10": 0.4}
    expected = {"test/nDCG@10": 0.3, "test/MAP": 0.2} if test else {"validation/MAP": 0.2}
    assert dict(table[0]) == ROW | validation | expected
    assert table.results["baselines"] == {split: {"BM25": {"nDCG@10": 0.25}}}
    assert ("There are no test scores" in repr(table)) == (split == "validation")

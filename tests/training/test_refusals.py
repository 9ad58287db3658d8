"""What is refused, or stops a run, and the words it is refused with."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from tiny import experiment, metrics

from contrastive.config import Experiment, Fixed, Mixture, MixturePart, Objective, Static
from contrastive.errors import ConfigError, DataError, DivergedError, FolderError
from contrastive.training.build import build
from contrastive.training.train import train_experiment as run


def test_a_run_that_stops_being_finite_says_where_and_keeps_its_checkpoints(tmp_path):
    # Steps of 1e38 make parameters overflow; save before it does.
    config = experiment(
        tmp_path,
        **{
            "optimizer.learning_rate": 1e38,
            "optimizer.warmup_steps": 0,
            "optimizer.max_grad_norm": None,
            "save_steps": 1,
            "loss.policy": Fixed(),
            "model": Static(width=16),
        },
    )
    with pytest.raises(DivergedError) as error:
        run(config, tmp_path / "run")
    message = str(error.value)
    for words in (
        "step ",
        "temperature 0.0",
        "largest logit is",
        "Raise the temperature",
        "loss.temperature",
    ):
        assert words in message
    step = int(message.split("step ")[1].split(":")[0])
    latest = tmp_path / "run" / "checkpoints" / "latest"
    saved = {int(p.name) for p in latest.iterdir()}
    assert max(saved, default=0) < step
    with ocp.StandardCheckpointer() as checkpointer:
        for number in saved:
            state = checkpointer.restore(latest / str(number) / "state")
            for x in jax.tree.leaves(state["params"]):
                assert np.all(np.isfinite(x))
    rows = [row for row in metrics(tmp_path / "run") if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, step + 1))  # the last is what went wrong
    assert [row.get("finite") for row in rows] == [None] * (step - 1) + [0]


def test_a_workdir_of_another_config_is_refused_and_names_the_fields(tmp_path):
    quick = {"model": Static(width=16), "optimizer.warmup_steps": 0}
    config = experiment(tmp_path, steps=2, eval_steps=None, **quick)
    run(config, tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    other = config.replace(**{"loss.temperature": 0.06, "batch_size": 4})
    with pytest.raises(FolderError) as error:
        run(other, tmp_path / "run")
    assert "loss.temperature: 0.05 -> 0.06" in str(error.value)
    assert "batch_size: 8 -> 4" in str(error.value)
    assert "seed" not in str(error.value)
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(FolderError, match="not empty"):
        run(experiment(tmp_path), tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_bad_data_is_refused_before_the_workdir_is_made(tmp_path):
    config = experiment(tmp_path)
    rows = (tmp_path / "train.jsonl").read_text().split("\n")
    rows[6] = '{"query": "no positive", "pos": []}'
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    with pytest.raises(DataError, match=r'train\.jsonl:7: "pos" is empty'):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.group_size": 5}, ["train.jsonl:1", "needs 4 negatives", "this row has 3"]),
        ({"batch_size": 48}, ["batch_size is 48", "has 40 examples", "lower it to 40"]),
    ],
)
def test_settings_the_data_cannot_fill_are_refused(tmp_path, changes, words):
    with pytest.raises(DataError) as error:
        run(experiment(tmp_path, **changes), tmp_path / "run")
    assert all(word in str(error.value) for word in words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"loss.in_batch": False},
        {"loss.negative_groups": 8},  # one query each
        {"data.train": "alone"},
    ],
)
def test_rows_that_see_no_negatives_at_all_are_refused(tmp_path, changes):
    config = experiment(tmp_path, **{"data.few_negatives": "fewer"})
    path = tmp_path / "train.jsonl"
    lines = path.read_text().splitlines()
    lines[4] = json.dumps({**json.loads(lines[4]), "neg": []})
    path.write_text("\n".join(lines))
    build(config)
    if "data.train" in changes:
        changes = {
            "data.train": Mixture(parts=(MixturePart(source=config.data.train, in_batch=False),))
        }
    with pytest.raises(DataError, match=r"train\.jsonl:5: this row has no negatives and does not"):
        build(config.replace(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": {"temperature": 0}}, "greater than 0"),
        ({"loss": {"temperature": -0.02}}, "greater than 0"),
        ({"loss": {"temperature": 0.001, "policy": {"kind": "learned"}}}, "outside the policy's"),
        ({"loss": {"in_batch": False}}, "no negatives are left"),
        ({"batch_size": 1}, "no negatives are left"),
        (
            {"steps": 20, "optimizer": {"warmup_steps": 30}},
            "optimizer.warmup_steps is 30, more than the run",
        ),
        ({"model": {"kind": "static"}, "pooling": "cls"}, "static pools by mean"),
        ({"eval_steps": 2}, "eval_steps needs evaluators"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"patience": 2}, "set eval_steps and evaluators"),
        ({"model": {"kind": "transformer", "width": 30, "heads": 4}}, "multiple of 8"),
        ({"tempratur": 0.02}, "tempratur is not a field"),
        (
            {"loss": {"function": {"kind": "sup_con"}, "negative_groups": 2}},
            "takes the whole batch",
        ),
        ({"loss": {"function": {"kind": "sup_con"}, "in_batch": False}}, "different queries"),
        ({"loss": {"spread_out": {}}}, r"spread_out is now called function=InfoNCE\(\) \+"),
        ({"loss": {"distill": {"kind": "m3"}}}, r"distill is now called .*DistillKL"),
        ({"metric": "MAP"}, "metric is now called select_best"),
        ({"select_best": "dev/MAP"}, "the evaluators are none"),
        (
            {"loss": {"function": {"kind": "margin_mse"}}},
            "data.group_size is 1 and margin_mse compares only a query's own documents",
        ),
        (
            {"loss": {"function": {"kind": "triplet"}, "policy": {"kind": "learned"}}},
            "loss.policy is learned, but triplet has no temperature",
        ),
        (
            {
                "loss": {"function": {"kind": "cosent"}},
                "data": {
                    "group_size": 2,
                    "train": {
                        "kind": "mixture",
                        "parts": [{"source": {"kind": "pydoc"}, "temperature": 0.1}],
                    },
                },
            },
            r"parts\[0\].temperature is 0.1, but cosent with the policy fixed has no",
        ),
        (
            {"loss": {"policy": {"kind": "individual"}}},
            "loss.policy is individual, which needs sogclr, not info_nce",
        ),
        ({"loss": {"function": {"kind": "cosent"}, "negative_groups": 2}}, "takes the whole batch"),
        (
            {
                "loss": {"function": {"kind": "info_nce", "directions": "symmetric"}},
                "data": {
                    "group_size": 2,
                    "train": {
                        "kind": "mixture",
                        "parts": [{"source": {"kind": "pydoc"}, "in_batch": False}],
                    },
                },
            },
            r"parts\[0\].in_batch is False, but info_nce compares",
        ),
        (
            {"loss": {"function": {"kind": "sogclr"}, "policy": {"kind": "individual"}}},
            "rho must be positive when the temperature is individual",
        ),
    ],
)
def test_impossible_configs_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        Experiment(name="x", **changes)


def test_a_config_survives_its_json(tmp_path):
    config = experiment(tmp_path)
    assert Experiment.model_validate_json(config.model_dump_json()) == config
    assert Experiment.model_validate(json.loads(config.model_dump_json())) == config


def test_changes_are_validated_too():
    with pytest.raises(ValueError, match="greater than 0"):
        Experiment(name="x").replace(**{"loss.temperature": -1.0})
    assert Objective().temperature == 0.02


def test_early_stopping_keeps_the_best(tmp_path):
    # A learning rate of almost nothing: the first evaluation is the best, then patience runs out.
    config = experiment(
        tmp_path,
        **{
            "eval_steps": 2,
            "patience": 2,
            "steps": 40,
            "optimizer.learning_rate": 1e-30,
            "optimizer.warmup_steps": 0,
            "model": Static(width=16),
        },
    )
    results = run(config, tmp_path / "run")
    assert results["steps"] == 6
    assert results["best_step"] == 2
    again = run(config, tmp_path / "run")
    assert again["steps"] == 6
    assert again["scores"] == results["scores"]

"""Configs: changes, numbers, and what errors say."""

from pathlib import Path

import pytest

from contrastive import config
from contrastive.errors import ConfigError
from contrastive.settings import differences


def test_changes_that_depend_on_each_other_are_validated_together():
    base = config.Experiment(name="x", model=config.Transformer())  # of width 256 with 4 heads
    changes = {"model.width": 100, "model.heads": 5}
    for order in (1, -1):
        changed = base.replace(**dict(list(changes.items())[::order]))
        assert (changed.model.width, changed.model.heads) == (100, 5)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_numbers_that_are_not_finite_are_refused(value):
    for make in (
        lambda: config.Objective(temperature=value),
        lambda: config.InfoNCE(margin=value),
        lambda: config.Linear(last=value),
    ):
        with pytest.raises(ConfigError, match="finite number"):
            make()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train": {"kind": "jsonl"}}, "train.path is required"),
        ({"train": {"kind": "mixture", "part": []}}, "train.part is not a field; Mixture has"),
        ({"tokenizer": {"kind": "wordpiece", "size": 3}}, "tokenizer.size is not a field"),
        ({"train": 3}, "train is 3; it must be a Source, for example one of"),
    ],
)
def test_only_the_problem_of_what_was_meant_is_reported(fields, message):
    with pytest.raises(ConfigError) as error:
        config.Data(**fields)
    lines = str(error.value).splitlines()
    others = [line for line in lines if not line.startswith(message)]
    assert len(others) < len(lines)
    assert all(line.startswith("train.parts is ()") for line in others), others


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: config.Objective(temperature=1e-320), "temperature is 1e-320, which is 0 in"),
        (lambda: config.Learned(minimum=1e-46), "minimum is 1e-46, which is 0 in float32"),
        (lambda: config.Optimizer(learning_rate=1e-300), "learning_rate is 1e-300, which is 0 in"),
        (lambda: config.Optimizer(learning_rate=1e39), "learning_rate is 1e+39, which is infinite"),
    ],
)
def test_numbers_that_float32_does_not_have_are_refused(make, said):
    with pytest.raises(ConfigError) as error:
        make()
    assert str(error.value).startswith(said)


def test_paths_are_stored_as_text():
    path = Path("a") / "b.jsonl"
    assert config.Jsonl(path) == config.Jsonl(str(path))
    assert config.Jsonl([path, "c"]).path == ("a/b.jsonl", "c")
    assert config.Retrieval(path).data == config.Retrieval(data=str(path)).data
    assert config.Experiment(name="x", model=config.Checkpoint(name=path)).model.name == str(path)
    assert config.Jsonl("x").replace(path=path).path == str(path)


def test_differences_list_no_field_that_is_none_on_both_sides():
    before = config.Experiment(
        name="x", evaluators={"dev": config.Retrieval(data=config.Jsonl("a"))}
    )
    changes = differences(before, before.replace(evaluators={}))
    assert "evaluators.dev.data.path: 'a' -> None" in changes
    assert [line for line in changes if line.endswith(": None -> None")] == []

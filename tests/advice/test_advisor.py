"""Runs made to fail, and healthy ones: the adviser finds the cause, and it is not always heat."""

import json
import random

import pytest

from contrastive import config
from contrastive.advice.advisor import advise
from contrastive.cli import main
from contrastive.errors import DivergedError
from contrastive.training.train import train_experiment as run

TOPICS, ROWS = 60, 1200
SYLLABLES = ("ba", "de", "fi", "go", "lu", "ma", "ne", "pi", "ro", "su", "ta", "ve")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Texts of topics: a pair shares rare words of its own, and common ones with its topic."""
    rng = random.Random(0)
    words = sorted({a + b + c for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES})
    topics = [rng.sample(words, 12) for _ in range(TOPICS)]
    folder = tmp_path_factory.mktemp("rows")
    plain, copied = [], []
    for number in range(ROWS):
        topic, own = topics[number % TOPICS], rng.sample(words, 4)
        query, positive = (" ".join(rng.sample(topic, 3) + rng.sample(own, 3)) for _ in "ab")
        row = {"query": query, "pos": [positive]}
        plain.append(json.dumps(row))
        copied.append(json.dumps({**row, "neg": [positive.upper(), positive.title()]}))
    for name, lines in (("plain", plain), ("copied", copied)):
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


def settings(rows, data="plain", **changes):
    base = config.Experiment(
        name="advised",
        steps=150,
        batch_size=128,
        data=config.Data(
            train=config.Jsonl(path=str(rows / f"{data}.jsonl")),
            tokenizer=config.WordPiece(vocab_size=2048),
            group_size=1 if data == "plain" else 3,
            query_max_length=32,
            document_max_length=32,
        ),
        model=config.Static(width=64),
        loss=config.Objective(temperature=0.1),
        optimizer=config.Optimizer(learning_rate=2e-3, warmup_steps=10, max_grad_norm=None),
    )
    return base.replace(**changes)


TRANSFORMER = config.Transformer(width=32, depth=2, heads=2, mlp_width=64)
PREPARED = {
    "0.07": ("healthy", {"loss.temperature": 0.07}),
    "0.1": ("healthy", {}),
    "learned from 0.1": ("healthy", {"loss.policy": config.Learned()}),
    "a transformer": (
        "healthy",
        {"model": TRANSFORMER, "optimizer.learning_rate": 3e-3, "loss.temperature": 0.1},
    ),
    "0.001": ("low_temperature", {"loss.temperature": 0.001}),
    "0.005": ("low_temperature", {"loss.temperature": 0.005}),
    "1": ("high_temperature", {"loss.temperature": 1.0}),
    "5": ("high_temperature", {"loss.temperature": 5.0}),
    "0.1 with 63 negatives": ("healthy", {"batch_size": 64}),
    "0.001 with 63 negatives": ("low_temperature", {"batch_size": 64, "loss.temperature": 0.001}),
    "0.02 with 15 negatives": ("low_temperature", {"batch_size": 16, "loss.temperature": 0.02}),
    "5 with 15 negatives": ("high_temperature", {"batch_size": 16, "loss.temperature": 5.0}),
    "7 negatives": ("few_negatives", {"batch_size": 8}),
    "there and back": ("healthy", {"loss.policy": config.Oscillating(other=1.0, period=150)}),
    "down to 0.1": ("healthy", {"loss.policy": config.WarmDown(steps=100)}),
    "up to 1": (
        "high_temperature",
        {"loss.temperature": 0.05, "loss.policy": config.Linear(last=1.0)},
    ),
    "there, where it ends": (
        "high_temperature",
        {"loss.temperature": 0.05, "loss.policy": config.Oscillating(other=1.0, period=100)},
    ),
    "there and back, with a learning rate of nothing": (
        "not_learning",
        {
            "loss.policy": config.Oscillating(other=1.0, period=75),
            "optimizer.learning_rate": 1e-7,
        },
    ),
    "learned, held low": (
        "low_temperature",
        {
            "loss.temperature": 0.005,
            "loss.policy": config.Learned(minimum=0.005, maximum=0.006),
        },
    ),
    "copies as negatives": ("duplicates", {"data": "copied"}),
    "a learning rate that ends at once": ("learning_rate", {"optimizer.learning_rate": 1e38}),
    "a learning rate that collapses": (
        "learning_rate",
        {"model": TRANSFORMER, "optimizer.learning_rate": 0.5, "loss.temperature": 0.02},
    ),
    "a learning rate that a high temperature hides": (
        "learning_rate",
        {"loss.temperature": 1.0, "optimizer.learning_rate": 1e16},
    ),
    "a learning rate of nothing": ("not_learning", {"optimizer.learning_rate": 1e-7}),
    "not normalized": ("not_normalized", {"normalize": False, "loss.temperature": 1.0}),
}


# One of each cause; the others are slow.
QUICK = {
    *("0.1", "0.005", "1", "7 negatives", "copies as negatives", "not normalized"),
    *("a learning rate that ends at once", "a learning rate of nothing"),
}


def test_every_cause_has_a_quick_run():
    assert {PREPARED[name][0] for name in QUICK} == {cause for cause, _ in PREPARED.values()}


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PREPARED],
)
def test_the_cause_of_a_prepared_run(rows, tmp_path, name, capsys):
    cause, changes = PREPARED[name]
    made = settings(rows, changes.get("data", "plain"))
    made = made.replace(**{k: v for k, v in changes.items() if k != "data"})
    try:
        run(made, tmp_path / "run")
    except DivergedError:
        assert cause == "learning_rate"
    found = advise(tmp_path / "run")
    assert found[0].cause == cause, found
    assert found[0].advice == "nothing to change" or cause != "healthy"
    assert ("temperature is not the cause" in found[0].advice) == (cause == "learning_rate")
    main(["advise", str(tmp_path / "run")])
    assert f"{cause}: {found[0].seen}" in capsys.readouterr().out

"""Runs made to fail, and healthy ones: the adviser finds the cause, and it is not always heat."""

import dataclasses
import json
import random

import pytest

from contrastive import config
from contrastive.cli import main
from contrastive.errors import DivergedError, FolderError
from contrastive.lab.advisor import Observed, advise, findings
from contrastive.training.runner import run

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
        loss=config.Loss(temperature=0.1),
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
    "copies as negatives": ("duplicates", {"data": "copied"}),
    "a learning rate that ends at once": ("learning_rate", {"optimizer.learning_rate": 1e38}),
    "a learning rate that collapses": (
        "learning_rate",
        {"model": TRANSFORMER, "optimizer.learning_rate": 0.5, "loss.temperature": 0.02},
    ),
    "a learning rate of nothing": ("not_learning", {"optimizer.learning_rate": 1e-7}),
    "not normalised": ("not_normalized", {"normalize": False, "loss.temperature": 1.0}),
}


@pytest.mark.parametrize("name", PREPARED)
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


def observed(first=None, **last):
    """A run of one number each: healthy but for what is said."""
    healthy = {
        "step": 90,
        "loss": 0.2,
        "temperature": 0.02,
        "accuracy": 0.98,
        "effective_negatives": 60.0,
        "saturated": 0.1,
        "top_10_share": 0.5,
        "grad_norm": 0.1,
    }
    start = {"loss": 4.0, "accuracy": 0.1, "grad_norm": 1.0, **(first or {})}
    settings = config.Experiment(name="x", batch_size=256)
    return Observed(settings, [start["loss"], 0.2], start, healthy | last)


def test_a_narrow_range_is_said_to_be_harmless():
    healthy, narrow = findings(observed(negative_cosine=0.72, positive_cosine=0.91))
    assert (healthy.cause, narrow.cause) == ("healthy", "narrow_range")
    assert "0.72 on average, of positives 0.91" in narrow.seen
    assert "harmless for ranking" in narrow.advice


@pytest.mark.parametrize(("logit", "cause"), [(3e5, "low_temperature"), (500, "learning_rate")])
def test_a_step_that_is_not_finite_is_heat_only_where_logits_have_no_digits(logit, cause):
    run = dataclasses.replace(observed(largest_logit=logit), losses=[4.0, None])
    (found,) = findings(run)
    assert found.cause == cause
    assert ("raise loss.temperature" in found.advice) == (cause == "low_temperature")


def test_before_twenty_steps_nothing_but_divergence_is_said():
    (found,) = findings(observed(step=2, tied=0.5, accuracy=0.3))
    assert found.cause == "too_early"
    assert findings(observed(tied=0.5, accuracy=0.3))[0].cause == "duplicates"
    ended = dataclasses.replace(observed(step=2), losses=[4.0, None])
    assert findings(ended)[0].cause == "learning_rate"


def test_a_learned_temperature_at_its_limit_is_said_to_be_there():
    run = observed(temperature=0.01)
    learned = run.config.replace(**{"loss.policy": config.Learned()})
    (found,) = findings(dataclasses.replace(run, config=learned))
    assert found.cause == "at_limit"
    assert "minimum, 0.01" in found.seen


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(FolderError, match=r"is .* the folder of a run"):
        advise(tmp_path)

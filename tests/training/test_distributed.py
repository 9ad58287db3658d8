"""Two processes with two devices each, on this machine."""

import pytest
from tiny import (
    DROPPING,
    experiment,
    finish,
    losses,
    start,
    start_two,
    weights,
    write_experiment,
)

from contrastive.config import Static


@pytest.mark.parametrize(
    "model",
    [Static(width=16), pytest.param(DROPPING, marks=pytest.mark.slow)],
    ids=lambda x: x.kind,
)
def test_two_processes_equal_one(tmp_path, model):
    config = experiment(tmp_path, steps=7, model=model)
    file = write_experiment(tmp_path, config)
    for process in start_two(file, tmp_path / "two", devices=2):
        finish(process)
    finish(start(file, tmp_path / "one-of-four", devices=4))
    finish(start(file, tmp_path / "one-of-one", devices=1))
    expected = losses(tmp_path / "one-of-one")
    assert len(expected) == 7
    assert losses(tmp_path / "two") == pytest.approx(expected, rel=1e-5)
    assert losses(tmp_path / "one-of-four") == pytest.approx(expected, rel=1e-5)
    assert len(weights(tmp_path / "two")) == len(weights(tmp_path / "one-of-one"))

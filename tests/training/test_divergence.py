"""Runs that diverge: what is kept, and what goes on."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
import tiny

from contrastive import config
from contrastive.advice.advisor import advise
from contrastive.errors import DivergedError
from contrastive.training import loop, train
from contrastive.training.build import build
from contrastive.training.checkpoints import Checkpoints
from contrastive.training.metrics_file import read_metrics
from contrastive.training.runs import SingleRun
from contrastive.training.train import train_experiment as run

RAISING = {"on_divergence": "raise_temperature"}
QUICK = config.Static(width=16)  # to compile


class Killed(BaseException):
    """A kill; nothing handles it."""


def settings(tmp_path, **changes):
    loss = config.Objective(temperature=0.05)
    usual = {"steps": 8, "save_steps": 2, "eval_steps": None, "loss": loss, "model": QUICK}
    return tiny.experiment(tmp_path, **{**usual, **changes})


def with_memory():
    """All that has state: dropout, averages, and a temperature with moments of its own."""
    function = config.SogCLR(rho=1.0)
    loss = config.Objective(function=function, temperature=0.05, policy=config.Learned())
    return {"loss": loss, "model": tiny.DROPPING}


def raises(folder):
    """Steps and temperatures, as they were logged."""
    rows = read_metrics(folder / "metrics.jsonl")
    return [(x["step"], x["raised_temperature"]) for x in rows if "raised_temperature" in x]


@pytest.fixture
def breaking(monkeypatch):
    """Makes the step of some numbers not finite below a temperature."""

    def arrange(steps, below):
        def broken(experiment, *args):
            parts = build(experiment, *args)
            step, single = parts.train_step, SingleRun(experiment, parts)

            def spoilt(state, batch, diagnosing):
                temperature = single.temperature(state)
                if int(state.step) + 1 in steps and temperature < below:
                    encoder = jax.tree.map(lambda x: x * np.nan, state.params["encoder"])
                    params = {**state.params, "encoder": encoder}
                    state = dataclasses.replace(state, params=params)
                return step(state, batch, diagnosing)

            object.__setattr__(parts, "train_step", spoilt)
            return parts

        monkeypatch.setattr(train, "build", broken)

    return arrange


def test_the_step_that_diverged_is_in_the_log_and_its_cause_is_the_learning_rate(tmp_path):
    wild = settings(tmp_path, **{"optimizer.learning_rate": 1e38, "optimizer.warmup_steps": 0})
    with pytest.raises(DivergedError, match="step 1"):
        run(wild, tmp_path / "run")
    (row,) = (row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in row)
    assert row["step"] == 1
    assert row["largest_logit"] > 0
    (finding,) = advise(tmp_path / "run")
    assert finding.cause == "learning_rate"
    assert "1e+38" in finding.advice


@pytest.fixture
def killed(monkeypatch):
    """Runs until its log is told something of a step; nothing more is saved, as after a kill."""

    def arrange(raising, workdir, place, at):
        where, name = {"raise": (loop, "write_raise"), "step": (SingleRun, "step")}[place]
        whole = getattr(where, name)

        def kill(*arguments):
            # The state before a step, or the step from which a raised run goes on.
            step = arguments[3] if place == "raise" else int(arguments[1].step) + 1
            if step == at:
                raise Killed
            return whole(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(where, name, kill)
            with pytest.raises(Killed):
                run(raising, workdir)

    return arrange


@pytest.mark.parametrize("policy", [config.Fixed(), config.Learned()], ids=lambda x: x.kind)
def test_a_run_goes_on_from_its_last_checkpoint_at_twice_the_temperature(
    tmp_path, breaking, policy, capsys
):
    breaking({5}, below=0.15)  # 0.05 and 0.1 break, 0.2 does not
    loss = config.Objective(temperature=0.05, policy=policy)
    run(settings(tmp_path, loss=loss, **RAISING), tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 9))
    again = [(4, pytest.approx(0.1, rel=0.02)), (4, pytest.approx(0.2, rel=0.02))]
    assert raises(tmp_path / "run") == again
    assert rows[3]["temperature"] == pytest.approx(0.05, rel=0.02)
    assert rows[4]["temperature"] == pytest.approx(0.2, rel=0.02)
    told = capsys.readouterr().err
    assert (
        f"at temperature {raises(tmp_path / 'run')[1][1]:.4g}; this is raise 2 of at most 3" in told
    )


def test_it_starts_again_where_there_is_no_checkpoint(tmp_path, breaking):
    breaking({1}, below=0.09)
    results = run(settings(tmp_path, save_steps=None, **RAISING), tmp_path / "run")
    assert results["temperature"] == pytest.approx(0.1)
    assert len(tiny.losses(tmp_path / "run")) == 8


@pytest.mark.slow
def test_what_goes_on_is_the_checkpoint_and_its_batches_at_the_higher_temperature(
    tmp_path, breaking
):
    raising = settings(tmp_path, **with_memory(), keep_checkpoints=None, **RAISING)
    breaking({5}, below=0.09)
    run(raising, tmp_path / "run")

    kept = tmp_path / "run" / "checkpoints"
    shutil.copytree(kept / "latest" / "4", tmp_path / "before" / "latest" / "4")
    parts = build(raising)
    with Checkpoints(tmp_path / "before", None) as before:
        _, state, position, _ = before.resume(parts.like)
    log_scale = state.params["temperature"]["log_scale"] - np.log(np.float32(2))
    params = {**state.params, "temperature": {"log_scale": log_scale}}
    state, by_hand = dataclasses.replace(state, params=params), []
    parts.feed.seek(position)
    for _ in range(4):
        state, metrics = parts.train_step(state, parts.feed.take(stop=False).batch, np.True_)
        by_hand.append(float(metrics["loss"]))
    assert tiny.losses(tmp_path / "run")[4:] == by_hand
    with Checkpoints(kept, None) as after:
        _, last, position, _ = after.resume(parts.like)
    assert int(last.step) == 8
    jax.tree.map(np.testing.assert_array_equal, last, state)
    parts.feed.take(stop=False)
    assert position == parts.feed.position


def test_after_three_times_it_stops_however_often_it_is_started(tmp_path, breaking, killed):
    breaking({5}, below=9.0)
    raising = settings(tmp_path, **RAISING)
    killed(raising, tmp_path / "run", "raise", 4)
    for _ in range(2):
        with pytest.raises(DivergedError, match="step 5"):
            run(raising, tmp_path / "run")
        rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
        assert rows[-1]["temperature"] == pytest.approx(0.4)
        assert len(raises(tmp_path / "run")) == 3


def test_at_its_maximum_it_stops(tmp_path, breaking, capsys):
    breaking({5}, below=9.0)
    policy = config.Learned(maximum=0.08)
    raising = settings(tmp_path, loss=config.Objective(temperature=0.05, policy=policy), **RAISING)
    with pytest.raises(DivergedError, match=r"step 5.*it is at its maximum, 0\.08\."):
        run(raising, tmp_path / "run")
    assert raises(tmp_path / "run") == [(4, pytest.approx(0.08))]
    assert (
        capsys.readouterr().err.count("Continuing from step 4 at temperature 0.08; this is raise 1")
        == 1
    )


@pytest.mark.parametrize(
    ("place", "step"), [("raise", 4), pytest.param("step", 6, marks=pytest.mark.slow)]
)
def test_killed_before_its_next_checkpoint_a_raised_run_goes_on_as_it_was(
    tmp_path, breaking, killed, place, step
):
    raising = settings(tmp_path, **with_memory(), **RAISING)
    breaking({5}, below=0.09)
    run(raising, tmp_path / "undisturbed")
    killed(raising, tmp_path / "run", place, step)
    run(raising, tmp_path / "run")
    assert tiny.losses(tmp_path / "run") == tiny.losses(tmp_path / "undisturbed")
    assert tiny.weights(tmp_path / "run") == tiny.weights(tmp_path / "undisturbed")
    assert raises(tmp_path / "run") == raises(tmp_path / "undisturbed")


@pytest.mark.slow
def test_two_processes_agree_on_what_was_raised_and_raise_it_again(tmp_path, killed):
    # The square of a gradient over so little overflows, as long as it is not over 4e-19.
    loss = config.Objective(temperature=1.2e-19)
    raising = settings(tmp_path, loss=loss, steps=4, model=tiny.DROPPING, **RAISING)
    run(raising, tmp_path / "one")
    assert raises(tmp_path / "one") == [(0, pytest.approx(t)) for t in (2.4e-19, 4.8e-19)]

    killed(raising, tmp_path / "two", "raise", 0)
    file = tiny.write_experiment(tmp_path, raising)
    first, second = map(tiny.finish, tiny.start_two(file, tmp_path / "two", devices=1))
    assert "Continuing from step 0 at temperature 4.8e-19; this is raise 2" in first
    assert "Continuing" not in second
    assert raises(tmp_path / "two") == raises(tmp_path / "one")
    expected = tiny.losses(tmp_path / "one")
    assert tiny.losses(tmp_path / "two") == pytest.approx(expected, rel=1e-5)


def test_a_run_that_was_raised_and_asked_to_stop_is_not_raised_again(
    tmp_path, breaking, monkeypatch
):
    breaking({3}, below=0.09)
    raising = settings(tmp_path, **RAISING)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "Interrupt", tiny.stopping_after(6))
        assert run(raising, tmp_path / "run") is None
    results = run(raising, tmp_path / "run")
    assert results["temperature"] == pytest.approx(0.1)
    assert raises(tmp_path / "run") == [(2, pytest.approx(0.1))]


def test_raising_needs_a_temperature_that_can_be_raised(tmp_path):
    loss = config.Objective(policy=config.WarmDown(steps=3))
    with pytest.raises(
        ValueError, match=r"on_divergence is raise_temperature, which needs .*\(got warm_down\)"
    ):
        settings(tmp_path, loss=loss, on_divergence="raise_temperature")


def test_raising_does_not_go_with_temperatures_by_source(tmp_path):
    part = config.MixturePart(source=settings(tmp_path).data.train, temperature=0.1)
    mixture = {"data.train": config.Mixture(parts=(part,))}
    with pytest.raises(ValueError, match=r"parts\[0\] has a temperature of its own, which cannot"):
        settings(tmp_path, on_divergence="raise_temperature", **mixture)

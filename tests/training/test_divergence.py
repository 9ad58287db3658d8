"""Runs that diverge: what is kept, and what goes on."""

import pytest
import tiny

from contrastive import config
from contrastive.errors import DivergedError
from contrastive.lab.advisor import advise
from contrastive.temperature import Fixed, Learned
from contrastive.training import runner
from contrastive.training.assemble import assemble
from contrastive.training.runner import run
from contrastive.training.writers import read_metrics


def settings(tmp_path, **changes):
    loss = config.Loss(temperature=0.05)
    usual = {"steps": 8, "save_steps": 2, "eval_steps": None, "loss": loss}
    return tiny.experiment(tmp_path, **{**usual, **changes})


@pytest.fixture
def breaking(monkeypatch):
    """Makes the step of some numbers not finite below a temperature."""

    def arrange(steps, below):
        def broken(experiment, *args):
            parts = assemble(experiment, *args)
            step = parts.train_step

            def spoilt(state, batch, diagnosing):
                number = int(state.step) + 1
                new, metrics = step(state, batch, diagnosing)
                if number in steps and float(metrics["temperature"]) < below:
                    metrics = {**metrics, "finite": metrics["finite"] * 0}
                return new, metrics

            object.__setattr__(parts, "train_step", spoilt)
            return parts

        monkeypatch.setattr(runner, "assemble", broken)

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


@pytest.mark.parametrize("policy", [config.Fixed(), config.Learned()], ids=lambda x: x.kind)
def test_a_run_goes_on_from_its_last_checkpoint_at_twice_the_temperature(
    tmp_path, breaking, policy, capsys
):
    breaking({5}, below=0.15)  # 0.05 and 0.1 break, 0.2 does not
    loss = config.Loss(temperature=0.05, policy=policy)
    changes = {"loss": loss, "on_divergence": "raise_temperature"}
    run(settings(tmp_path, **changes), tmp_path / "run")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    steps = [row["step"] for row in rows if "loss" in row]
    assert steps == list(range(1, 9))
    raised = [(row["step"], row["raised_temperature"]) for row in rows if len(row) == 2]
    assert raised == [(4, pytest.approx(0.1, rel=0.02)), (4, pytest.approx(0.2, rel=0.02))]
    by_step = {row["step"]: row["temperature"] for row in rows if "temperature" in row}
    assert by_step[4] == pytest.approx(0.05, rel=0.02)
    assert by_step[5] == pytest.approx(0.2, rel=0.02)
    assert "the 2. time of 3 at most" in capsys.readouterr().err


def test_it_starts_again_where_there_is_no_checkpoint(tmp_path, breaking):
    breaking({1}, below=0.09)
    raising = settings(tmp_path, on_divergence="raise_temperature", save_steps=None)
    results = run(raising, tmp_path / "run")
    assert results["temperature"] == pytest.approx(0.1)
    assert len(tiny.losses(tmp_path / "run")) == 8


def test_after_three_times_it_stops(tmp_path, breaking):
    breaking({5}, below=9.0)
    raising = settings(tmp_path, on_divergence="raise_temperature")
    with pytest.raises(DivergedError, match="step 5"):
        run(raising, tmp_path / "run")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["temperature"] == pytest.approx(0.4)


def test_a_run_that_was_raised_and_killed_is_not_raised_again(tmp_path, breaking, monkeypatch):
    breaking({3}, below=0.09)
    raising = settings(tmp_path, on_divergence="raise_temperature")

    with monkeypatch.context() as patch:
        patch.setattr(runner, "Interrupt", tiny.stopping_after(6))
        assert run(raising, tmp_path / "run") is None
    results = run(raising, tmp_path / "run")
    assert results["temperature"] == pytest.approx(0.1)
    raised = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if len(row) == 2]
    assert [row["raised_temperature"] for row in raised] == [pytest.approx(0.1)]


def test_raising_needs_a_temperature_that_can_be_raised(tmp_path):
    loss = config.Loss(policy=config.WarmDown(steps=3))
    with pytest.raises(ValueError, match="warm_down leaves no room for"):
        settings(tmp_path, loss=loss, on_divergence="raise_temperature")


def test_raising_does_not_go_with_temperatures_by_source(tmp_path):
    part = config.Part(source=settings(tmp_path).data.train, temperature=0.1)
    mixture = {"data.train": config.Mixture(parts=(part,))}
    with pytest.raises(ValueError, match=r"parts\[0\] has a temperature of its own, which nothing"):
        settings(tmp_path, on_divergence="raise_temperature", **mixture)


@pytest.mark.parametrize(("policy", "expected"), [(Fixed(0.05), 0.1), (Learned(0.6), 1.0)])
def test_a_policy_scales_its_temperature_within_its_range(policy, expected):
    scaled = policy.scaled(policy.init(), 2.0)
    assert float(policy.temperature(scaled, 0)) == pytest.approx(expected, rel=1e-5)

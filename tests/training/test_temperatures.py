"""What a run's temperature does over its steps, and what is kept of it."""

import numpy as np
import pytest
import tiny

from contrastive import config
from contrastive.temperature._detailed_diagnostics import BINS
from contrastive.training.metrics_file import read_metrics
from contrastive.training.train import train_experiment as run

STEPS = 6
QUICK = {"model": config.Static(width=16)}  # to compile


def losses(policy):
    return config.Objective(temperature=0.05, policy=policy)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (config.Linear(last=0.35), [0.05, 0.1, 0.15, 0.2, 0.25, 0.3]),
        (config.Linear(last=0.15, steps=2), [0.05, 0.1, 0.15, 0.15, 0.15, 0.15]),
        (config.Oscillating(other=0.25, period=4), [0.05, 0.15, 0.25, 0.15, 0.05, 0.15]),
        (config.WarmDown(start=0.8, steps=4), [0.8, 0.4, 0.2, 0.1, 0.05, 0.05]),
    ],
    ids=lambda x: x.kind if isinstance(x, config.Config) else "",
)
def test_a_schedule_is_followed_from_the_first_step(tmp_path, policy, expected):
    changes = {
        "steps": STEPS,
        "eval_steps": None,
        "loss": losses(policy),
        "save_steps": None,
        **QUICK,
    }
    settings = tiny.experiment(tmp_path, **changes)
    run(settings.replace(**{"optimizer.warmup_steps": 0}), tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in row]
    np.testing.assert_allclose([row["temperature"] for row in rows], expected, rtol=1e-5)


def test_a_run_looks_closer_when_due_and_at_its_end(tmp_path):
    changes = {"detail_steps": 4, "loss": losses(config.Fixed()), "eval_steps": None}
    run(tiny.experiment(tmp_path, steps=STEPS, **changes), tmp_path / "run")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows if "modality_gap" in row] == [4, 6]
    histograms = read_metrics(tmp_path / "run" / "histograms.jsonl")
    assert [row["step"] for row in histograms] == [4, 6]
    for row in histograms:
        for name in ("positive", "negative"):
            assert len(row[name]) == BINS
            assert sum(row[name]) == pytest.approx(1, abs=1e-4)
    norms = [name for name in rows[0] if name.startswith("grad_norm/")]
    squares = sum(rows[0][name] ** 2 for name in norms)
    assert len(norms) > 1
    assert squares == pytest.approx(rows[0]["grad_norm"] ** 2, rel=1e-4)


def test_sources_with_temperatures_of_their_own(tmp_path):
    """A run whose every source has 0.3 is the run at 0.3, and logs it, whatever the loss says."""
    loss = losses(config.Fixed())
    base = tiny.experiment(tmp_path, steps=3, eval_steps=None, loss=loss, **QUICK)
    part = config.MixturePart(source=base.data.train)
    runs = {}
    for name, temperature, own in (("own", 0.05, 0.3), ("all", 0.3, None)):
        parts = (part.replace(temperature=own), part.replace(temperature=own))
        changes = {"data.train": config.Mixture(parts=parts), "loss.temperature": temperature}
        run(base.replace(**changes), tmp_path / name)
        runs[name] = tiny.losses(tmp_path / name)
        rows = [row for row in read_metrics(tmp_path / name / "metrics.jsonl") if "loss" in row]
        assert [row["temperature"] for row in rows] == [pytest.approx(0.3)] * 3
    np.testing.assert_allclose(runs["own"], runs["all"], rtol=1e-6)

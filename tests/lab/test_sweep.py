"""Runs of a sweep against the same runs alone; stopped, divided, and one that diverges."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pyarrow.parquet
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

import tiny

from contrastive.config import Fixed, HardNegative, InfoNCE, Loss, SogCLR
from contrastive.lab import sweep as sweeping
from contrastive.lab.grid import Grid
from contrastive.lab.sweep import sweep
from contrastive.training.runner import run
from contrastive.training.writers import read_metrics

AXES = {"loss.temperature": (0.02, 0.1, 0.5), "optimizer.learning_rate": (1e-3, 1e-2)}
CHANGES = {"steps": 6, "eval_steps": 3, "save_steps": 2, "optimizer.warmup_steps": 1}


def base(folder, **changes):
    # Learned temperatures start within their limits; averages of SogCLR are state of each run.
    return tiny.experiment(folder, **{**CHANGES, **changes})


def losses_of(workdir, number):
    rows = [row for path in workdir.rglob("metrics.jsonl") for row in read_metrics(path)]
    return [row["loss"] for row in rows if row["member"] == number and "loss" in row]


def histograms_of(workdir, number):
    rows = [row for path in workdir.rglob("histograms.jsonl") for row in read_metrics(path)]
    return [row for row in rows if row["member"] == number]


def score(encoder, params):
    """A number that only a run's own parameters have."""
    return {"first": float(encoder.queries(params, ["kaba lode"])[0, 0])}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    grid = Grid(base(folder), AXES, seeds=2)
    return grid, folder, sweep(grid, folder / "sweep", score)


def test_each_run_is_the_run_alone(swept, tmp_path):
    grid, folder, table = swept
    assert len(table["rows"]) == 12
    for member in (grid.members[0], grid.members[5], grid.members[11]):
        alone = run(grid.alone(member), tmp_path / str(member.number))
        row = table["rows"][member.number]
        rows = read_metrics(tmp_path / str(member.number) / "metrics.jsonl")
        expected = [r["loss"] for r in rows if "loss" in r]
        found = losses_of(folder / "sweep", member.number)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.max(np.abs(expected)))
        assert row["best_step"] == alone["best_step"]
        for name, value in alone["scores"].items():
            assert row[name] == pytest.approx(value, abs=1e-6), name
        last = {name: x for each in rows for name, x in each.items() if x is not None}
        for name in ("loss", "effective_negatives", "modality_gap", "top_10_share"):
            assert row[f"last/{name}"] == pytest.approx(last[name], rel=1e-4), name
        (bins,) = read_metrics(tmp_path / str(member.number) / "histograms.jsonl")
        (own,) = histograms_of(folder / "sweep", member.number)
        assert own["step"] == bins["step"] == 6
        np.testing.assert_allclose(own["positive"], bins["positive"], atol=1 / 8 + 1e-6)
        assert np.abs(np.subtract(own["negative"], bins["negative"])).sum() < 0.05


def test_seeds_and_settings_differ(swept):
    _, folder, table = swept
    last = [losses_of(folder / "sweep", row["member"])[-1] for row in table["rows"]]
    assert len(set(np.round(last, 6))) == 12
    assert len({row["first"] for row in table["rows"]}) == 12


def test_the_table_is_written_twice(swept):
    _, folder, table = swept
    assert json.loads((folder / "sweep" / "sweep.json").read_text()) == table
    rows = pyarrow.parquet.read_table(folder / "sweep" / "sweep.parquet").to_pylist()
    assert rows == table["rows"]


def test_given_again_nothing_is_trained(swept):
    grid, folder, table = swept
    again = sweep(grid, folder / "sweep", score)
    assert again["rows"] == table["rows"]


def test_runs_that_do_not_fit_go_one_part_after_the_other(swept, tmp_path, monkeypatch):
    grid, _, table = swept
    asked = []
    whole = sweeping.Batched.memory
    monkeypatch.setattr(
        sweeping.Batched, "memory", lambda self, batch: asked.append(whole(self, batch)) or 300
    )
    monkeypatch.setattr(sweeping, "free_memory", lambda: 100 / jax.device_count())
    parts = sweep(grid, tmp_path / "parts", score)
    assert asked[0] > 1000
    assert len(list((tmp_path / "parts").rglob("rows.json"))) == 4  # 300 / (0.8 * 100)
    for a, b in zip(parts["rows"], table["rows"], strict=True):
        scores = {name: x for name, x in b.items() if not name.startswith("last/")}
        assert {name: a[name] for name in scores} == pytest.approx(scores, abs=1e-6)
        # Sums over a batch, which another program adds up in another order.
        numbers = {name: x for name, x in b.items() if x is not None}
        assert {name: a[name] for name in numbers} == pytest.approx(numbers, rel=1e-5)
        assert [name for name, x in a.items() if x is None] == [n for n in b if n not in numbers]


def test_stopped_and_given_again(swept, tmp_path, monkeypatch):
    grid, _, table = swept

    with monkeypatch.context() as patch:
        patch.setattr(sweeping.crew, "Interrupt", tiny.stopping_after(4))
        assert sweep(grid, tmp_path / "stopped", score) is None
    resumed = sweep(grid, tmp_path / "stopped", score)
    assert resumed["rows"] == table["rows"]
    whole = losses_of(tmp_path / "stopped", 3)
    assert len(whole) == CHANGES["steps"]


def test_a_run_that_diverges_stays_where_it_was_and_disturbs_nobody(tmp_path):
    loss = Loss(function=InfoNCE(), temperature=0.1, policy=Fixed())
    grid = Grid(base(tmp_path, loss=loss), {"optimizer.learning_rate": (1e-3, 1e38, 1e-2)})
    table = sweep(grid, tmp_path / "sweep")
    assert [row["diverged_at"] is None for row in table["rows"]] == [True, False, True]
    assert "nDCG@10" not in table["rows"][1]
    sound = Grid(grid.base, {"optimizer.learning_rate": (1e-3, 1e-2)})
    rows = sweep(sound, tmp_path / "sound")["rows"]
    for a, b in zip(table["rows"][::2], rows, strict=True):
        assert a["nDCG@10"] == pytest.approx(b["nDCG@10"], abs=1e-6)


def test_other_fields_are_programs_of_their_own(tmp_path):
    loss = Loss(function=HardNegative(beta=0.5), temperature=0.1)
    axes = {"batch_size": (4, 8), "loss.function.beta": (0.5, 1.0), "data.group_size": (1, 3)}
    grid = Grid(base(tmp_path, loss=loss, steps=2, eval_steps=None), axes)
    table = sweep(grid, tmp_path / "sweep")
    assert len(list((tmp_path / "sweep").rglob("rows.json"))) == 4
    settings = [tuple(row[name] for name in axes) for row in table["rows"]]
    assert settings == [tuple(m.values.values()) for m in grid.members]
    alone = run(grid.alone(grid.members[6]), tmp_path / "alone")
    assert table["rows"][6]["nDCG@10"] == pytest.approx(alone["scores"]["nDCG@10"], abs=1e-6)


@pytest.mark.parametrize(
    ("function", "axes"),
    [
        (SogCLR(rho=1.0), {"loss.function.rho": (0.5, 2.0), "loss.function.gamma": (0.5, 0.9)}),
        (InfoNCE(), {"loss.function.margin": (0.0, 0.1), "loss.function.hardness": (1.0, 5.0)}),
        (InfoNCE(), {"loss.function.label_smoothing": (0.0, 0.1), "loss.above_positive": (0, 0.1)}),
        (InfoNCE(), {"optimizer.weight_decay": (0.0, 0.1), "optimizer.max_grad_norm": (0.1, 1.0)}),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else x.kind,
)
def test_numbers_of_loss_and_optimizer_are_one_program(tmp_path, function, axes):
    loss = Loss(function=function, temperature=0.1)
    grid = Grid(base(tmp_path, loss=loss, steps=2, eval_steps=None), axes)
    sweep(grid, tmp_path / "sweep")
    assert len(list((tmp_path / "sweep").rglob("rows.json"))) == 1

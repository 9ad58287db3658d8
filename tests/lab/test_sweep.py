"""Runs of a sweep against the same runs alone; stopped, divided, and one that diverges."""

import json
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import pyarrow.parquet
import pytest
from jax.sharding import AxisType

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

import tiny

from contrastive.config import Fixed, HardNegative, InfoNCE, Loss, SogCLR, Static
from contrastive.errors import FolderError
from contrastive.lab import sweep as sweeping
from contrastive.lab.batched import Batched
from contrastive.lab.grid import Grid
from contrastive.lab.sweep import sweep
from contrastive.training.runner import run
from contrastive.training.writers import read_metrics

AXES = {"loss.temperature": (0.02, 0.1, 0.5), "optimizer.learning_rate": (1e-3, 1e-2)}
QUICK = Static(width=16)  # to compile
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


def validations_of(workdir, number):
    rows = [row for path in workdir.rglob("metrics.jsonl") for row in read_metrics(path)]
    name = "validation/nDCG@10"
    return {row["step"]: row[name] for row in rows if row["member"] == number and name in row}


def devices(monkeypatch, count):
    """Runs are divided among so many devices."""
    mesh = jax.make_mesh(
        (count,), ("members",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count]
    )
    monkeypatch.setattr(sweeping, "member_mesh", lambda: mesh)


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
        validated = {r["step"]: r["validation/nDCG@10"] for r in rows if "validation/nDCG@10" in r}
        assert row["validation/nDCG@10"] == pytest.approx(max(validated.values()), abs=1e-6)
        assert validations_of(folder / "sweep", member.number) == pytest.approx(validated, abs=1e-6)
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
    devices(monkeypatch, 2)  # 6 runs on each
    monkeypatch.setattr(sweeping.Batched, "memory", lambda self, batch, copies: 600)
    monkeypatch.setattr(sweeping, "free_memory", lambda: 260)
    parts = sweep(grid, tmp_path / "parts", score)
    assert len(list((tmp_path / "parts").rglob("rows.json"))) == 3  # 2 of 100 are below 0.8 x 260
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
        patch.setattr(sweeping, "Interrupt", tiny.stopping_after(4))
        assert sweep(grid, tmp_path / "stopped", score) is None
    resumed = sweep(grid, tmp_path / "stopped", score)
    assert resumed["rows"] == table["rows"]
    whole = losses_of(tmp_path / "stopped", 3)
    assert len(whole) == CHANGES["steps"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three runs on two devices, and their rows."""
    folder = tmp_path_factory.mktemp("small")
    axes = {"loss.temperature": (0.05, 0.1, 0.5)}
    grid = Grid(base(folder, steps=4, eval_steps=2, save_steps=None), axes)
    with pytest.MonkeyPatch.context() as patch:
        devices(patch, 2)
        return grid, folder, sweep(grid, folder / "sweep", score)["rows"]


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_stopped_and_given_again_on_other_devices(small, tmp_path, monkeypatch, before, after):
    grid, _, rows = small
    devices(monkeypatch, before)
    with monkeypatch.context() as patch:
        patch.setattr(sweeping, "Interrupt", tiny.stopping_after(2))
        assert sweep(grid, tmp_path / "stopped", score) is None
    devices(monkeypatch, after)
    for a, b in zip(sweep(grid, tmp_path / "stopped", score)["rows"], rows, strict=True):
        assert a["last/loss"] == pytest.approx(b["last/loss"], rel=1e-5)
        assert a["nDCG@10"] == pytest.approx(b["nDCG@10"], abs=1e-6)


def test_a_stop_while_runs_are_scored_is_heard_and_training_is_kept(small, tmp_path, monkeypatch):
    grid, _, rows = small
    devices(monkeypatch, 2)
    heard = []

    def stopping(encoder, params):
        heard.append(1)
        signal.raise_signal(signal.SIGTERM)
        return score(encoder, params)

    assert sweep(grid, tmp_path / "stopped", stopping) is None
    assert len(heard) == 1
    monkeypatch.setattr(Batched, "step", lambda self, diagnosing: None)
    with pytest.raises(ZeroDivisionError):
        sweep(grid, tmp_path / "stopped", lambda encoder, params: {"x": 1 / 0})
    assert sweep(grid, tmp_path / "stopped", score)["rows"] == rows


def test_another_score_is_taken_of_the_runs_that_were_trained(small, monkeypatch):
    grid, folder, rows = small
    devices(monkeypatch, 2)
    monkeypatch.setattr(Batched, "step", lambda self, diagnosing: None)
    other = sweep(grid, folder / "sweep", lambda encoder, params: {"none": np.float32("nan")})
    assert [row["none"] for row in other["rows"]] == [None] * 3
    assert "first" not in other["rows"][0]
    assert sweep(grid, folder / "sweep", score)["rows"] == rows


def test_memory_is_that_of_each_device(tmp_path):
    """A run a device needs what one run alone does, and eight on one device far more."""
    grid = Grid(base(tmp_path), {}, seeds=8)
    parts = sweeping._assembled(grid.base)
    batch = parts.feed.take(stop=False).batch

    def memory(count, runs, **options):
        mesh = jax.make_mesh(
            (count,), ("members",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count]
        )
        return Batched(parts.program, grid.base, grid.members[:runs], (), mesh).memory(
            batch, **options
        )

    one = memory(1, 1)
    assert memory(8, 8) == pytest.approx(one, rel=0.05)
    assert memory(1, 8) > 5 * one
    encoder = sum(x.nbytes for x in jax.tree.leaves(parts.init().params["encoder"]))
    assert memory(1, 8, copies=2) - memory(1, 8) == 16 * encoder
    assert memory(8, 8, copies=2) - memory(8, 8) == 2 * encoder


def test_nobody_trains_in_the_folder_of_a_sweep(swept):
    grid, folder, _ = swept
    with pytest.raises(FolderError, match=r"the sweep in .* have changed: axes, seeds"):
        run(grid.base, folder / "sweep")


def test_a_run_that_diverges_stays_where_it_was_and_disturbs_nobody(tmp_path):
    loss = Loss(function=InfoNCE(), temperature=0.1, policy=Fixed())
    grid = Grid(base(tmp_path, loss=loss), {"optimizer.learning_rate": (1e-3, 1e38, 1e-2)})
    table = sweep(grid, tmp_path / "sweep")
    assert [row["diverged_at"] is None for row in table["rows"]] == [True, False, True]
    assert "nDCG@10" not in table["rows"][1]
    ended = table["rows"][1]["diverged_at"]
    lines = [
        row for path in (tmp_path / "sweep").rglob("metrics.jsonl") for row in read_metrics(path)
    ]
    own = [row for row in lines if row["member"] == 1]
    assert {"step": ended, "member": 1, "finite": 0.0} in own
    assert max(row["step"] for row in own) == ended
    assert all(row["step"] < ended for row in own if "loss" in row)
    sound = Grid(grid.base, {"optimizer.learning_rate": (1e-3, 1e-2)})
    rows = sweep(sound, tmp_path / "sound")["rows"]
    for a, b in zip(table["rows"][::2], rows, strict=True):
        assert a["nDCG@10"] == pytest.approx(b["nDCG@10"], abs=1e-6)


def test_other_fields_are_programs_of_their_own(tmp_path, monkeypatch):
    devices(monkeypatch, 1)
    loss = Loss(function=HardNegative(beta=0.5), temperature=0.1)
    axes = {"batch_size": (4, 8), "loss.function.beta": (0.5, 1.0), "data.group_size": (1, 3)}
    grid = Grid(base(tmp_path, loss=loss, model=QUICK, steps=2, eval_steps=None), axes)
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
    grid = Grid(base(tmp_path, loss=loss, model=QUICK, steps=2, eval_steps=None), axes)
    sweep(grid, tmp_path / "sweep")
    assert len(list((tmp_path / "sweep").rglob("rows.json"))) == 1


def test_decays_of_moments_are_programs_of_their_own(tmp_path, monkeypatch):
    """In one program float32 would round 1 - b2 twice."""
    devices(monkeypatch, 1)
    quick = base(tmp_path, model=QUICK, steps=4, eval_steps=None)
    grid = Grid(quick, {"optimizer.b2": (0.9, 0.99999)})
    sweep(grid, tmp_path / "sweep")
    assert len(list((tmp_path / "sweep").rglob("rows.json"))) == 2
    run(grid.alone(grid.members[1]), tmp_path / "alone")
    found = losses_of(tmp_path / "sweep", 1)
    np.testing.assert_allclose(found, tiny.losses(tmp_path / "alone"), rtol=1e-5)

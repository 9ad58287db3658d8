"""Runs of a sweep against the same runs alone; stopped, divided, and one that diverges."""

import json
import shutil
import signal

import jax
import numpy as np
import pyarrow.parquet
import pytest
import tiny
from jax.sharding import AxisType

from contrastive.config import Fixed, HardNegative, InfoNCE, Objective, SogCLR, Static
from contrastive.errors import FolderError
from contrastive.sweeps import sweep as sweeping
from contrastive.sweeps.grid import Grid
from contrastive.sweeps.sweep import run_sweep as sweep
from contrastive.sweeps.vmapped_runs import VmappedRuns
from contrastive.tasks import Evaluator, ScoreName
from contrastive.tasks.retrieval import examples
from contrastive.training import loop
from contrastive.training.metrics_file import read_metrics
from contrastive.training.train import train_experiment as run

AXES = {"loss.temperature": (0.02, 0.1, 0.5), "optimizer.learning_rate": (1e-3, 1e-2)}
QUICK = Static(width=16)  # to compile
CHANGES = {"steps": 6, "eval_steps": 3, "save_steps": 2, "optimizer.warmup_steps": 1}


class First(Evaluator):
    """A number that only a run's own parameters have."""

    def evaluate(self, encoder, data):
        return {"first": float(encoder.encode_queries(["kaba lode"])[0, 0])}


def base(folder, **changes):
    # Learned temperatures start within their limits; averages of SogCLR are state of each run.
    experiment = tiny.experiment(folder, **CHANGES)
    scored = {"test": experiment.evaluators["validation"], "own": First()}
    return experiment.replace(final_evaluators=scored).replace(**changes)


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


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    grid = Grid(base(folder), AXES, seeds=2)
    return grid, folder, sweep(grid, folder / "sweep")


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
        for evaluator, scores in alone["scores"].items():
            for name, value in scores.items():
                column = str(ScoreName("test", evaluator, name))
                assert row[column] == pytest.approx(value, abs=1e-6), name
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
    assert len({row["test/own/first"] for row in table["rows"]}) == 12


def test_the_table_is_written_twice(swept):
    _, folder, table = swept
    assert json.loads((folder / "sweep" / "sweep.json").read_text()) == table
    rows = pyarrow.parquet.read_table(folder / "sweep" / "sweep.parquet").to_pylist()
    assert rows == table["rows"]


def test_what_each_run_retrieved_is_stored(swept):
    _, folder, table = swept
    stored = json.loads((folder / "sweep" / "programs" / "0" / "0" / "examples.json").read_text())
    assert stored["split"] == "test"
    assert set(stored["runs"]) == {str(row["member"]) for row in table["rows"]}
    queries = {tuple(x["query"] for x in run["test"]) for run in stored["runs"].values()}
    assert [len(of_run) for of_run in queries] == [12]  # the same for all runs


def test_a_task_of_both_splits_has_a_column_of_each(tmp_path, monkeypatch):
    devices(monkeypatch, 1)
    one = base(tmp_path, model=QUICK, steps=2, eval_steps=1)
    task = {"dev": one.evaluators["validation"]}
    both = one.replace(evaluators=task, final_evaluators=task)
    monkeypatch.setattr(examples, "_QUERIES", 99)
    (row,) = sweep(Grid(both, {}), tmp_path / "sweep")["rows"]
    stored = json.loads((tmp_path / "sweep" / "programs" / "0" / "0" / "examples.json").read_text())
    ranks = [x["rank"] for x in stored["runs"]["0"]["dev"]]
    gains = [1 / rank if rank and rank <= 10 else 0.0 for rank in ranks]
    assert np.mean(gains) == pytest.approx(row["test/dev/MRR@10"])
    assert row["validation/dev/nDCG@10"] == row["test/dev/nDCG@10"]  # the same texts
    assert "validation/dev/MRR@10" not in row  # of the score that selects alone
    assert "test/dev/MRR@10" in row
    rows = read_metrics(tmp_path / "sweep" / "programs" / "0" / "0" / "metrics.jsonl")
    logged = [each["dev/nDCG@10"] for each in rows if "dev/nDCG@10" in each]
    assert max(logged) == pytest.approx(row["validation/dev/nDCG@10"])


def test_given_again_nothing_is_trained(swept):
    grid, folder, table = swept
    again = sweep(grid, folder / "sweep")
    assert again["rows"] == table["rows"]


@pytest.mark.slow
def test_runs_that_do_not_fit_go_one_part_after_the_other(swept, tmp_path, monkeypatch):
    grid, _, table = swept
    devices(monkeypatch, 2)  # 6 runs on each
    monkeypatch.setattr(sweeping.VmappedRuns, "memory", lambda self, batch, copies: 600)
    monkeypatch.setattr(sweeping, "free_memory", lambda: 260)
    parts = sweep(grid, tmp_path / "parts")
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
        patch.setattr(loop, "Interrupt", tiny.stopping_after(4))
        assert sweep(grid, tmp_path / "stopped") is None
    resumed = sweep(grid, tmp_path / "stopped")
    assert resumed["rows"] == table["rows"]
    whole = losses_of(tmp_path / "stopped", 3)
    assert len(whole) == CHANGES["steps"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three runs on two devices, and their rows."""
    folder = tmp_path_factory.mktemp("small")
    axes = {"loss.temperature": (0.05, 0.1, 0.5)}
    grid = Grid(base(folder, model=QUICK, steps=4, eval_steps=2, save_steps=None), axes)
    with pytest.MonkeyPatch.context() as patch:
        devices(patch, 2)
        return grid, folder, sweep(grid, folder / "sweep")["rows"]


@pytest.mark.parametrize(("before", "after"), [(2, 1), pytest.param(1, 2, marks=pytest.mark.slow)])
def test_stopped_and_given_again_on_other_devices(small, tmp_path, monkeypatch, before, after):
    grid, _, rows = small
    devices(monkeypatch, before)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "Interrupt", tiny.stopping_after(2))
        assert sweep(grid, tmp_path / "stopped") is None
    devices(monkeypatch, after)
    for a, b in zip(sweep(grid, tmp_path / "stopped")["rows"], rows, strict=True):
        assert a["last/loss"] == pytest.approx(b["last/loss"], rel=1e-5)
        assert a["test/nDCG@10"] == pytest.approx(b["test/nDCG@10"], abs=1e-6)


def test_a_damaged_number_of_runs_is_refused(small, tmp_path, monkeypatch):
    grid, _, _ = small
    devices(monkeypatch, 2)
    (tmp_path / "sweep" / "programs" / "0").mkdir(parents=True)
    (tmp_path / "sweep" / "programs" / "0" / "size.json").write_text("[")
    for name in ("config.json", "inputs.json"):
        shutil.copy(small[1] / "sweep" / name, tmp_path / "sweep")
    with pytest.raises(FolderError, match=r"size.json: not valid JSON .*; remove .*programs/0"):
        sweep(grid, tmp_path / "sweep")


def test_a_stop_while_runs_are_scored_is_heard_and_training_is_kept(small, tmp_path, monkeypatch):
    grid, _, rows = small
    devices(monkeypatch, 2)
    heard = []

    def stopping(self, encoder, data):
        heard.append(1)
        signal.raise_signal(signal.SIGTERM)
        return {"first": 0.0}

    with monkeypatch.context() as patch:
        patch.setattr(First, "evaluate", stopping)
        assert sweep(grid, tmp_path / "stopped") is None
    assert len(heard) == 1
    monkeypatch.setattr(VmappedRuns, "step", lambda self, state, batch, diagnosing: 1 / 0)
    with monkeypatch.context() as patch:
        patch.setattr(First, "evaluate", lambda self, encoder, data: {"first": 1 / 0})
        with pytest.raises(ZeroDivisionError):
            sweep(grid, tmp_path / "stopped")
    assert sweep(grid, tmp_path / "stopped")["rows"] == rows


def test_what_is_not_a_number_is_none_in_the_table(small, tmp_path, monkeypatch):
    grid, _, _ = small
    devices(monkeypatch, 2)
    monkeypatch.setattr(First, "evaluate", lambda self, encoder, data: {"first": np.nan})
    quick = grid.base.replace(steps=1, eval_steps=None, **{"optimizer.warmup_steps": 0})
    table = sweep(Grid(quick, grid.axes), tmp_path / "sweep")
    assert [row["test/own/first"] for row in table["rows"]] == [None] * 3


def test_other_evaluators_are_another_sweep(small):
    grid, folder, _ = small
    other = Grid(grid.base.replace(final_evaluators={}), grid.axes)
    with pytest.raises(FolderError, match="another config:\n  final_evaluators"):
        sweep(other, folder / "sweep")


@pytest.mark.slow
def test_patience_ends_each_run_where_it_would_end_alone(tmp_path, monkeypatch):
    devices(monkeypatch, 1)
    patient = base(tmp_path, model=QUICK, steps=12, eval_steps=1, patience=2, save_steps=None)
    axes = {"optimizer.learning_rate": (1e-30, 1e-2)}
    grid = Grid(patient.replace(**{"optimizer.warmup_steps": 0}), axes)
    table = sweep(grid, tmp_path / "sweep")
    for member, row in zip(grid.members, table["rows"], strict=True):
        alone = run(grid.alone(member), tmp_path / str(member.number))
        assert row["best_step"] == alone["best_step"]
        score = alone["scores"]["test"]["nDCG@10"]
        assert row["test/nDCG@10"] == pytest.approx(score, abs=1e-6)


@pytest.mark.slow
def test_memory_is_that_of_each_device(tmp_path):
    """A run a device needs what one run alone does, and eight on one device far more."""
    grid = Grid(base(tmp_path), {}, seeds=8)
    parts = sweeping._built(grid.base)
    batch = parts.feed.take(stop=False).batch

    def memory(count, runs, **options):
        mesh = jax.make_mesh(
            (count,), ("members",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count]
        )
        return VmappedRuns(parts.functions, grid.base, grid.members[:runs], (), mesh).memory(
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
    with pytest.raises(FolderError, match="is the folder of a sweep, not of a run"):
        run(grid.base, folder / "sweep")


def test_a_run_that_diverges_stays_where_it_was_and_disturbs_nobody(tmp_path):
    loss = Objective(function=InfoNCE(), temperature=0.1, policy=Fixed())
    quick = base(tmp_path, loss=loss, model=QUICK)
    grid = Grid(quick, {"optimizer.learning_rate": (1e-3, 1e38, 1e-2)})
    table = sweep(grid, tmp_path / "sweep")
    assert [row["diverged_at"] is None for row in table["rows"]] == [True, False, True]
    assert "test/nDCG@10" not in table["rows"][1]
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
        assert a["test/nDCG@10"] == pytest.approx(b["test/nDCG@10"], abs=1e-6)


@pytest.mark.slow
def test_other_fields_are_programs_of_their_own(tmp_path, monkeypatch):
    devices(monkeypatch, 1)
    loss = Objective(function=HardNegative(beta=0.5), temperature=0.1)
    axes = {"batch_size": (4, 8), "loss.function.beta": (0.5, 1.0), "data.group_size": (1, 3)}
    grid = Grid(base(tmp_path, loss=loss, model=QUICK, steps=2, eval_steps=None), axes)
    table = sweep(grid, tmp_path / "sweep")
    assert len(list((tmp_path / "sweep").rglob("rows.json"))) == 4
    settings = [tuple(row[name] for name in axes) for row in table["rows"]]
    assert settings == [tuple(m.values.values()) for m in grid.members]
    alone = run(grid.alone(grid.members[6]), tmp_path / "alone")
    assert table["rows"][6]["test/nDCG@10"] == pytest.approx(
        alone["scores"]["test"]["nDCG@10"], abs=1e-6
    )


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
    loss = Objective(function=function, temperature=0.1)
    grid = Grid(base(tmp_path, loss=loss, model=QUICK, steps=2, eval_steps=None), axes)
    sweep(grid, tmp_path / "sweep")
    assert len(list((tmp_path / "sweep").rglob("rows.json"))) == 1


@pytest.mark.slow
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

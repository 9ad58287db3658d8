"""Long logs are thinned while they are read: what is drawn and advised on stays."""

import itertools
import json

import pytest
import reported

from contrastive.advice.advisor import findings
from contrastive.advice.observed import Observed
from contrastive.folders import logs
from contrastive.folders.logs import Thinned, read_histograms, read_log


def log_of(steps, members=1, **more):
    """A log whose loss falls, with an evaluation every hundred steps."""
    for step in range(1, steps + 1):
        for member in range(members):
            row = {"step": step, "loss": 4.0 / step, "temperature": 0.1, **more}
            yield row | ({"member": member} if members > 1 else {})
        if step % 100 == 0:
            yield {"step": step, "validation/nDCG@10": step / 1e6}


def test_a_short_log_is_kept_as_it_is(tmp_path):
    rows = [*log_of(300), {"step": 300, "copied": 0.1}]
    reported.write_lines(tmp_path / "m.jsonl", rows)
    kept, diverged = read_log([tmp_path / "m.jsonl"], 1)
    assert kept == {0: rows}
    assert diverged == {}


def test_of_a_long_log_the_ends_and_evenly_spaced_steps_are_kept():
    thinned = Thinned(100)
    for row in log_of(10_000):
        thinned.add(row)
    rows = thinned.rows()
    training = [row["step"] for row in rows if "loss" in row]
    assert training[:10] == list(range(1, 11))
    assert training[-10:] == list(range(9_991, 10_001))
    between = training[10:-10]
    assert 40 < len(between) <= 100
    assert {b - a for a, b in itertools.pairwise(between)} == {128}
    evaluated = [row["step"] for row in rows if "validation/nDCG@10" in row]
    assert evaluated == list(range(100, 10_001, 100))
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)


def test_runs_of_a_sweep_keep_the_same_steps(tmp_path):
    """A mean over seeds is then over all of them at each step, also if one has ended."""
    rows = [
        row for row in log_of(5_000, members=3) if row.get("member") != 1 or row["step"] < 2_000
    ]
    reported.write_lines(tmp_path / "m.jsonl", [*rows, {"step": 2000, "member": 1, "finite": 0.0}])
    kept, diverged = read_log([tmp_path / "m.jsonl"], 3)
    steps = {run: [row["step"] for row in of if "loss" in row] for run, of in kept.items()}
    assert steps[0] == steps[2]
    assert set(steps[1]) == {step for step in steps[0] if step < 2_000}
    assert diverged == {1: 2000}


def test_the_first_step_that_was_not_finite_is_found_where_it_is_left_out(tmp_path):
    rows = list(log_of(8_001))
    rows[4567] = {**rows[4567], "loss": None}
    reported.write_lines(tmp_path / "m.jsonl", rows)
    kept, diverged = read_log([tmp_path / "m.jsonl"], 1)
    assert diverged == {0: rows[4567]["step"]}
    assert len(kept[0]) < 2_000


def test_advice_on_a_thinned_log_is_that_on_all_of_it():
    shares = {"effective_negatives": 2.0, "saturated": 0.9, "accuracy": 0.9}
    rows = list(log_of(20_000, top_negative_share=0.9, **shares))
    thinned = Thinned(100)
    for row in rows:
        thinned.add(row)
    config = reported.experiment(steps=20_000)
    few, every = (findings(Observed(config, log)) for log in (thinned.rows(), rows))
    assert few == every


def test_rows_of_many_kinds_are_bounded():
    thinned = Thinned(100)
    for step in range(20_000):
        thinned.add({"step": step, f"metric {step % 5000}": 1.0})
    assert len(thinned.rows()) < 50 * 120 + 120


def test_memory_does_not_grow_with_the_log(tmp_path, monkeypatch):
    """At any moment, few more rows are held than are kept."""
    most = []
    add = Thinned.add

    def watched(self, row):
        add(self, row)
        most.append(sum(len(kind._kept) for kind in self._kinds.values()))

    monkeypatch.setattr(Thinned, "add", watched)
    reported.write_lines(tmp_path / "m.jsonl", log_of(30_000))
    read_log([tmp_path / "m.jsonl"], 1)
    assert len(most) == 30_300
    assert max(most) <= 2 * (logs._STEPS + 2 * logs._ENDS)


def test_histograms_are_thinned(tmp_path):
    rows = [{"step": step, **reported.histogram(0, 0)} for step in range(1, 1_001)]
    reported.write_lines(tmp_path / "h.jsonl", rows)
    kept = read_histograms([tmp_path / "h.jsonl"], 1)[0]
    assert len(kept) < 150
    assert kept[0] == rows[0]
    assert kept[-1] == rows[-1]
    assert json.dumps(kept[5]["gradient"]) == json.dumps(rows[5]["gradient"])
    with pytest.raises(KeyError):
        read_histograms([tmp_path / "nothing.jsonl"], 1)[0]

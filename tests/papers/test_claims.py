"""Outcomes of claims, against differences whose t intervals are known."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from contrastive.papers import (
    Sample,
    Verdict,
    above,
    all_of,
    curve,
    falls,
    judge,
    measured,
    peaks_inside,
    rises,
    sample,
    shown,
)

NOISE = np.array([0.0, 0.3, -0.2])  # of three seeds, far larger than the differences


def seeds(mean, spread=0.001):
    """Values of three seeds that share noise; a difference has a t interval of 0.0025 x spread."""
    return Sample(dict(enumerate(mean + NOISE + spread * np.array([1.0, -1.0, 0.0]))))


def points(**means):
    """A curve by value of the field."""
    return {
        float(x[1:].replace("_", ".")): seeds(y, n / 1e4) for n, (x, y) in enumerate(means.items())
    }


def test_differences_are_paired_by_seed():
    a, b = Sample({0: 0.5, 1: 0.9, 2: 0.2}), Sample({2: 0.1, 1: 0.75, 0: 0.42, 7: 9.0})
    difference = (a - b).interval
    truth = ttest_rel([0.5, 0.9, 0.2], [0.42, 0.75, 0.1]).confidence_interval(0.95)
    assert (difference.low, difference.high) == pytest.approx((truth.low, truth.high))
    assert above(a, b, ("a", "b")).outcome == "held"
    assert above(b, a, ("b", "a")).outcome == "failed"
    words = f"a {shown(a)}, b {shown(b)}, difference 0.110 ± {(truth.high - truth.low) / 2:.3f}"
    assert above(a, b, ("a", "b")).because == words
    assert (a * 2 - 1).values == {0: 0.0, 1: pytest.approx(0.8), 2: -0.6}


def test_an_interval_that_includes_0_is_undecided():
    a, b = Sample({0: 0.5, 1: 0.6, 2: 0.7}), Sample({0: 0.4, 1: 0.7, 2: 0.5})
    assert above(a, b, ("a", "b")).outcome == "undecided"
    assert above(b, a, ("b", "a")).outcome == "undecided"
    assert above(a, a, ("a", "a")).outcome == "undecided"


def test_a_margin_is_part_of_the_claim():
    a, b = seeds(0.50), seeds(0.51, 0.002)
    assert above(a, b, ("a", "b")).outcome == "failed"
    assert above(a, b, ("a", "b"), margin=-0.02).outcome == "held"
    assert above(b, a, ("b", "a"), margin=0.02).outcome == "failed"


def test_one_run_proves_nothing():
    one, other = Sample({0: 0.9}), Sample({0: 0.1})
    verdict = above(one, other, ("a", "b"))
    assert verdict.outcome == "undecided"
    assert verdict.because.startswith("a 0.900 (one run), b 0.100 (one run)")
    assert rises({1.0: other, 2.0: one}).outcome == "undecided"
    assert (
        above(Sample({0: 0.9, 1: 0.9}), Sample({2: 0.1, 3: 0.1}), ("a", "b")).outcome == "undecided"
    )


def test_a_peak_is_inside_and_above_both_sides():
    assert peaks_inside(points(t0_01=0.5, t0_1=0.7, t1=0.4), 0.01, 1.0).outcome == "held"
    assert peaks_inside(points(t0_01=0.8, t0_1=0.7, t1=0.75), 0.01, 1.0).outcome == "failed"
    one_side = peaks_inside(points(t0_01=0.8, t0_1=0.7, t1=0.4), 0.01, 1.0)
    assert one_side.words == "held against 1 only"
    beyond = points(t0_001=0.9, t0_01=0.5, t0_1=0.7, t1=0.4)
    assert peaks_inside(beyond, 0.01, 1.0).words == "held against 0.01, against 1 only"
    gone = peaks_inside(points(t0_1=0.7, t1=0.4), 0.01, 1.0)
    assert gone == Verdict("undecided", "no run is left at 0.01")
    assert peaks_inside(points(t0_01=0.7, t1=0.4), 0.01, 1.0).outcome == "undecided"


def test_a_rise_is_one_at_each_step():
    assert rises(points(t1=0.1, t2=0.3, t3=0.5)).outcome == "held"
    turned = rises(points(t1=0.1, t2=0.3, t3=0.2, t4=0.5))
    assert turned.words == "held from 1 to 2, from 3 to 4 only"
    assert rises(points(t1=0.5, t2=0.3)).outcome == "failed"
    assert falls(points(t1=0.5, t2=0.3)).outcome == "held"
    assert falls(points(t1=0.5, t2=0.3)).because == rises(points(t1=0.5, t2=0.3)).because
    assert rises(points(t1=0.5)).outcome == "undecided"


def test_parts_of_a_claim_are_named_where_only_some_hold():
    up, down = rises(points(t1=0.1, t2=0.3)), falls(points(t1=0.1, t2=0.3))
    half = rises(points(t1=0.1, t2=0.3, t3=0.2))
    assert all_of({"at a": up, "at b": up}).outcome == "held"
    assert all_of({"at a": up, "at b": down}).words == "held at a only"
    assert all_of({"at a": half, "at b": down}).words == "held from 1 to 2 at a only"
    assert all_of({"at a": down, "at b": Verdict("undecided", "")}).outcome == "failed"
    assert all_of({"at a": up}).because == f"at a: {up.because}"
    assert measured({"at 1": True, "at 2": False}, "so") == Verdict("partly", "so", ("at 1",))
    assert measured({"": False}, "so").words == "failed"
    assert judge({}, "nothing").outcome == "undecided"


def test_a_curve_is_of_the_runs_that_did_not_diverge():
    rows = [
        {"t": t, "init_seed": seed, "x": x}
        for t, seed, x in ((2, 0, 1.0), (2, 1, 3.0), (1, 0, 5.0), (3, 0, None))
    ]
    found = curve(rows, "t", "x")
    assert list(found) == [1, 2]
    assert found[2].mean == 2
    assert found[2].high == pytest.approx(2 + 12.706, rel=1e-3)
    assert sample(rows[:2], "x").values == {0: 1.0, 1: 3.0}

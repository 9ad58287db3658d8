"""The table of a sweep: paired differences, the best setting, and what is printed and drawn."""

import numpy as np
import pytest
import reported
from matplotlib.figure import Figure
from scipy.stats import ttest_rel

import contrastive
from contrastive.errors import FolderError
from contrastive.sweeps import plots
from contrastive.sweeps.table import best_setting, paired, shown
from contrastive.tables import Scores

FIELD = "loss.temperature"
VALIDATION = "validation/nDCG@10"


def rows_of(scores, column="x"):
    """Rows of a table, by temperature and seed; None for a run that diverged."""
    return [
        {FIELD: t, "init_seed": seed, "diverged_at": None if x is not None else 9}
        | ({} if x is None else {column: x})
        for t, seeds in scores.items()
        for seed, x in enumerate(seeds)
    ]


def test_differences_are_those_of_a_paired_t_test():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=5)  # of batches and initialization, which seeds share
    first, second = noise, noise + 0.3 + 0.05 * rng.normal(size=5)
    rows = rows_of({0.1: first, 0.2: second})
    difference = paired(rows, [FIELD], "x", (0.1,))[(0.2,)]
    truth = ttest_rel(second, first).confidence_interval(0.95)
    assert difference.mean == pytest.approx(np.mean(second - first))
    assert (difference.low, difference.high) == pytest.approx((truth.low, truth.high))
    assert paired(rows, [FIELD], "x", (0.1,))[(0.1,)][:3] == (0, 0, 0)


def test_seeds_without_a_partner_are_left_out():
    rows = rows_of({0.1: (1.0, None, 3.0), 0.2: (1.5, 2.0, None)})
    difference = paired(rows, [FIELD], "x", (0.1,))[(0.2,)]
    assert (difference.mean, difference.runs) == (0.5, 1)
    assert paired(rows, [FIELD], "x", (0.7,))[(0.2,)].runs == 0


def test_what_is_left_of_a_setting_that_diverged_is_not_best():
    assert best_setting(rows_of({0.1: (0.9, None), 0.2: (0.5, 0.6)}), [FIELD], "x") == (0.2,)
    assert best_setting(rows_of({0.1: (0.9, None), 0.2: (0.5, None)}), [FIELD], "x") == (0.1,)
    assert best_setting(rows_of({0.1: (None, None)}), [FIELD], "x") is None


def test_settings_are_compared_with_the_best_or_any_other(tmp_path):
    table = contrastive.load_sweep(reported.write_sweep(tmp_path / "s"))
    assert (table.chosen_by, table.best) == (VALIDATION, {FIELD: 0.1})
    assert table.score_names == [VALIDATION, "test/nDCG@10", "test/MRR@10"]
    differences = table.compare()
    assert differences[(0.05,)].mean == pytest.approx(-0.1)
    assert differences[(0.5,)] == pytest.approx((-0.3, np.nan, np.nan, 1), nan_ok=True)
    other = table.compare({FIELD: 0.05}, "test/MRR@10")
    assert other[(0.1,)].mean == pytest.approx(0.05)
    with pytest.raises(FolderError, match=r"has no setting .*0.3.*; it has .*0.05.*0.1"):
        table.compare({FIELD: 0.3})
    with pytest.raises(FolderError, match=r"no score 'nDCG@10'; it has validation/nDCG@10, test/"):
        table.by_setting("nDCG@10")


def test_the_printed_table_names_each_split_and_what_selects(tmp_path):
    table = contrastive.load_sweep(reported.write_sweep(tmp_path / "s")).results
    head, *lines, _, words = shown({**table, "evaluators": {"test": {}}}).splitlines()
    names = ["temperature", VALIDATION, "difference from the best", "test/nDCG@10", "test/MRR@10"]
    assert head.split("  ") != names
    assert [name for name in map(str.strip, head.split("  ")) if name] == [*names, "diverged"]
    assert "-0.100 ± 0.000" in lines[0]
    assert "best" in lines[1]
    assert words.endswith(f"differences are paired by seed. {VALIDATION} selects the setting.")


@pytest.mark.parametrize(("bm25", "is_line"), [(0.55, True), (0.1, False), (0.99, False)])
def test_a_distant_baseline_does_not_flatten_the_curve(tmp_path, monkeypatch, bm25, is_line):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    table = contrastive.load_sweep(reported.write_sweep(tmp_path / "s")).results
    test = {"select_best": "test/nDCG@10", "baselines": {"test": {"BM25": {"nDCG@10": bm25}}}}
    plots.draw(table | test, tmp_path)
    (axes,) = drawn[0].axes
    lines = {line.get_label() for line in axes.lines}
    assert ("BM25" in lines) == is_line
    assert any("BM25" in text.get_text() for text in axes.texts) != is_line
    low, high = axes.get_ylim()
    assert high - low == pytest.approx(2.12 * (0.75 - 0.35))  # though intervals span 1.4
    dots = [tuple(line.get_ydata()) for line in axes.lines if line.get_markersize() == 2.5]
    assert dots == [pytest.approx((0.55, 0.65, 0.65, 0.75, 0.35))]


def test_validation_scores_have_no_baseline_of_the_test_data(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    table = contrastive.load_sweep(reported.write_sweep(tmp_path / "s")).results
    plots.draw(table, tmp_path)
    (axes,) = drawn[0].axes
    assert axes.get_ylabel() == VALIDATION
    assert not axes.texts
    assert "BM25" not in {line.get_label() for line in axes.lines}


def test_scores_of_a_run_are_shown_with_what_they_are_of():
    about = {"dev": {"documents": 20}}
    baselines = {"dev": {"BM25": {"MAP": 0.3}}}
    scores = Scores({"dev": {"MAP": 0.5}}, about, split="test", model="m", baselines=baselines)
    head, bm25, ours = repr(scores).splitlines()
    assert head.split() == ["split", "task", "model", "documents", "MAP"]
    assert bm25.split() == ["test", "dev", "BM25", "20", "0.3"]
    assert ours.split() == ["test", "dev", "m", "20", "0.5"]
    assert scores == {"dev": {"MAP": 0.5}}

"""Numbers of the report against folders written by hand."""

import json
import math

import pytest
import reported

from contrastive import config
from contrastive.folders.reading import read
from contrastive.reports.cosines import cosine_blocks, penalty_blocks
from contrastive.reports.curves import (
    keys,
    once_table,
    planes,
    raised_in_words,
    training_blocks,
)
from contrastive.reports.score_figures import score_blocks
from contrastive.reports.scores import detail_tables, different_data, score_table
from contrastive.reports.softmax import left_out, why_no_gradient, why_no_weights
from contrastive.reports.study import studies
from contrastive.training.metrics_file import read_metrics

FINISHED, VALIDATION = "finished", "validation/nDCG@10"
HALF = 12.7062 * 0.05  # Student's t with one degree of freedom; scores that are 0.1 apart


def read_studies(*folders):
    return studies(read(folders))


def traces(figure, frame=0):
    return list(figure.frames[frame].figure.data)


def test_the_table_has_means_and_intervals_over_seeds(tmp_path):
    table = score_table(read_studies(reported.write_sweep(tmp_path / "s")))
    best = "difference from the best"
    assert table.head == ["temperature", "seeds", VALIDATION, best, "test/nDCG@10", "state"]
    assert [(line.label, line.cells, line.marked) for line in table.rows] == [
        ("BM25", ["", "-", "", "0.500", ""], False),
        ("0.05", ["2", f"0.650 ± {HALF:.3f}", "-0.100 ± 0.000", "0.600 ± 0.635", FINISHED], False),
        ("0.1", ["2", f"0.750 ± {HALF:.3f}", "best", f"0.700 ± {HALF:.3f}", FINISHED], True),
        ("0.5", ["2", "0.400", "-0.300", "0.350", "1 of 2 diverged at step 20"], False),
    ]


def test_all_metrics_of_a_task_are_a_table(tmp_path):
    validation, test = detail_tables(read_studies(reported.write_sweep(tmp_path / "s")))
    assert (validation.title, validation.head) == ("validation", ["temperature", "nDCG@10"])
    assert (test.title, test.head) == ("test", ["temperature", "nDCG@10", "MRR@10"])
    assert [line.label for line in validation.rows] == ["0.05", "0.1", "0.5"]
    assert [(line.label, line.cells[1]) for line in test.rows] == [
        ("BM25", "0.250"),
        ("0.05", f"0.325 ± {HALF / 2:.3f}"),
        ("0.1", f"0.375 ± {HALF / 2:.3f}"),
        ("0.5", "0.200"),
    ]


def test_scores_of_two_splits_are_never_in_one_column(tmp_path):
    """A run without final evaluators has validation scores, even if its task has a test's name."""
    validated = reported.experiment(
        evaluators={"test": config.Retrieval("dev")}, final_evaluators={}
    )
    run = reported.write_run(tmp_path / "run", config=validated)
    results = json.loads((run / "results.json").read_text())
    results |= {"split": "validation", "select_best": {"validation/test/nDCG@10": 0.6}}
    reported.write_json(run / "results.json", results)
    studies = read_studies(reported.write_sweep(tmp_path / "sweep"), run)
    table = score_table(studies)
    assert table.head[2:4] == [VALIDATION, "validation/test/nDCG@10"]
    cells = {line.label: line.cells for line in table.rows}
    assert cells["run"][1:3] == ["-", "0.550"]
    assert cells["sweep: temperature 0.1"][1:3] == [f"0.750 ± {HALF:.3f}", "-"]
    assert cells["BM25 of sweep"][1:] == ["-", "-", "", "0.500", ""]
    assert cells["BM25 of run"][1:] == ["-", "0.500", "", "-", ""]


def test_tasks_of_one_name_with_other_texts_are_not_compared_silently(tmp_path):
    folders = [reported.write_run(tmp_path / name) for name in "abc"]
    for folder, fingerprint in zip(folders, ("x", "y", "x"), strict=True):
        results = json.loads((folder / "results.json").read_text())
        results["evaluators"]["test"]["fingerprint"] = fingerprint
        reported.write_json(folder / "results.json", results)
    assert different_data(read(folders[::2])) == []
    assert different_data(read(folders)) == [
        "The texts of test differ between folders, so that their scores cannot be compared: "
        "a, c | b."
    ]


def test_baselines_that_differ_are_named_by_their_folders(tmp_path):
    folders = [reported.write_run(tmp_path / name) for name in "ab"]
    results = json.loads((folders[1] / "results.json").read_text())
    results["baselines"] = {"test": {"BM25": {"nDCG@10": 0.1}}}
    reported.write_json(folders[1] / "results.json", results)
    labels = [line.label for line in score_table(read_studies(*folders)).rows]
    assert labels == ["BM25 of a", "BM25 of b", "a", "b"]


def test_scores_against_temperature(tmp_path):
    (block,) = score_blocks(read_studies(reported.write_sweep(tmp_path / "s")))
    assert block.controls[0].places == [VALIDATION, "test/nDCG@10", "test/MRR@10"]
    band, means, dots = traces(block.figures[0])
    assert list(zip(dots.x, dots.y, strict=True)) == [
        *((0.05, 0.6), (0.05, 0.7), (0.1, 0.7), (0.1, 0.8), (0.5, 0.4)),
    ]
    assert means.x == (0.05, 0.1, 0.5)
    assert means.y == pytest.approx((0.65, 0.75, 0.4))
    assert band.x == (0.05, 0.1, 0.1, 0.05)  # at 0.5 one run is left, which has no interval
    ends = (0.65 + HALF, 0.75 + HALF, 0.75 - HALF, 0.65 - HALF)
    assert band.y == pytest.approx(ends, abs=1e-5)
    plot, words = block.figures[0].frames[0]
    assert plot.layout.xaxis.type == "log"
    low, high = plot.layout.yaxis.range
    assert high - low == pytest.approx(2.12 * 0.4)  # dots span 0.4, and intervals 1.37
    assert words == (
        f"Best {VALIDATION}: temperature 0.1, 0.750 ± {HALF:.3f}. Paired by seed, all other "
        "settings are worse beyond chance. Not compared, because not all of its seeds have a "
        "score: temperature 0.5."
    )
    *_, bm25 = traces(block.figures[0], frame=1)
    assert (bm25.x, bm25.y, bm25.line.dash) == ((0.05, 0.5), (0.5, 0.5), "dot")
    words = block.figures[0].frames[1].words
    selected = f"{VALIDATION} selects temperature 0.1, whose test/nDCG@10 is 0.700 ± {HALF:.3f}."
    assert words == selected


@pytest.mark.parametrize(("bm25", "arrow"), [(0.05, "↓"), (1.5, "↑")])
def test_a_distant_baseline_is_named_at_the_edge(tmp_path, bm25, arrow):
    folder = reported.write_sweep(tmp_path / "s")
    table = json.loads((folder / "sweep.json").read_text())
    table["baselines"] = {"test": {"BM25": {"nDCG@10": bm25}}}
    reported.write_json(folder / "sweep.json", table)
    (block,) = score_blocks(read_studies(folder))
    assert len(traces(block.figures[0], frame=1)) == 3
    (note,) = block.figures[0].frames[1].figure.layout.annotations
    assert note.text == f"BM25: {bm25:.3f} {arrow}"
    assert note.y == (bm25 > 0.5)


def test_a_band_has_a_gap_where_one_run_is_left(tmp_path):
    folder = reported.write_sweep(tmp_path / "s")
    table = json.loads((folder / "sweep.json").read_text())
    del table["rows"][3][VALIDATION]
    table["rows"][5][VALIDATION] = 0.5
    reported.write_json(folder / "sweep.json", table)
    (block,) = score_blocks(read_studies(folder))
    band, means, _ = traces(block.figures[0])
    assert band.x == (0.05, 0.05, None, 0.5, 0.5)
    assert means.y == pytest.approx((0.65, 0.7, 0.45))


def test_several_axes_are_a_line_each_and_zero_has_no_logarithm(tmp_path):
    axes = {"optimizer.weight_decay": [0.0, 0.1], "loss.temperature": [0.05, 0.1]}
    values = [(decay, t) for decay in (0.0, 0.1) for t in (0.05, 0.1)]
    rows = [
        {"member": n, "optimizer.weight_decay": d, "loss.temperature": t, VALIDATION: d + t}
        for n, (d, t) in enumerate(values)
    ]
    folder = reported.write_sweep(tmp_path / "s")
    table = json.loads((folder / "sweep.json").read_text())
    reported.write_json(folder / "sweep.json", {**table, "axes": axes, "rows": rows})
    (block,) = score_blocks(read_studies(folder))
    first, second = traces(block.figures[0])
    assert (first.name, first.y) == ("weight_decay 0", pytest.approx((0.05, 0.1)))
    assert (second.name, second.y) == ("weight_decay 0.1", pytest.approx((0.15, 0.2)))
    by_decay = {"optimizer.weight_decay": [0.0, 0.1]}
    reported.write_json(folder / "sweep.json", {**table, "axes": by_decay, "rows": rows[::2]})
    (block,) = score_blocks(read_studies(folder))
    assert block.figures[0].frames[0].figure.layout.xaxis.type is None


def test_runs_that_differ_in_a_number_are_drawn_against_it(tmp_path):
    folders = [
        reported.write_run(tmp_path / f"t{t}-{seed}", score, config=changed)
        for t, seed, score in ((0.02, 0, 0.3), (0.1, 0, 0.5), (0.1, 1, 0.6))
        for changed in [reported.experiment(**{"loss.temperature": t, "seed": seed})]
    ]
    (block,) = score_blocks(read_studies(*folders))
    _, means, _ = traces(block.figures[0])
    assert (means.x, means.y) == ((0.02, 0.1), pytest.approx((0.3, 0.55)))
    *_, bm25 = traces(block.figures[0], frame=1)
    assert bm25.y == (0.5, 0.5)


def test_runs_that_share_no_number_are_drawn_side_by_side(tmp_path):
    """Lines of one dot each, under a legend of all fields, would show nothing."""
    changes = [{"steps": 10}, {"steps": 20, "batch_size": 64}, {"steps": 20, "pooling": "mean"}]
    folders = [
        reported.write_run(tmp_path / f"run{n}", 0.5 + n / 10, config=reported.experiment(**change))
        for n, change in enumerate(changes)
    ]
    (block,) = score_blocks(read_studies(*folders))
    assert block.figures[0].title == "Scores of runs"
    (dots,) = traces(block.figures[0])
    assert (dots.x, dots.y) == ((0, 1, 2), pytest.approx((0.5, 0.6, 0.7)))
    plot = block.figures[0].frames[0].figure
    assert plot.layout.xaxis.ticktext == ("run0", "run1", "run2")
    assert (plot.layout.xaxis.title.text, plot.layout.yaxis.title.text) == ("run", VALIDATION)
    more = reported.write_run(tmp_path / "run3", config=reported.experiment(steps=30))
    (block,) = score_blocks(read_studies(*folders, more))
    assert block.figures[0].title == "Score against steps"
    assert [x.name for x in traces(block.figures[0])] == ["batch_size 256", "other runs"]


def test_every_axis_has_a_title(tmp_path):
    folders = [reported.write_sweep(tmp_path / "s"), reported.write_run(tmp_path / "r")]
    found = read_studies(*folders)
    blocks = score_blocks(found) + cosine_blocks(found) + training_blocks(found)
    blocks += penalty_blocks(found)
    figures = [x.figure for block in blocks for f in block.figures for x in f.frames]
    figures += [plane.frames[0].figure for plane in planes(found)]
    titles = [getattr(x.layout, axis).title.text for x in figures for axis in ("xaxis", "yaxis")]
    assert len(titles) > 20
    assert all(titles)


def test_histograms_are_means_over_seeds_and_the_best_comes_first(tmp_path):
    (block,) = cosine_blocks(read_studies(reported.write_sweep(tmp_path / "s")))
    temperature, step = block.controls
    assert (temperature.places, temperature.start) == (["0.05", "0.1", "0.5"], 1)
    assert step.places == ["20"]
    negative, positive = traces(block.figures[0], frame=1)
    assert list(positive.y[1:-1]) == reported.bins({85: 0.5, 86: 0.5})
    assert list(negative.y[1:-1]) == reported.bins({49: 0.75, 60: 0.25})
    centers = [negative.x0 + negative.dx * n for n in range(1, 101)]
    assert centers == pytest.approx([-0.99 + 0.02 * n for n in range(100)])
    # Of a diverged seed the histograms are left out, as its scores are.
    assert list(traces(block.figures[0], frame=2)[1].y[1:-1]) == reported.bins({90: 1.0})
    means = (0.71 + 0.73) / 2, 0.75 * -0.01 + 0.25 * 0.21
    words = block.figures[0].frames[1].words
    assert f"positives is {means[0]:.2f}, that of negatives is {means[1]:.2f}." in words


def test_the_gradient_is_what_was_measured(tmp_path):
    (block,) = cosine_blocks(read_studies(reported.write_sweep(tmp_path / "s")))
    figure = block.figures[1]
    for place in range(len(reported.TEMPERATURES)):
        _, gradient = traces(figure, frame=place)
        hard = 0.4 + 0.2 * place
        expected = reported.bins({49: 1 - hard, 59 + place: hard})
        assert list(gradient.y[1:-1]) == pytest.approx(expected, abs=1e-5)
    said = [frame.words for frame in figure.frames]
    assert said[0].startswith("100% of the gradient comes from pairs with a cosine of -0.02 or")
    assert said[1].startswith("60% of the gradient comes from pairs with a cosine of 0.20 or more")
    assert said[1].endswith("25% of all pairs of a query and a negative.")


def test_histograms_without_the_gradient_lack_its_picture(tmp_path):
    folder = reported.write_run(tmp_path / "old")
    lines = read_metrics(folder / "histograms.jsonl")
    for line in lines:
        del line["gradient"]
    reported.write_lines(folder / "histograms.jsonl", lines)
    found = read_studies(folder, reported.write_run(tmp_path / "new"))
    frames = cosine_blocks(found)[0].figures[1].frames
    assert [len(frame.figure.data) for frame in frames] == [1, 1, 2, 2]
    assert "older version that did not measure it" in frames[0].words
    assert "of the gradient comes from" in frames[2].words


@pytest.mark.parametrize(
    ("loss", "gradient", "weights"),
    [
        ({"function": config.InfoNCE(directions="symmetric")}, "", ""),
        ({"function": config.InfoNCE() + config.DistillKL()}, "", ""),
        ({"function": config.InfoNCE() + 0.1 * config.SpreadOut()}, "", ""),
        ({"function": config.InfoNCE(margin=0.1)}, "margin changes", ""),
        ({"function": config.InfoNCE(hardness=5.0)}, "hardness changes", "hardness changes"),
        ({"function": config.InfoNCE(directions="all_in_one")}, "directions all_in_one", ""),
        ({"function": config.DistillM3()}, "a teacher's scores", "a teacher's scores"),
        ({"function": 0.5 * config.DistillM3()}, "a teacher's scores", "a teacher's scores"),
        ({"function": config.Decoupled()}, "decoupled weights queries", ""),
        ({"function": config.SogCLR()}, "sogclr weights queries", ""),
        ({"function": config.Hardest()}, "hardest weights negatives", "hardest weights negatives"),
        ({"function": config.SigLIP()}, "siglip weights negatives", "siglip weights negatives"),
    ],
)
def test_pictures_of_the_gradient_are_of_losses_that_have_it(tmp_path, loss, gradient, weights):
    changed = reported.experiment(loss=config.Objective(temperature=0.05, **loss))
    found = read_studies(reported.write_run(tmp_path / "a", config=changed))
    (block,) = cosine_blocks(found)
    assert len(block.figures) == (1 if gradient else 2)
    assert (penalty_blocks(found) == []) == bool(weights)
    for why, reason in ((why_no_gradient, gradient), (why_no_weights, weights)):
        said = left_out(found, why, "It")
        assert [words.partition(": ")[2].startswith(reason) for words in said] == [True] * len(said)
        assert bool(said) == bool(reason)


def test_a_loss_without_temperature_has_none_in_words(tmp_path):
    triplet = reported.experiment(loss=config.Objective(function=config.Triplet()))
    folders = [reported.write_run(tmp_path / "triplet", config=triplet)]
    found = read_studies(*folders, reported.write_run(tmp_path / "info_nce"))
    (block,) = cosine_blocks(found)
    said = [frame.words.partition(":")[0] for frame in block.figures[0].frames]
    assert said == ["Step 10", "Step 20", "Temperature 0.1, step 10", "Temperature 0.2, step 20"]
    assert "triplet weights negatives differently" in block.figures[1].frames[0].words
    assert left_out(found, why_no_weights, "It")[0].startswith("It is not shown for triplet: ")
    figures = {figure.title: figure for figure in training_blocks(found)[0].figures}
    assert [trace.name for trace in traces(figures["temperature"])] == ["info_nce"]
    assert [trace.name for trace in traces(figures["loss"])] == ["triplet", "info_nce"]
    alone = training_blocks(read_studies(*folders))
    assert "temperature" not in [figure.title for figure in alone[0].figures]


def test_a_weight_is_relative_to_the_hardest(tmp_path):
    (block,) = penalty_blocks(read_studies(reported.write_sweep(tmp_path / "s")))
    assert [key.label for key in block.legend] == [f"temperature {t}" for t in (0.05, 0.1, 0.5)]
    for place, temperature in enumerate(reported.TEMPERATURES):
        weights = traces(block.figures[0])[place]
        assert weights.x[0] == 0
        assert weights.x[-1] == pytest.approx(0.02 * (11 + place))  # as far as negatives reach
        expected = [math.exp(-x / temperature) for x in weights.x]
        assert list(weights.y) == pytest.approx(expected, abs=1e-3)


def test_similarities_that_are_no_cosines_have_no_penalties(tmp_path):
    changed = reported.experiment(normalize=False)
    found = read_studies(reported.write_sweep(tmp_path / "s", config=changed))
    (block,) = cosine_blocks(found)
    assert len(block.figures) == 1
    assert penalty_blocks(found) == []
    (said,) = left_out(found, why_no_gradient, "The gradient")
    assert said.startswith("The gradient is not shown: embeddings are not normalized")


def test_runs_move_over_their_steps_at_the_temperature_of_each(tmp_path):
    found = read_studies(reported.write_run(tmp_path / "a"), reported.write_run(tmp_path / "b"))
    (block,) = cosine_blocks(found)
    assert [(c.name, c.places, c.start) for c in block.controls] == [
        ("run", ["a", "b"], 0),
        ("step", ["10", "20"], 1),
    ]
    assert [frame.words.partition(":")[0] for frame in block.figures[0].frames] == [
        "Temperature 0.1, step 10",
        "Temperature 0.2, step 20",
    ] * 2
    assert list(traces(block.figures[0], frame=1)[1].y[1:-1]) == reported.bins({90: 1.0})


def test_training_curves_are_means_over_seeds_that_go_on(tmp_path):
    found = read_studies(reported.write_sweep(tmp_path / "s"))
    side_by_side, *others = training_blocks(found)
    names = [figure.title for figure in side_by_side.figures]
    assert names == ["loss", "temperature", "alignment", "uniformity"]
    assert [key.label for key in side_by_side.legend] == [
        "temperature 0.05",
        "temperature 0.1",
        "temperature 0.5",
    ]
    assert [(line.x, line.y) for line in traces(side_by_side.figures[0])] == [
        ((10, 20), (4.5, 2.5)),
        ((10, 20), (6.5, 4.5)),
        ((10, 20), (8.5, 6.0)),
    ]
    assert others == []


def test_lines_are_told_apart(tmp_path):
    sweeps = [reported.write_sweep(tmp_path / name) for name in ("a", "b")]
    runs = [reported.write_run(tmp_path / f"run{n}") for n in range(8)]
    found = keys(read_studies(*sweeps, *runs))
    assert len({(key.color, key.dash) for key in found}) == 3 + 3 + 8
    assert [key.color for key in found[:3]] == [key.color for key in found[3:6]]


def test_of_several_lines_of_a_run_at_one_step_the_last_counts(tmp_path):
    folder = reported.write_run(tmp_path / "a")
    lines = [
        {"step": 10, "loss": 4.0, "temperature": 0.1},
        {"step": 10, "raised_temperature": 0.2},
        {"step": 10, "raised_temperature": 0.4},
        {"step": 10, "loss": 3.0},
        {"step": 20, "loss": 2.0, "temperature": 0.4},
    ]
    reported.write_lines(folder / "metrics.jsonl", lines)
    found = read_studies(folder, reported.write_run(tmp_path / "b"))
    setting = found[0].settings[0]
    assert setting.curve("loss") == ([10, 20], [3.0, 2.0])
    assert setting.curve("temperature") == ([10, 20], [0.1, 0.4])
    assert raised_in_words(found) == (
        "The temperature was raised when a run diverged. a: to 0.2 after step 10, then to "
        "0.4 after step 10."
    )
    assert raised_in_words(read_studies(tmp_path / "b")) == ""
    assert not any("raised" in name for name in setting.logged)


def test_what_was_measured_once_is_a_table(tmp_path):
    table = once_table(read_studies(reported.write_run(tmp_path / "a")))
    assert [(line.label, line.cells) for line in table.rows] == [("copied", ["0.25"])]
    assert (
        "copied: share of queries with a negative that nearly duplicates their positive"
        in table.caption
    )


def test_more_runs_than_metrics_are_lines(tmp_path):
    folders = [reported.write_run(tmp_path / f"run{n}") for n in range(3)]
    table = once_table(read_studies(*folders))
    assert table.head == ["run", "copied"]
    assert [(line.label, line.cells) for line in table.rows] == [
        (f"run{n}", ("0.25",)) for n in range(3)
    ]
    empty = once_table(read_studies(reported.write_sweep(tmp_path / "s")))
    assert empty.rows == []


def test_the_plane_has_tolerance_where_it_was_measured(tmp_path):
    folder = reported.write_sweep(tmp_path / "s")
    (figure,) = planes(read_studies(folder))
    assert figure.title == "Uniformity and alignment"
    (points,) = traces(figure)
    assert (points.x, points.y) == ((-1.5, -3.5, -5.0), (0.5, 0.5, 0.5))
    assert points.text == ("0.05", "0.1", "0.5")
    table = json.loads((folder / "sweep.json").read_text())
    for row in table["rows"][:2]:
        row |= {"test/uniformity": -2.0 - row["member"], "test/tolerance": 0.25}
        row |= {"test/another/uniformity": -9.0}  # of an evaluator without tolerance
    reported.write_json(folder / "sweep.json", table)
    without = reported.write_sweep(tmp_path / "without")
    figure, other = planes(read_studies(folder, without))
    assert traces(other)[0].name == "without"
    (points,) = traces(figure)
    assert (points.x, points.y, points.text) == ((-2.5,), (0.25,), ("0.05",))

"""Numbers of the report against folders written by hand; what is refused, and what is escaped."""

import json
import math
import re

import pytest
import reported

from contrastive.cli import main
from contrastive.config import differences
from contrastive.errors import ConfigError, FolderError
from contrastive.lab.advisor import Finding
from contrastive.lab.report import page
from contrastive.lab.report.cosines import cosine_blocks, penalty_picture
from contrastive.lab.report.curves import once_table, planes, training_blocks
from contrastive.lab.report.page import write_report
from contrastive.lab.report.reading import read
from contrastive.lab.report.scores import score_blocks, score_table
from contrastive.lab.report.study import studies

HALF = 12.7062 * 0.05  # Student's t with one degree of freedom; scores that are 0.1 apart


def read_studies(*folders):
    return studies(read(folders))


def traces(picture, frame=0):
    return list(picture.frames[frame].figure.data)


@pytest.fixture
def no_advice(monkeypatch):
    monkeypatch.setattr(page, "advise", lambda workdir: [])


def test_the_table_has_means_and_intervals_over_seeds(tmp_path):
    table = score_table(read_studies(reported.write_sweep(tmp_path / "s")))
    assert table.head == ["temperature", "seeds", "nDCG@10", "MRR@10", "state"]
    assert [(line.label, line.cells, line.marked) for line in table.lines] == [
        ("BM25", ["", "0.500", "0.250", ""], False),
        ("0.05", ["2", f"0.650 ± {HALF:.3f}", f"0.325 ± {HALF / 2:.3f}", "finished"], False),
        ("0.1", ["2", f"0.750 ± {HALF:.3f} (highest)", "0.375 ± 0.318", "finished"], True),
        ("0.5", ["2", "0.400", "0.200", "1 of 2 diverged at step 20"], False),
    ]


def test_scores_against_temperature(tmp_path):
    (block,) = score_blocks(read_studies(reported.write_sweep(tmp_path / "s")))
    assert block.controls[0].places == ["nDCG@10", "MRR@10"]
    band, means, bm25 = traces(block.pictures[0])
    assert means.x == (0.05, 0.1, 0.5)
    assert means.y == pytest.approx((0.65, 0.75, 0.4))
    assert band.x == (0.05, 0.1, 0.5, 0.5, 0.1, 0.05)
    ends = (0.65 + HALF, 0.75 + HALF, 0.4, 0.4, 0.75 - HALF, 0.65 - HALF)
    assert band.y == pytest.approx(ends, abs=1e-5)
    assert (bm25.x, bm25.y, bm25.line.dash) == ((0.05, 0.5), (0.5, 0.5), "dot")
    figure, words = block.pictures[0].frames[0]
    assert figure.layout.xaxis.type == "log"
    assert "Highest nDCG@10: temperature 0.1" in words
    assert words.endswith("The 95 % intervals that overlap with its own: temperature 0.05.")
    assert traces(block.pictures[0], frame=1)[2].y == (0.25, 0.25)


def test_several_axes_are_a_line_each_and_zero_has_no_logarithm(tmp_path):
    axes = {"optimizer.weight_decay": [0.0, 0.1], "loss.temperature": [0.05, 0.1]}
    values = [(decay, t) for decay in (0.0, 0.1) for t in (0.05, 0.1)]
    rows = [
        {"member": n, "optimizer.weight_decay": d, "loss.temperature": t, "nDCG@10": d + t}
        for n, (d, t) in enumerate(values)
    ]
    folder = reported.write_sweep(tmp_path / "s")
    table = json.loads((folder / "sweep.json").read_text())
    reported.write_json(folder / "sweep.json", {**table, "axes": axes, "rows": rows})
    (block,) = score_blocks(read_studies(folder))
    first, second, _ = traces(block.pictures[0])
    assert (first.name, first.y) == ("weight_decay 0", pytest.approx((0.05, 0.1)))
    assert (second.name, second.y) == ("weight_decay 0.1", pytest.approx((0.15, 0.2)))
    by_decay = {"optimizer.weight_decay": [0.0, 0.1]}
    reported.write_json(folder / "sweep.json", {**table, "axes": by_decay, "rows": rows[::2]})
    (block,) = score_blocks(read_studies(folder))
    assert block.pictures[0].frames[0].figure.layout.xaxis.type is None


def test_runs_that_differ_in_a_number_are_drawn_against_it(tmp_path):
    folders = [
        reported.write_run(tmp_path / f"t{t}-{seed}", score, config=config)
        for t, seed, score in ((0.02, 0, 0.3), (0.1, 0, 0.5), (0.1, 1, 0.6))
        for config in [reported.experiment(**{"loss.temperature": t, "seed": seed})]
    ]
    (block,) = score_blocks(read_studies(*folders))
    _, means, bm25 = traces(block.pictures[0])
    assert (means.x, means.y) == ((0.02, 0.1), pytest.approx((0.3, 0.55)))
    assert bm25.y == (0.5, 0.5)
    assert score_blocks(read_studies(*folders[1:])) == []  # they differ in their seed alone


def test_histograms_are_means_over_seeds_and_the_best_comes_first(tmp_path):
    (block,) = cosine_blocks(read_studies(reported.write_sweep(tmp_path / "s")), "nDCG@10")
    temperature, step = block.controls
    assert (temperature.places, temperature.start) == (["0.05", "0.1", "0.5"], 1)
    assert step.places == ["20"]
    negative, positive = traces(block.pictures[0], frame=1)
    assert list(positive.y[1:-1]) == reported.bins({85: 0.5, 86: 0.5})
    assert list(negative.y[1:-1]) == reported.bins({49: 0.75, 60: 0.25})
    centres = [negative.x0 + negative.dx * n for n in range(1, 101)]
    assert centres == pytest.approx([-0.99 + 0.02 * n for n in range(100)])
    # Of a diverged seed the histograms are left out, as its scores are.
    assert list(traces(block.pictures[0], frame=2)[1].y[1:-1]) == reported.bins({90: 1.0})
    means = (0.71 + 0.73) / 2, 0.75 * -0.01 + 0.25 * 0.21
    words = block.pictures[0].frames[1].words
    assert f"positives is {means[0]:.2f}, that of negatives {means[1]:.2f}." in words


def test_the_gradient_comes_from_the_hardest(tmp_path):
    (block,) = cosine_blocks(read_studies(reported.write_sweep(tmp_path / "s")), None)
    for place, temperature in enumerate(reported.TEMPERATURES):
        _, gradient = traces(block.pictures[1], frame=place)
        apart = 0.02 * (10 + place)
        hard = 0.25 / (0.25 + 0.75 * math.exp(-apart / temperature))
        expected = reported.bins({49: 1 - hard, 59 + place: hard})
        assert list(gradient.y[1:-1]) == pytest.approx(expected, abs=1e-5)
    assert "95 % of the gradient comes from the hardest 25 % of the negatives" in (
        block.pictures[1].frames[0].words
    )


def test_a_weight_is_relative_to_the_hardest(tmp_path):
    picture = penalty_picture(read_studies(reported.write_sweep(tmp_path / "s")))
    assert picture is not None
    for place, temperature in enumerate(reported.TEMPERATURES):
        weights = traces(picture)[place]
        cosines = [-0.01 + 0.02 * n for n in range(11 + place)]
        assert list(weights.x) == pytest.approx(cosines)
        expected = [math.exp((s - cosines[-1]) / temperature) for s in cosines]
        assert list(weights.y) == pytest.approx(expected, abs=1e-5)


def test_similarities_that_are_no_cosines_have_no_penalties(tmp_path):
    config = reported.experiment(normalize=False)
    found = read_studies(reported.write_sweep(tmp_path / "s", config=config))
    (block,) = cosine_blocks(found, None)
    assert len(block.pictures) == 1
    assert penalty_picture(found) is None


def test_runs_move_over_their_steps_at_the_temperature_of_each(tmp_path):
    found = read_studies(reported.write_run(tmp_path / "a"), reported.write_run(tmp_path / "b"))
    (block,) = cosine_blocks(found, None)
    assert [(c.name, c.places, c.start) for c in block.controls] == [
        ("run", ["a", "b"], 0),
        ("step", ["10", "20"], 1),
    ]
    assert [frame.words.partition(":")[0] for frame in block.pictures[0].frames] == [
        "Temperature 0.1, step 10",
        "Temperature 0.2, step 20",
    ] * 2
    assert list(traces(block.pictures[0], frame=1)[1].y[1:-1]) == reported.bins({90: 1.0})


def test_training_curves_are_means_over_seeds_that_go_on(tmp_path):
    found = read_studies(reported.write_sweep(tmp_path / "s"))
    side_by_side, *others = training_blocks(found)
    names = [picture.title for picture in side_by_side.pictures]
    assert names == ["loss", "temperature", "alignment", "uniformity"]
    assert [key.label for key in side_by_side.legend] == [
        "temperature 0.05",
        "temperature 0.1",
        "temperature 0.5",
    ]
    assert [(line.x, line.y) for line in traces(side_by_side.pictures[0])] == [
        ((10, 20), (4.5, 2.5)),
        ((10, 20), (6.5, 4.5)),
        ((10, 20), (8.5, 6.0)),
    ]
    assert others == []


def test_what_was_measured_once_is_a_table(tmp_path):
    table = once_table(read_studies(reported.write_run(tmp_path / "a")))
    assert [(line.label, line.cells) for line in table.lines] == [("tied", ["0.25"])]


def test_the_plane_has_tolerance_where_it_was_measured(tmp_path):
    folder = reported.write_sweep(tmp_path / "s")
    (picture,) = planes(read_studies(folder))
    assert picture.title == "Uniformity and alignment"
    (points,) = traces(picture)
    assert (points.x, points.y) == ((-1.5, -3.5, -5.0), (0.5, 0.5, 0.5))
    assert points.text == ("0.05", "0.1", "0.5")
    table = json.loads((folder / "sweep.json").read_text())
    for row in table["rows"][:2]:
        row |= {"uniformity": -2.0 - row["member"], "tolerance": 0.25}
    reported.write_json(folder / "sweep.json", table)
    without = reported.write_sweep(tmp_path / "without")
    picture, other = planes(read_studies(folder, without))
    assert traces(other)[0].name == "without"
    (points,) = traces(picture)
    assert (points.x, points.y, points.text) == ((-2.5,), (0.25,), ("0.05",))


def test_unfinished_and_diverged(tmp_path, no_advice):
    folders = [
        reported.write_sweep(tmp_path / "sweep", finished=False),
        reported.write_run(tmp_path / "going", None),
        reported.write_run(tmp_path / "diverged", None, losses=(4.0, None)),
        reported.write_run(tmp_path / "begun", None, losses=()),
    ]
    states = {line.label: line.cells[-1] for line in score_table(read_studies(*folders)).lines}
    assert states == {
        "sweep: temperature 0.05": "not finished: step 20 of 20",
        "sweep: temperature 0.1": "not finished: step 20 of 20",
        "sweep: temperature 0.5": "1 of 2 diverged at step 20",
        "going": "not finished: step 20 of 20",
        "diverged": "diverged at step 20",
        "begun": "not finished: step 0 of 20",
    }
    text = write_report(folders).read_text()
    assert "Nothing has a score yet" in text
    assert "not finished; written at the end" in text


def test_nothing_but_a_config(tmp_path, no_advice):
    reported.write_json(tmp_path / "config.json", reported.experiment().model_dump(mode="json"))
    text = write_report([tmp_path]).read_text()
    for words in ("Nothing has a score yet", "There are no histograms", "Nothing has been logged"):
        assert words in text


def test_differences_are_those_of_the_configs(tmp_path, no_advice):
    base = reported.experiment()
    other = base.replace(**{"loss.temperature": 0.3, "optimizer.frozen": ("embeddings",)})
    folders = [
        reported.write_run(tmp_path / "a", config=base),
        reported.write_run(tmp_path / "b", config=other),
        reported.write_sweep(tmp_path / "s", config=base),
    ]
    section = page.html(read(folders)).partition("Differences of the configs")[2]
    rows = re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td></tr>', section)
    assert [(name, cells.split("</td><td>")) for name, cells in rows] == [
        ("loss.temperature", ["0.05", "0.3", "swept: 0.05, 0.1, 0.5"]),
        ("optimizer.frozen", ["[]", "[&#34;embeddings&#34;]", "[]"]),
    ]
    named = [difference.partition(":")[0] for difference in differences(base, other)]
    assert [name for name, _ in rows] == named


def test_advice_is_given_on_runs(tmp_path, monkeypatch):
    asked = []

    def advise(workdir):
        asked.append(workdir)
        return [Finding("low_temperature", "top share 0.97", "raise loss.temperature")]

    monkeypatch.setattr(page, "advise", advise)
    folders = [reported.write_run(tmp_path / "run"), reported.write_sweep(tmp_path / "sweep")]
    text = page.html(read(folders))
    assert asked == [tmp_path / "run"]
    assert "<dt>low temperature</dt>" in text
    assert "top share 0.97 <strong>raise loss.temperature</strong>" in text


def test_what_comes_from_files_is_escaped(tmp_path, no_advice):
    bad = "</script><script>alert(1)</script>"
    folder = reported.write_run(
        tmp_path / "<i>&amp;", config=reported.experiment(name=bad), losses=(4.0, 2.0)
    )
    reported.write_lines(folder / "metrics.jsonl", [{"step": n, bad: n} for n in (1, 2)])
    results = json.loads((folder / "results.json").read_text())
    results |= {"scores": {bad: 0.5}, "command": bad, "task": bad, "versions": {bad: bad}}
    reported.write_json(folder / "results.json", results)
    text = page.html(read([folder]))
    assert "<script>alert" not in text
    assert "<i>" not in text
    assert text.count("</script>") == text.count("<script")
    assert "&lt;i&gt;&amp;amp;" in text


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no such file"),
        ({"config.json": '{"model_type": "bert"}'}, "not a config of this version"),
        ({"config.json": None, "sweep.json": '{"axes": '}, "sweep.json is not JSON"),
    ],
)
def test_other_folders_are_refused(tmp_path, files, words):
    for name, text in files.items():
        if text is None:
            text = reported.experiment().model_dump_json()
        (tmp_path / name).write_text(text)
    with pytest.raises(FolderError, match=words) as refused:
        write_report([tmp_path])
    assert str(tmp_path) in str(refused.value)
    assert not (tmp_path / "report.html").exists()


def test_no_folder_is_refused():
    with pytest.raises(ConfigError, match="the folder of a run or of a sweep"):
        write_report([])


def test_the_command(tmp_path, capsys):
    sweep = reported.write_sweep(tmp_path / "s")
    main(["report", str(sweep)])
    assert capsys.readouterr().out == f"report: {sweep / 'report.html'}\n"
    main(["report", str(sweep), str(sweep), "--output", str(tmp_path / "other.html")])
    assert (tmp_path / "other.html").read_text() == (sweep / "report.html").read_text()
    with pytest.raises(SystemExit) as refused:
        main(["report", str(tmp_path)])
    assert "expected a --workdir of `contrastive train`" in str(refused.value)


def test_folders_of_one_name_are_told_apart(tmp_path, no_advice):
    folders = [reported.write_run(tmp_path / name / "training") for name in ("a", "b")]
    assert [folder.label for folder in read(folders)] == ["a/training", "b/training"]

"""Folders of the report: unfinished, diverged, refused; and what comes from them is escaped."""

import json
import math
import re

import pytest
import reported

from contrastive import config
from contrastive.advice.advisor import Finding
from contrastive.cli import main
from contrastive.errors import ConfigError, FolderError
from contrastive.folders.reading import read
from contrastive.reports import answer, page
from contrastive.reports.cosines import penalty_blocks
from contrastive.reports.curves import training_blocks
from contrastive.reports.page import write_report
from contrastive.reports.score_figures import score_blocks
from contrastive.reports.scores import score_table
from contrastive.reports.study import studies
from contrastive.settings import differences
from contrastive.sweeps.table import interval


@pytest.fixture
def no_advice(monkeypatch):
    monkeypatch.setattr(answer, "of_run", lambda folder: [])


def test_unfinished_and_diverged(tmp_path):
    folders = [
        reported.write_sweep(tmp_path / "sweep", finished=False),
        reported.write_run(tmp_path / "going", None),
        reported.write_run(tmp_path / "diverged", None, losses=(4.0, None)),
        reported.write_run(tmp_path / "gradient", None),
        reported.write_run(tmp_path / "begun", None, losses=()),
    ]
    with open(tmp_path / "gradient" / "metrics.jsonl", "a") as file:
        file.write('{"step": 20, "loss": 2.0, "finite": 0.0}\n')
    states = {line.label: line.cells[-1] for line in score_table(studies(read(folders))).rows}
    assert states == {
        "sweep: temperature 0.05": "not finished: step 20 of 20",
        "sweep: temperature 0.1": "not finished: step 20 of 20",
        "sweep: temperature 0.5": "1 of 2 diverged at step 20",
        "going": "not finished: step 20 of 20",
        "diverged": "diverged at step 20",
        "gradient": "diverged at step 20",
        "begun": "not finished: step 0 of 20",
    }
    text = write_report(folders).read_text()
    assert "Nothing has a score yet" in text
    assert "not finished; written at the end" in text
    assert "<dt>learning rate</dt>" in text  # what the adviser says of the one that has diverged
    assert "contains no step yet; try again later" in text  # and of the one that has just begun


def test_tasks_are_shown_with_their_numbers_of_texts(tmp_path, no_advice):
    evaluators = {"intents": config.Classification(train="a.jsonl", test="b.jsonl", neighbors=7)}
    changed = reported.experiment(final_evaluators=evaluators)
    folder = reported.write_run(tmp_path, config=changed)
    results = json.loads((folder / "results.json").read_text())
    about = {"kind": "classification", "neighbors": 7, "exact": True, "train": 20, "classes": 3}
    reported.write_json(folder / "results.json", {**results, "evaluators": {"intents": about}})
    assert (
        "<dt>Tasks (test)</dt>\n<dd>intents: 20 train, 3 classes</dd>"
        in write_report([folder]).read_text()
    )


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
    head, *rows = rows_of(page.html(read(folders)), "Config differences")
    assert rows == [
        ["a", "0.05", "[]"],
        ["b", "0.3", "[&#34;embeddings&#34;]"],
        ["s", "swept: 0.05, 0.1, 0.5", "[]"],
    ]
    named = [difference.partition(":")[0] for difference in differences(base, other)]
    assert head == ["folder", *named]
    head, *rows = rows_of(page.html(read(folders[:2])), "Config differences")
    assert head == ["folder", "a", "b"]  # as many fields as folders
    assert [name for name, *_ in rows] == named


def rows_of(text, title):
    """The cells of the table of a section, line by line."""
    table = text.partition(f"<h2>{title}</h2>")[2].partition("</table>")[0]
    lines = table.replace("</thead>", "</tr>").split("</tr>")
    return [cells for line in lines if (cells := re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", line))]


def test_the_pages_data_has_no_nan(tmp_path, monkeypatch, no_advice):
    def without_ends(values):
        found = interval(values)
        return found if found.runs > 1 else found._replace(low=math.nan, high=math.nan)

    for module in ("sweeps.table", "folders.setting"):
        monkeypatch.setattr(f"contrastive.{module}.interval", without_ends)
    folders = [
        reported.write_sweep(tmp_path / "s"),
        reported.write_run(tmp_path / "a"),
        reported.write_run(tmp_path / "b", None, losses=(4.0, None)),
    ]
    text = page.html(read(folders))
    figures = re.findall(r'<script type="application/json">(.*?)</script>', text)
    assert len(figures) > 5

    def refuse(name):
        raise AssertionError(name)

    for figure in figures:
        json.loads(figure, parse_constant=refuse)
    assert "nan" not in [cell for row in rows_of(text, "Scores") for cell in row]


def test_advice_is_given_on_runs_and_sweeps(tmp_path, monkeypatch):
    asked = []

    def of_run(folder):
        asked.append(folder.path)
        return [Finding("low_temperature", "top share 0.97", "raise loss.temperature")]

    monkeypatch.setattr(answer, "of_run", of_run)
    folders = [reported.write_run(tmp_path / "run"), reported.write_sweep(tmp_path / "sweep")]
    text = page.html(read(folders))
    assert asked == [tmp_path / "run"]
    assert "<dt>low temperature</dt>" in text
    assert "top share 0.97<br><strong>raise loss.temperature</strong>" in text


def test_what_comes_from_files_is_escaped(tmp_path, no_advice):
    bad = "</script><script>alert(1)</script>"
    folders = []
    for label, temperature in (("<i>&amp;", 0.05), ("<i>", 0.1)):
        config = reported.experiment(**{"name": bad, "loss.temperature": temperature})
        folder = reported.write_run(tmp_path / label, config=config)
        reported.write_lines(folder / "metrics.jsonl", [{"step": n, bad: n} for n in (1, 2)])
        results = json.loads((folder / "results.json").read_text())
        results |= {"scores": {bad: temperature}, "bm25": {bad: 0.5}}
        results |= {"command": bad, "task": bad, "versions": {bad: bad}}
        reported.write_json(folder / "results.json", results)
        folders.append(folder)
    text = page.html(read(folders))
    assert "<script>alert" not in text
    assert "<i>" not in text
    assert text.count("</script>") == text.count("<script")
    assert "&lt;i&gt;&amp;amp;" in text
    found = studies(read(folders))
    penalties = penalty_blocks(found)
    assert penalties
    blocks = score_blocks(found) + training_blocks(found) + penalties
    for figure in (x for block in blocks for x in block.figures):
        drawn = figure.frames[0].figure
        assert not any("<" in (trace.name or "") for trace in drawn.data)
        title = drawn.layout.yaxis.title.text or ""
        assert "<" not in title.replace("/<br>", "/")  # a long title is on two lines


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no such file"),
        ({"config.json": '{"model_type": "bert"}'}, "not a config of this version"),
        ({"config.json": None, "sweep.json": '{"axes": '}, r"sweep\.json: not valid JSON"),
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
    with pytest.raises(ConfigError, match="at least one folder of a run or of a sweep"):
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

"""The answer of a report: the best temperature, what others cost, and what is retrieved."""

import json
import math
import re

import numpy as np
import reported
from scipy.stats import ttest_rel

from contrastive import config
from contrastive.folders.reading import read
from contrastive.reports import page
from contrastive.reports.answer import answers
from contrastive.reports.examples import retrieved
from contrastive.reports.study import studies
from contrastive.tasks.retrieval.examples import examples_of

FIELD, VALIDATION, TEST = "loss.temperature", "validation/nDCG@10", "test/nDCG@10"
# Three seeds; the best temperature is 0.1, of which 0.2 was swept, and 0.05 was not.
SCORES = {0.02: (0.4, 0.46, 0.41), 0.1: (0.6, 0.64, 0.63), 0.2: (0.5, 0.56, 0.5)}


def write_sweep(folder, scores=SCORES, **changes):
    base = reported.experiment(**changes)
    rows = [
        {"member": 3 * n + seed, FIELD: t, "init_seed": seed, "diverged_at": None}
        | ({VALIDATION: x} if base.select_by else {})
        | ({TEST: x / 2} if base.final_split == "test" else {})
        for n, (t, seeds) in enumerate(scores.items())
        for seed, x in enumerate(seeds)
    ]
    table = {"axes": {FIELD: list(scores)}, "seeds": 3, "split": base.final_split, "rows": rows}
    reported.write_json(folder / "config.json", base.model_dump(mode="json"))
    reported.write_json(folder / "sweep.json", table | {"select_best": base.select_by})
    return folder


def answer_of(*folders):
    found = read(folders)
    (answer,) = answers(found, studies(found))
    return answer


def half_width(a, b):
    interval = ttest_rel(a, b).confidence_interval(0.95)
    return (interval.high - interval.low) / 2


def test_it_has_the_best_temperature_and_what_half_and_twice_of_it_cost(tmp_path):
    answer = answer_of(write_sweep(tmp_path / "s"))
    assert re.fullmatch(
        r"Best temperature: 0\.1 \(validation/nDCG@10 0\.623 ± 0\.052, 3 seeds\)", answer.headline
    )
    assert answer.words[0] == "Paired by seed, all other settings are worse beyond chance."
    assert answer.words[1].startswith("Its test/nDCG@10 is 0.312 ± 0.026")
    low, best, twice = map(np.array, SCORES.values())
    share = math.log(0.05 / 0.02) / math.log(0.1 / 0.02)
    half = (1 - share) * low + share * best
    rows = {row.label: row.cells for row in answer.table.rows}
    words = "half: 0.05 (interpolated between 0.02 and 0.1)"
    assert list(rows) == [words, "twice: 0.2"]
    for cells, scores in zip(rows.values(), (half, twice), strict=True):
        mean, width = np.mean(scores - best), half_width(scores, best)
        assert cells == [f"{mean:+.3f} ± {width:.3f}", f"{mean / 2:+.3f} ± {width / 2:.3f}"]
    assert answer.table.head == ["temperature", VALIDATION, TEST]


def test_a_best_temperature_at_the_edge_says_what_was_not_swept(tmp_path):
    answer = answer_of(write_sweep(tmp_path / "s", {0.1: (0.6, 0.7), 0.2: (0.5, 0.6)}))
    assert [row.cells[0] for row in answer.table.rows] == [
        "outside of the swept range",
        "-0.100 ± 0.000",
    ]


def test_what_cannot_be_told_apart_is_named(tmp_path):
    answer = answer_of(write_sweep(tmp_path / "s", {0.1: (0.6, 0.7), 0.2: (0.59, 0.61)}))
    assert answer.words[0] == "Paired by seed, it cannot be told apart from: temperature 0.2."


def test_missing_splits_are_said(tmp_path):
    answer = answer_of(write_sweep(tmp_path / "a", final_evaluators={}))
    assert "There are no test scores" in answer.words[1]
    answer = answer_of(write_sweep(tmp_path / "b", evaluators={}))
    assert answer.headline == ""
    assert "Nothing selects a setting" in answer.words[0]


def test_the_page_begins_with_it_and_it_agrees_with_the_advice(tmp_path):
    folder = reported.write_sweep(tmp_path / "s")
    text = page.html(read([folder]))
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings[:2] == ["Answer", "Scores"]
    answer = text.partition("<h2>Answer</h2>")[2].partition("<h2>")[0]
    assert "Best temperature: 0.1 (validation/nDCG@10 0.750 ± 0.635, 2 seeds)" in answer
    assert (
        "temperature 0.1 scores best of the 2 with all scores: validation/nDCG@10 0.750" in answer
    )


def query(text, rank, *documents):
    shown = [{"text": document, "relevant": document == text.upper()} for document in documents]
    return {"query": text, "rank": rank, "documents": shown}


def write_examples(folder, name, by_run):
    runs = {str(run): {"held_out": queries} for run, queries in by_run.items()}
    reported.write_json(folder / name, {"split": "test", "runs": runs})


def test_the_best_and_the_worst_setting_are_compared_on_the_same_queries(tmp_path):
    folder = write_sweep(tmp_path / "s")
    best = [query("a", 1, "A", "B"), query("b", 4, "A"), query("c", 2, "A", "C"), query("d", 1)]
    other = [query("b", 2, "A", "B"), query("a", None, "B"), query("c", 2, "A", "C")]
    programs = "programs/0/0/examples.json"
    write_examples(folder, programs, {0: other, 3: best, 4: other, 6: [query("x", 1)]})
    (examples,) = retrieved(studies(read([folder])))
    assert examples.title == "test/held_out"
    assert (
        "first seeds of temperature 0.1, the best setting, and temperature 0.02" in examples.words
    )
    assert "on 3 queries" in examples.words
    assert "higher for 1, lower for 1, and equally for 1" in examples.words
    assert [x.query for x in examples.comparisons] == ["a", "b"]
    ours, theirs = examples.comparisons[0].rankings
    assert (ours.label, ours.rank) == ("temperature 0.1", "at rank 1")
    assert ours.documents == [("A", True), ("B", False)]
    assert (theirs.label, theirs.rank) == ("temperature 0.02", "none found")


def test_of_equal_settings_two_different_ones_are_compared(tmp_path):
    folder = write_sweep(tmp_path / "s", {0.02: (1.0, 1.0, 1.0), 0.1: (1.0, 1.0, 1.0)})
    write_examples(folder, "programs/0/0/examples.json", {0: [query("a", 1)], 3: [query("a", 1)]})
    (examples,) = retrieved(studies(read([folder])))
    assert [x.label for x in examples.comparisons[0].rankings] == [
        "temperature 0.02",
        "temperature 0.1",
    ]


def test_examples_of_runs_are_escaped(tmp_path):
    folders = [
        reported.write_run(tmp_path / name, score) for name, score in (("a", 0.5), ("b", 0.6))
    ]
    for folder, rank in zip(folders, (2, 1), strict=True):
        write_examples(folder, "examples.json", {0: [query("<b>", rank, "<i>")]})
    text = page.html(read(folders))
    assert "Retrieved examples" in text
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    assert "<i>" not in text


def test_examples_are_of_queries_that_are_spread_over_the_collection(tmp_path):
    rows = [{"query": f"w{n}", "pos": [f"w{n}"]} for n in range(20)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = config.Retrieval(str(path))
    collection = task.load()
    ranking = np.tile(np.arange(4), (20, 1))
    examples = examples_of(collection, ranking)
    assert [x["query"] for x in examples] == [f"w{20 * n // 12}" for n in range(12)]
    assert [x["rank"] for x in examples[:4]] == [1, 2, 4, None]  # of w0, w1, w3 and w5
    assert examples[0]["documents"] == [
        {"text": "w0", "relevant": True},
        {"text": "w1", "relevant": False},
        {"text": "w2", "relevant": False},
    ]

"""Folders of runs and sweeps with random changes are reported and advised on, or refused."""

import contextlib
import json
import random
import shutil
import traceback

import pytest
import reported
from faults import files, limited, mutate, seeds

import contrastive
from contrastive.advice.advisor import advise
from contrastive.errors import FolderError, UserError
from contrastive.folders.reading import read
from contrastive.reports import page

RANKED = {"query": "q", "rank": 1, "documents": [{"text": "d", "relevant": True}]}
DIAGNOSED = {"effective_negatives": 9.0, "saturated": 0.1, "accuracy": 0.5, "top_10_share": 0.4}


def with_examples(folder, program, runs):
    runs = {str(run): {"test": [{**RANKED, "rank": run + 1}]} for run in range(runs)}
    reported.write_json(program / "examples.json", {"split": "test", "runs": runs})
    log = program / "metrics.jsonl"
    rows = [json.loads(line) | DIAGNOSED for line in log.read_text().splitlines()]
    reported.write_lines(log, rows)
    return folder


def write_sweep(folder):
    return with_examples(reported.write_sweep(folder), folder / "programs" / "0" / "0", 6)


def write_unfinished(folder):
    program = folder / "programs" / "0" / "0"
    rows = json.loads((reported.write_sweep(folder) / "sweep.json").read_text())["rows"]
    (folder / "sweep.json").unlink()
    reported.write_json(program / "rows.json", {"split": "test", "rows": rows})
    return with_examples(folder, program, 6)


def write_run(folder):
    return with_examples(reported.write_run(folder), folder, 1)


WRITERS = {"run": write_run, "sweep": write_sweep, "unfinished sweep": write_unfinished}
# Seeds that found something.
KEPT: dict[str, tuple[int, ...]] = {"run": (88,), "sweep": (29, 98, 641)}


def use(folder):
    """All that reads a folder for its user."""
    for call in (advise, contrastive.load_run, contrastive.load_sweep):
        with contextlib.suppress(UserError):
            found = call(folder)
            repr(found), getattr(found, "scores", None)
    page.html(read([folder]))


@pytest.mark.parametrize("name", WRITERS)
def test_changed_folders_are_reported_or_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(page, "get_plotlyjs", str)
    whole = WRITERS[name](tmp_path / "whole")
    use(whole)
    problems = []
    for seed in (*KEPT.get(name, ()), *seeds(12)):
        chance = random.Random(f"{name} {seed}")
        folder = shutil.copytree(whole, tmp_path / "changed")
        where = mutate(chance.choice(files(folder)), chance)
        try:
            with limited():
                use(folder)
        except UserError:
            pass
        except Exception as error:
            problems.append(
                f"seed {seed}, {where}: {traceback.format_exception(error)[-2]}{error!r}"
            )
        shutil.rmtree(folder)
    assert not problems, "\n\n".join(problems)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("inputs.json", {"seeds": 100_000_000}, r"seeds.* is 100000000: .*less than or equal"),
        ("inputs.json", {"axes": {"loss.temperature": [0.1] * 6000}}, "give 12,000 runs"),
        ("inputs.json", {"axes": {"loss.nothing": [0.1]}}, "is not a setting of its config"),
        ("sweep.json", {"rows": [{"member": -1}]}, r"rows\[0\].member is -1"),
        ("sweep.json", {"rows": [{"member": 0}]}, r"rows\[0\] has no value of .*loss.temperature"),
        ("sweep.json", {"baselines": {"test": [1]}}, r'"baselines.test" is \[1\]'),
    ],
)
def test_what_is_damaged_is_named(tmp_path, file, change, words):
    folder = reported.write_sweep(tmp_path, finished=file == "sweep.json")
    content = json.loads((folder / file).read_text())
    reported.write_json(folder / file, content | change)
    with limited(), pytest.raises(FolderError, match=words) as refused:
        page.html(read([folder]))
    assert str(folder) in str(refused.value)


def test_a_file_that_can_be_written_again_need_not_be_restored(tmp_path):
    folder = reported.write_run(tmp_path / "run")
    for name, words in (
        ("results.json", "remove it and give the command that wrote it again"),
        ("examples.json", "remove it; only the examples of the report need it"),
    ):
        (folder / name).write_text("{")
        with pytest.raises(FolderError, match=rf"{name}: not valid JSON .* {words}"):
            advise(folder)
        (folder / name).unlink()
        advise(folder)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{}", r"metrics.jsonl:2: step is None, but must be a whole number from 0"),
        ('{"step": 1.5}', r"metrics.jsonl:2: step is 1.5"),
        ('{"step": 1, "loss": "a"}', r'metrics.jsonl:2: the field "loss" is .a.'),
        ("[1]", r"metrics.jsonl:2: \[1\]: input should be an object; remove the line"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, words):
    folder = reported.write_run(tmp_path)
    first, *rest = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([first, line, *rest]) + "\n")
    for call in (advise, lambda path: read([path])):
        with pytest.raises(FolderError, match=words):
            call(folder)

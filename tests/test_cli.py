"""The commands as a person types them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def contrastive(*arguments, code=0):
    command = [sys.executable, "-m", "contrastive", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    contrastive(
        "train", "experiments/quickstart.py", "--setting", "smoke", "--workdir", folder / "r"
    )
    return folder / "r"


def test_help_imports_nothing_heavy():
    # What makes --help instant; a time would depend on the machine.
    heavy = ("jax", "flax", "orbax", "grain", "tensorflow_datasets", "transformers", "plotly")
    code = (
        "import sys\nfrom contrastive.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for command in ("train", "finetune", "report", "evaluate", "encode", "search"):
        assert command in done.stdout


def test_help_of_an_experiment_shows_every_field():
    shown = contrastive("train", "experiments/quickstart.py", "--help")
    for flag in ("--loss.temperature", "--data.group-size", "--optimizer.learning-rate", "--steps"):
        assert flag in shown
    assert "hard negatives dominate" in shown.replace("\n", " ")


def test_flags_change_the_experiment(tmp_path):
    contrastive(
        *("train", "experiments/quickstart.py", "--setting", "smoke", "--workdir", tmp_path / "r"),
        *("--loss.temperature", "0.3", "--model.width", "32", "loss.policy:learned"),
    )
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    assert config["loss"]["temperature"] == 0.3
    assert config["loss"]["policy"]["kind"] == "learned"
    assert config["model"] == {"kind": "static", "width": 32}
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert results["steps"] == 2
    assert results["versions"]["jax"]
    assert 0 <= results["scores"]["nDCG@10"] <= 1


def test_every_experiment_takes_two_steps_in_its_smoke_setting(tmp_path):
    files = sorted((ROOT / "experiments").glob("*.py"))
    assert files
    for file in files:
        workdir = tmp_path / file.stem
        contrastive("train", file, "--setting", "smoke", "--workdir", workdir)
        assert json.loads((workdir / "results.json").read_text())["steps"] == 2


def test_encode_and_search(run, tmp_path):
    texts = ["def add(a, b): return a + b", "", "class Queue: pass", "naïve ünïcode ✓"]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    output = tmp_path / "vectors.npy"
    contrastive("encode", run, "--input", tmp_path / "texts.txt", "--output", output)
    vectors = np.load(output)
    assert vectors.shape == (4, 256)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1, 1], atol=1e-5)
    found = contrastive("search", run, texts[2], "--corpus", tmp_path / "texts.txt", "--top", "1")
    assert "class Queue" in found
    assert "1.000" in found
    assert "similarity" in contrastive("search", run, "parse a date")


def test_vectors_of_before_stay_until_new_ones_are_whole(run, tmp_path):
    (tmp_path / "texts.txt").write_text("a text\n")
    texts, output = tmp_path / "texts.txt", tmp_path / "out" / "vectors.npy"
    message = contrastive("encode", "nowhere", "--input", texts, "--output", output, code=1)
    assert str(output.parent) in message  # before it looks for the model
    output.parent.mkdir()
    output.write_bytes(b"of before")
    message = contrastive("encode", "nowhere", "--input", texts, "--output", output, code=1)
    assert "nowhere" in message
    assert output.read_bytes() == b"of before"
    assert list(output.parent.iterdir()) == [output]
    contrastive("encode", run, "--input", texts, "--output", output)
    assert np.load(output).shape == (1, 256)
    assert list(output.parent.iterdir()) == [output]
    message = contrastive("encode", run, "--input", texts, "--output", tmp_path, code=1)
    assert f"{tmp_path} is a folder" in message


def test_evaluate_on_a_beir_folder(run, tmp_path):
    (tmp_path / "qrels").mkdir()
    documents = {"a": "add two numbers", "b": "open a file", "c": "sort a list"}
    rows = [json.dumps({"_id": i, "title": "", "text": t}) for i, t in documents.items()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "sort a list"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tc\t1\n")
    shown = contrastive("evaluate", run, "--beir", tmp_path)
    assert "1 queries, 3 documents" in shown
    assert "BM25" in shown
    assert shown.count("1.000") >= 6  # the same text is found first, by both


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nowhere.py", "--workdir", "x"], "nowhere.py: no such file"),
        (
            ["train", "experiments/quickstart.py", "--setting", "huge", "--workdir", "x"],
            "no setting 'huge'; it has default, smoke",
        ),
        (["search", "nowhere", "words"], "is nowhere the folder of a run"),
        (["encode", "nowhere", "--input", "nothing.txt", "--output", "x"], "nothing.txt: no such"),
    ],
)
def test_mistakes_are_answered_in_a_line(arguments, words):
    message = contrastive(*arguments, code=1)
    assert words in message
    assert "Traceback" not in message
    assert not os.path.exists("x")


def test_a_bad_temperature_is_answered_without_a_traceback(tmp_path):
    message = contrastive(
        *("train", "experiments/quickstart.py", "--workdir", tmp_path / "r"),
        *("--loss.temperature", "-1"),
        code=2,
    )
    assert "greater than 0" in message
    assert "Traceback" not in message
    assert not (tmp_path / "r").exists()

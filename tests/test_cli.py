"""The commands as a person types them."""

import contextlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest

from contrastive import Encoder, evaluate
from contrastive.cli import main
from contrastive.cli.endings import next_commands
from contrastive.cli.main import _place_of_file
from contrastive.cli.stopping import STOPPED, stoppable
from contrastive.config import Experiment
from contrastive.sources.pydoc import dataset
from contrastive.tasks import STS, BitextMining, Classification, Evaluator, Retrieval

ROOT = Path(__file__).resolve().parents[1]


def process(*arguments, code=0):
    """Output of the command, or what it says of an error."""
    command = [sys.executable, "-m", "contrastive", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def contrastive(*arguments, code=0):
    """As `process`, without the seconds that a new process takes to import everything."""
    output, errors, status = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(ROOT),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main(list(map(str, arguments)))
        except SystemExit as stopped:  # as the interpreter takes it
            status = stopped.code or 0
    if isinstance(status, str):
        errors.write(status)
        status = 1
    assert status == code, output.getvalue() + errors.getvalue()
    return output.getvalue() if code == 0 else errors.getvalue()


def unwrapped(message):
    """What is said inside a frame, in one line."""
    return " ".join(message.replace("│", " ").split())


@pytest.fixture(scope="module")
def some_pairs(tmp_path_factory):
    """Of the installed Python one file in twenty: all of them take a minute to prepare."""
    wanted = dataset._wanted

    def some(path):
        return wanted(path) and zlib.crc32(str(path).encode()) % 20 == 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTRASTIVE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(dataset, "_wanted", some)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory, some_pairs):
    folder = tmp_path_factory.mktemp("cli")
    smoke = ("--setting", "smoke", "--workdir", folder / "r")
    contrastive("train", "quickstart", *smoke)
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
    shown = contrastive("train", "quickstart", "--help")
    for flag in ("--loss.temperature", "--data.group-size", "--optimizer.learning-rate", "--steps"):
        assert flag in shown
    assert "At low values hard negatives dominate" in unwrapped(shown)


def test_flags_change_the_experiment(some_pairs, tmp_path):
    contrastive(
        *("train", "quickstart", "--setting", "smoke", "--workdir", tmp_path / "r"),
        *("--loss.temperature", "0.3", "--model.width", "32", "loss.policy:learned"),
    )
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    assert config["loss"]["temperature"] == 0.3
    assert config["loss"]["policy"]["kind"] == "learned"
    assert config["model"] == {"kind": "static", "width": 32}
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert results["steps"] == 2
    assert results["versions"]["jax"]
    assert 0 <= results["scores"]["test"]["nDCG@10"] <= 1


@pytest.mark.slow
def test_every_experiment_takes_two_steps_in_its_smoke_setting(tmp_path):
    files = sorted((ROOT / "experiments").glob("[!_]*.py"))
    assert files
    for file in files:
        workdir = tmp_path / file.stem
        process("train", file, "--setting", "smoke", "--workdir", workdir)
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
    (tmp_path / "marked.txt").write_text("\n".join(texts[:1]), encoding="utf-8-sig")
    assert "1.000" in contrastive("search", run, texts[0], "--corpus", tmp_path / "marked.txt")


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


def test_texts_of_several_lines(run, tmp_path):
    texts = ["def add(a, b):\n    return a + b", "class Queue:\n    pass"]
    rows = tmp_path / "texts.jsonl"
    rows.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    output = tmp_path / "vectors.npy"
    contrastive("encode", run, "--input", rows, "--output", output, "--truncate_dim", "8")
    expected = Encoder.from_pretrained(run).encode_documents(texts, truncate_dim=8)
    np.testing.assert_allclose(np.load(output), expected, atol=1e-6)
    found = contrastive("search", run, texts[1], "--corpus", rows, "--top", "1")
    assert "1. similarity 1.000\n   class Queue:\n       pass\n" in found
    rows.write_text('{"text": "a"}\n{"body": "b"}\n')
    message = contrastive("encode", run, "--input", rows, "--output", output, code=1)
    assert f"{rows}:2: \"text\" is missing; the fields are ['body']" in message


def test_scores_of_truncated_embeddings(run, tmp_path):
    pairs = [
        {"sentence1": f"sort a {a}", "sentence2": f"open a {b}", "score": n}
        for n, (a, b) in enumerate([("list", "file"), ("file", "list"), ("set", "socket")])
    ]
    (tmp_path / "sts.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    task = ("--sts", tmp_path / "sts.jsonl")
    contrastive("evaluate", run, *task, "--truncate_dim", "8", "--output", tmp_path / "s.json")
    results = json.loads((tmp_path / "s.json").read_text())
    encoder = Encoder.from_pretrained(run)
    first, second = (
        encoder.encode_documents([pair[side] for pair in pairs])[:, :8]
        for side in ("sentence1", "sentence2")
    )
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines = (first * second).sum(axis=1) / norms
    expected = np.corrcoef(cosines, [pair["score"] for pair in pairs])[0, 1]
    assert results["scores"]["sts"]["pearson"] == pytest.approx(expected, abs=1e-5)
    assert results["width"] == 8
    assert evaluate(run, STS(tmp_path / "sts.jsonl"), truncate_dim=8) == {
        "sts": pytest.approx(results["scores"]["sts"])
    }
    message = contrastive("evaluate", run, *task, "--truncate_dim", "999", code=1)
    assert message == "contrastive: --truncate_dim is 999, but must be from 1 to 256"


def test_evaluate_on_a_beir_folder(run, tmp_path):
    (tmp_path / "qrels").mkdir()
    documents = {"a": "add two numbers", "b": "open a file", "c": "sort a list"}
    rows = [json.dumps({"_id": i, "title": "", "text": t}) for i, t in documents.items()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "sort a list"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tc\t1\n")
    shown = contrastive("evaluate", run, "--retrieval", tmp_path)
    assert "1 queries, 3 documents" in shown
    assert "BM25" in shown
    assert shown.count("1.000") >= 6  # the same text is found first, by both


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nowhere.py", "--workdir", "x"], "nowhere.py: no such file"),
        (
            ["train", "quickstart", "--setting", "huge", "--workdir", "x"],
            "no setting 'huge'; it has default, smoke",
        ),
        (["search", "nowhere", "words"], "is nowhere the folder of a run"),
        (["encode", "nowhere", "--input", "nothing.txt", "--output", "x"], "nothing.txt: no such"),
        (["report", "nowhere", "--output", "x/y.html"], "there is no folder x; create it first"),
    ],
)
def test_mistakes_are_answered_in_a_line(arguments, words):
    message = contrastive(*arguments, code=1)
    assert words in message
    assert "Traceback" not in message
    assert not os.path.exists("x")
    assert not (ROOT / "x").exists()


def test_what_comes_next_works_as_it_is_shown(run, tmp_path):
    shown = contrastive("train", "quickstart", "--setting", "smoke", "--workdir", run)
    commands = shown.partition("\nnext:\n")[2].splitlines()
    assert [command.split()[1] for command in commands] == [
        *("search", "evaluate", "encode", "advise", "report")
    ]
    (tmp_path / "texts.txt").write_text("sort a list\n")
    for command in commands:
        words = shlex.split(command)[1:]
        if words[0] == "evaluate":
            assert words[-1] == "DATA"  # no file: the held-out rows come from another source
            continue
        places = {"TEXTS.txt": tmp_path / "texts.txt", "vectors.npy": tmp_path / "v.npy"}
        assert contrastive(*(places.get(word, word) for word in words))


def test_the_next_evaluation_is_that_of_the_run(tmp_path):
    def shown(*evaluators):
        named = {str(number): x for number, x in enumerate(evaluators)}
        commands = next_commands(Experiment(name="x", evaluators=named), tmp_path / "a run")
        return [command.removeprefix("contrastive ") for command in commands][:2]

    folder = shlex.quote(str(tmp_path / "a run"))
    texts = f"search {folder} 'a query' --corpus TEXTS.txt"
    assert shown() == [texts, f"evaluate {folder} --retrieval DATA"]
    assert shown(Retrieval("my dev.jsonl"), STS("s.jsonl")) == [
        f"search {folder} 'a query'",
        f"evaluate {folder} --retrieval 'my dev.jsonl'",
    ]
    assert shown(BitextMining("b.jsonl")) == [texts, f"evaluate {folder} --bitext-mining b.jsonl"]
    classes = Classification(train="a.jsonl", test="b.jsonl")
    assert shown(classes)[1] == f"evaluate {folder} --classification a.jsonl b.jsonl"


def test_a_process_answers_mistakes_likewise():
    message = process("search", "nowhere", "words", code=1)
    assert "is nowhere the folder of a run" in message
    assert "Traceback" not in message


def test_a_bad_temperature_is_answered_without_a_traceback(tmp_path):
    message = contrastive(
        *("train", "quickstart", "--workdir", tmp_path / "r"),
        *("--loss.temperature", "-1"),
        code=1,
    )
    assert message == "contrastive: --loss.temperature is -1.0: input should be greater than 0"
    assert not (tmp_path / "r").exists()


EXPERIMENT = """
import contrastive
from contrastive.config import Data, Experiment, Jsonl, Static, TensorBoard, WandB


class Noted(contrastive.writers.Writer):
    '''A writer with a setting that has no default.'''

    path: str


writers = (WandB(project="p"), Noted(path="a"), Noted(path="b"))
default = Experiment(
    name="t",
    steps=2,
    batch_size=8,
    data=Data(train=Jsonl(path="rows.jsonl")),
    model=Static(),
    writers=writers,
)
plain = default.replace(writers=(TensorBoard(),))
"""


@pytest.fixture
def parsed(tmp_path, monkeypatch):
    """Runs train, and returns its experiment without training it."""
    (tmp_path / "written.py").write_text(EXPERIMENT)
    found = []
    monkeypatch.setattr(
        "contrastive.training.train.train_experiment", lambda *given: found.append(given[0])
    )

    def run(*words):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            given = ("train", tmp_path / "written.py", "--workdir", tmp_path / "r", *words)
            contrastive(*given, code=STOPPED)  # no results, as of a run that was stopped
        return found.pop()

    yield run
    sys.modules.pop("written", None)


def test_writers_of_the_file_keep_their_settings(parsed):
    def writers(*words):
        return [writer.model_dump() for writer in parsed(*words).writers]

    wandb = {"kind": "wandb", "project": "p"}
    first, second = ({"kind": "written:Noted", "path": path} for path in "ab")
    board = {"kind": "tensorboard"}
    assert writers() == [wandb, first, second]
    assert writers("--writers", "wandb") == [wandb]
    chosen = ("written:Noted", "tensorboard", "written:Noted")
    assert writers("--writers", *chosen) == [first, board, second]
    assert writers("--writers") == []
    plain = ("--setting", "plain")
    assert writers(*plain) == [board]
    assert writers(*plain, "--writers", "wandb") == [{"kind": "wandb", "project": None}]


def test_help_of_an_experiment_with_writers(parsed, tmp_path):
    shown = contrastive("train", tmp_path / "written.py", "--help")
    assert "--writers" in shown
    assert "written:Noted" in shown
    parsed()


def test_the_file_may_stand_anywhere(parsed, tmp_path):
    file = tmp_path / "written.py"
    for words in (
        ["--workdir", "r", file, "--steps", "7"],
        ["--steps", "7", "--workdir", "r", file],
        ["--workdir", "quickstart", file, "--steps", "7"],
    ):
        shown = contrastive("train", *words, code=STOPPED)
        assert "The run is saved in" in shown
    message = contrastive("train", "--workdir", "r", "nowhere", code=1)
    assert "'nowhere' is neither a Python file nor an experiment of this package" in message


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["quickstart", "--workdir", "r"], 0),
        (["--workdir", "quickstart", "--steps", "7", "quickstart"], 4),
        (["--workdir", "r", "quickstart", "--setting", "own.py"], 2),
        (["--workdir", "r", "--flag", "own.py"], 3),
        (["nowhere", "--workdir", "r"], 0),
        (["--workdir", "r"], None),
        ([], None),
    ],
)
def test_the_place_of_the_file(words, place):
    assert _place_of_file(words) == place


TASKS = """
from contrastive.tasks import Evaluator

class Lengths(Evaluator):
    '''Mean length of texts.'''

    texts: tuple[str, ...] = ("a", "bc")
    least: int = 1

    def evaluate(self, encoder, data):
        return {"length": 1.5}

    def describe(self, data):
        return {"words": 1234, "longest": 2, "sorted": True, "share": 0.5}

evaluators = {"own": Lengths()}
"""


@pytest.fixture
def tasks(tmp_path):
    yield tmp_path / "own_tasks.py"
    sys.modules.pop("own_tasks", None)


def test_every_count_of_an_evaluator_is_shown(run, tasks):
    tasks.write_text(TASKS)
    shown = contrastive("evaluate", run, "--tasks", tasks)
    assert "own: 1,234 words, 2 longest\n" in shown
    assert "1.500" in shown


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("", "the file does not define `evaluators`; define a dict, such as evaluators = {"),
        ("evaluators = [1, 2]", "`evaluators` is [1, 2], but must be evaluators by name; define"),
        ("evaluators = {'a': 'b'}", "evaluators['a'] is 'b', but must be an evaluator, under a"),
        ("evaluators = {7: STS('a')}", "evaluators[7] is STS("),
        ("evaluators = {'sts': STS('a')}", "evaluators['sts'] has the name of a task that another"),
    ],
)
def test_a_file_of_tasks_is_checked(tasks, lines, words):
    tasks.write_text(f"from contrastive.tasks import STS\n{lines}\n")
    message = contrastive("evaluate", "r", "--sts", "sts.jsonl", "--tasks", tasks, code=1)
    assert f"--tasks {tasks}: {words}" in message


def test_every_evaluator_of_one_path_has_a_flag(run, tmp_path):
    shown = unwrapped(contrastive("evaluate", "--help"))
    for evaluator in Evaluator.known().values():
        if evaluator.is_built_in() and evaluator.short_name() != "classification":
            assert f"{evaluator.summary()} Data: " in shown
    for flag in ("retrieval", "sts", "pairs", "reranking", "clustering", "bitext-mining"):
        assert f"--{flag} [STR" in shown
    rows = [{"sentence1": text, "sentence2": text} for text in ("add two", "open a file")]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shown = contrastive("evaluate", run, "--bitext-mining", tmp_path / "pairs.jsonl")
    assert "pairs: 2 pairs" in shown
    assert shown.count("1.000") == 3


def test_a_model_names_no_documents_to_search(run, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 8}')
    message = contrastive("search", tmp_path, "words", code=1)
    assert message.startswith(f"contrastive: {tmp_path} is the folder of a model, which has no")
    assert message.endswith(" (or give --corpus FILE, one document per line)")
    of_the_run = contrastive("search", run / "model", "words", "--top", "1")
    assert of_the_run == contrastive("search", run, "words", "--top", "1")


def test_help_says_how_parts_are_chosen(parsed, tmp_path):
    for words in (["train"], ["sweep"], ["train", "quickstart"], ["sweep", "quickstart"]):
        shown = unwrapped(contrastive(*words, "--help"))
        assert "then set its fields: loss.function:hard-negative --loss.function.beta 2." in shown
    chosen = parsed("loss.function:hard-negative", "--loss.function.beta", "2").loss.function
    assert (chosen.kind, chosen.beta) == ("hard_negative", 2.0)


def test_a_command_with_nothing_to_resume_ends_as_shells_expect(tmp_path, monkeypatch):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("contrastive.cli.models.read_texts", interrupted)
    words = ("encode", "r", "--input", tmp_path / "texts.txt", "--output", tmp_path / "v.npy")
    assert contrastive(*words, code=130) == ""


def test_a_stopped_command_says_how_to_resume(capsys):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped, stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.code == 75
    said = "Stopped. Everything saved so far is intact; run the same command again to resume.\n"
    assert capsys.readouterr().err == said
    assert signal.getsignal(signal.SIGTERM) is before

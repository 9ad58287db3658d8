"""Mistakes in flags of train and sweep: one sentence, with the flag that was meant."""

import sys

import pytest

from contrastive.cli import main
from contrastive.cli.experiment_flags import flag_namer
from contrastive.config import Experiment, HardNegative

EXPERIMENT = """
from contrastive.config import Data, Experiment, Jsonl, Static

default = Experiment(name="x", data=Data(train=Jsonl(path="rows.jsonl")), model=Static(width=4))
"""


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Returns what a command says, which must be an error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flagged.py").write_text(EXPERIMENT)

    def run(command, *words):
        with pytest.raises(SystemExit) as error:
            main([command, "flagged.py", "--workdir", "r", *words])
        assert list(tmp_path.glob("r")) == []
        return str(error.value).removeprefix("contrastive: ")

    yield run
    sys.modules.pop("flagged", None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--learning_rate", "1e-3"],
            "--learning_rate is not a flag; did you mean --optimizer.learning_rate?",
        ),
        (["--temprature", "1"], "--temprature is not a flag; did you mean --loss.temperature?"),
        (
            ["--loss.function", "sup_con"],
            "--loss.function is not a flag; a part is chosen with a colon, as in "
            "loss.function:sup-con",
        ),
        (["--stepz=3"], "--stepz=3 is not a flag; did you mean --steps?"),
        (
            ["--beta", "2"],
            "--beta is not a flag; did you mean loss.function:hard-negative --loss.function.beta?",
        ),
        (
            ["--loss.function.beta", "2"],
            "--loss.function.beta is not a flag; it sets a field of loss.function:hard-negative, "
            "which must be chosen first: loss.function:hard-negative --loss.function.beta VALUE",
        ),
        (
            ["loss.function:infonce"],
            "loss.function:infonce: loss.function has no 'infonce'; did you mean "
            "loss.function:info-nce?",
        ),
        (
            ["--loss.temperature", "0.1", "0.2"],
            "--loss.temperature 0.1 0.2: train takes one value; contrastive sweep trains one run "
            "for each, with the same flags",
        ),
        (
            ["--loss.in_batch", "False"],
            "--loss.in_batch False: the flag takes no value; write --loss.in_batch or "
            "--loss.no_in_batch",
        ),
        (["stray"], "--workdir r stray: 'stray' belongs to no flag; see --help"),
    ],
)
def test_a_word_that_is_no_flag(refused, words, said):
    assert refused("train", *words) == said


@pytest.mark.parametrize(
    ("flag", "word", "fields"),
    [
        ("loss.temperature", "0", {"loss": {"temperature": 0.0}}),
        ("loss.temperature", "1e-320", {"loss": {"temperature": 1e-320}}),
        ("data.group_size", "0", {"data": {"group_size": 0}}),
        ("steps", "many", {"steps": "many"}),
        ("patience", "-1", {"patience": -1}),
    ],
)
def test_the_sentence_is_that_of_python(refused, flag, word, fields):
    with pytest.raises(ValueError, match=flag) as error:
        Experiment(name="x", **fields)
    assert refused("train", f"--{flag}", word) == f"--{error.value}"


def test_settings_that_do_not_go_together_name_flags(refused):
    said = refused("train", "--steps", "3", "--optimizer.warmup_steps", "9")
    assert said == "--optimizer.warmup_steps is 9, more than the run's 3 steps; lower it"


def test_a_flag_of_a_part_that_was_chosen(refused):
    said = refused("train", "loss.function:hard-negative", "--loss.function.beta", "-1")
    with pytest.raises(ValueError, match="beta") as error:
        HardNegative(beta=-1.0)
    assert said == f"--loss.function.{error.value}"


@pytest.mark.parametrize("none", ["None", "none"])
def test_none_is_a_value(refused, none):
    assert "--steps is 0" in refused("train", "--patience", none, "--steps", "0")


def test_a_sweep_of_nothing(refused):
    assert refused("sweep") == (
        "nothing is swept; give a field several values, such as --loss.temperature 0.02 0.05 0.1, "
        "or set --seeds to 2 or more; to train the experiment as it is, use train"
    )


def test_a_misspelled_command():
    with pytest.raises(SystemExit) as error:
        main(["finetunee", "--help"])
    assert error.value.code == (
        "contrastive: there is no command 'finetunee'; did you mean finetune?"
    )


def test_fields_that_no_flag_sets_keep_their_names():
    name = flag_namer(Experiment(name="x"))
    flags = (
        "steps",
        "loss.temperature",
        "loss.function.beta",
        "workdir",
        "patience",
        "data.workers",
    )
    assert [name(field) for field in flags] == [f"--{field}" for field in flags]
    others = ("data.train", "model", "loss.guide", "data.tokenizer", "evaluators", "evaluators.dev")
    assert [name(field) for field in others] == list(others)

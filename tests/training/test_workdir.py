"""Whose a run's folder is, and what takes its place."""

import pytest
from filelock import FileLock

from contrastive.config import Experiment
from contrastive.errors import FolderError
from contrastive.training.workdir import check, claimed

CONFIG, OTHER = Experiment(name="a", seed=1), Experiment(name="a", seed=2)
INPUTS = {"data.train": "old", "model": "m"}
CHANGED = {**INPUTS, "data.train": "new"}


@pytest.fixture
def run(tmp_path):
    """The folder of a run, with some of what a run leaves there."""
    with claimed(tmp_path / "run", CONFIG, INPUTS):
        (tmp_path / "run" / "checkpoints" / "latest" / "3").mkdir(parents=True)
        (tmp_path / "run" / "metrics.jsonl").write_text("{}\n")
    return tmp_path / "run"


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != ".lock"
    }


def enter(folder, config, inputs, **options):
    with claimed(folder, config, inputs, **options):
        return contents(folder)


@pytest.mark.parametrize(("config", "inputs"), [(OTHER, INPUTS), (CONFIG, CHANGED)])
def test_another_run_is_removed_only_if_asked_and_it_is_said(run, capsys, config, inputs):
    before = contents(run)
    with pytest.raises(FolderError):
        enter(run, config, inputs)
    assert contents(run) == before
    assert capsys.readouterr().out == ""
    check(run, config, overwrite=True)
    assert enter(run, config, inputs, overwrite=True).keys() == {"config.json", "inputs.json"}
    removed = (
        f"removing the other run in {run}: checkpoints, inputs.json, metrics.jsonl, config.json"
    )
    assert removed in capsys.readouterr().out
    enter(run, config, inputs)  # from now on it is this run's


def test_the_same_run_goes_on_even_if_it_may_overwrite(run, capsys):
    before = contents(run)
    assert enter(run, CONFIG, INPUTS, overwrite=True) == before
    assert capsys.readouterr().out == ""


def test_nothing_is_removed_while_another_process_is_at_work(run):
    before = contents(run)
    with (
        FileLock(run / ".lock"),
        pytest.raises(FolderError, match=f"another process is using {run}"),
    ):
        enter(run, OTHER, CHANGED, overwrite=True)
    assert contents(run) == before


def test_nobody_else_comes_in_while_a_run_is_removed(run):
    lock = (run / ".lock").stat().st_ino
    with claimed(run, OTHER, INPUTS, overwrite=True):
        assert (run / ".lock").stat().st_ino == lock
        with pytest.raises(FolderError, match="another process is using"):
            enter(run, OTHER, INPUTS)


@pytest.mark.parametrize("left", [["config.json"], ["config.json", "metrics.jsonl"]])
def test_a_removal_that_was_cut_short_is_finished(run, left):
    for name in {"inputs.json", "metrics.jsonl"} - set(left):
        (run / name).unlink()
    assert enter(run, CONFIG, CHANGED, overwrite=True).keys() == {"config.json", "inputs.json"}


def test_what_is_no_run_is_never_removed(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FolderError, match="is not empty and contains no config"):
        enter(tmp_path, CONFIG, INPUTS, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("content", ['{"model_type": "bert"}', "[]"])
def test_a_model_folder_is_never_removed(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = contents(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(FolderError, match=r"config\.json is not the config of a run"):
            enter(tmp_path, CONFIG, INPUTS, overwrite=overwrite)
    assert contents(tmp_path) == before


def test_a_run_that_was_killed_while_its_folder_was_made_starts_again(run):
    (run / "config.json").unlink()
    for path in ("metrics.jsonl", "checkpoints/latest/3", "checkpoints/latest", "checkpoints"):
        (run / path).rmdir() if (run / path).is_dir() else (run / path).unlink()
    assert enter(run, CONFIG, CHANGED).keys() == {"config.json", "inputs.json"}


def test_sweeps_and_runs_do_not_take_each_others_folders(tmp_path):
    of_a_sweep = {**INPUTS, "axes": {"loss.temperature": [0.1]}, "seeds": 2}
    for name, first, second in (("run", INPUTS, of_a_sweep), ("sweep", of_a_sweep, INPUTS)):
        enter(tmp_path / name, CONFIG, first)
        with pytest.raises(FolderError, match=f"is the folder of a {name}, not of a "):
            enter(tmp_path / name, CONFIG, second)

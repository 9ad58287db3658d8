"""A folder is replaced as a whole, whenever the process is killed."""

import subprocess
import sys

import pytest

from contrastive.whole_folders import recover, replacing_folder

KILLED = """
import os, sys
from pathlib import Path
from contrastive import whole_folders

path, left, exchanges = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"

def counted(function):
    def call(*arguments, **named):
        global left
        left -= 1
        if left < 0:
            os._exit(9)  # as if killed
        return function(*arguments, **named)
    return call

os.replace = counted(os.replace)
whole_folders._exchange = counted(whole_folders._exchange if exchanges else lambda *_: False)
whole_folders.shutil.rmtree = counted(whole_folders.shutil.rmtree)
with whole_folders.replacing_folder(path, disposable=["model", "stale"]) as new:
    (new / "model").write_text("new")
    (new / "config").write_text("new")
"""


def older(path):
    """A model with a file that only it has, and what is not of the model."""
    path.mkdir()
    for name in ("model", "config", "stale"):
        (path / name).write_text("old")
    (path / "training").mkdir()
    (path / "training" / "log").write_text("of the run")
    (path / "notes.txt").write_text("of a user")


def check_whole(path):
    """The older model or the new one, and always what is not of the model."""
    version = (path / "model").read_text()
    assert (path / "config").read_text() == version
    assert (path / "stale").exists() == (version == "old")
    return version


def check_complete(path):
    assert (path / "training" / "log").read_text() == "of the run"
    assert (path / "notes.txt").read_text() == "of a user"
    assert [x.name for x in path.parent.iterdir()] == [path.name]
    return check_whole(path)


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchanged", "renamed"])
def test_killed_at_every_moment(tmp_path, exchanges):
    versions, code = [], 9
    while code == 9:
        path = tmp_path / str(len(versions)) / "out"
        path.parent.mkdir()
        older(path)
        command = [sys.executable, "-c", KILLED, str(path), str(len(versions)), str(exchanges)]
        code = subprocess.run(command, check=False).returncode
        if exchanges:
            check_whole(path)
        recover(path)
        versions.append(check_complete(path))
    assert code == 0
    assert versions == sorted(versions, reverse=True)  # first the old one, then the new one
    assert set(versions) == {"old", "new"}


def test_an_error_leaves_the_older_folder(tmp_path):
    path = tmp_path / "out"
    older(path)
    failing = replacing_folder(path)
    (failing.__enter__() / "model").write_text("new")
    assert not failing.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert check_complete(path) == "old"


def test_a_folder_that_is_being_replaced_is_not_recovered(tmp_path):
    path = tmp_path / "out"
    older(path)
    with replacing_folder(path, disposable=["model", "config", "stale"]) as new:
        (new / "model").write_text("new")
        recover(path)
        (new / "config").write_text("new")
    assert check_complete(path) == "new"

"""Folders that are replaced as a whole keep what they are: their links, permissions and places."""

import errno
import os
from pathlib import Path

import pytest

from contrastive.digests import write_sealed
from contrastive.errors import FolderError
from contrastive.whole_folders import recover, replacing_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    """A folder with a run in it, and a file of an older model."""
    path = tmp_path / "out"
    (path / "training").mkdir(parents=True)
    (path / "old.bin").write_text("old")
    return path


def replace(path):
    with replacing_folder(path, disposable={"old.bin"}) as new:
        (new / "pooling").mkdir()
        (new / "pooling" / "config.json").write_text("new")


def killed_while_moving(path, name):
    """Leaves what a kill leaves after an entry has moved to the new folder."""
    room = path.parent / f".{path.name}.abcdefgh"
    (room / "new").mkdir(parents=True)
    (room / "lock").touch()
    write_sealed(room / "moved.json", {"names": [name]})
    os.replace(path / name, room / "new" / name)


def test_only_disposable_entries_are_removed(folder):
    replace(folder)
    assert names(folder) == ["pooling", "training"]
    assert names(folder.parent) == ["out"]


def test_a_link_to_a_folder_stays(folder):
    link = folder.parent / "link"
    link.symlink_to(folder)
    replace(link)
    assert link.is_symlink()
    assert names(folder) == ["pooling", "training"]


def test_permissions_stay(folder):
    folder.chmod(0o700)
    replace(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_working_directory_stays(folder, monkeypatch):
    monkeypatch.chdir(folder)
    replace(Path("."))
    assert names(Path(".")) == ["pooling", "training"]
    assert Path("pooling/config.json").read_text() == "new"


def test_a_mount_point_gets_the_new_entries(folder, monkeypatch):
    real = os.replace

    def within(source, target):
        inside = [Path(path).is_relative_to(folder) for path in (source, target)]
        if inside[0] != inside[1]:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real(source, target)

    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == folder)
    monkeypatch.setattr(os, "replace", within)
    replace(folder)
    assert names(folder) == ["pooling", "training"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("of a user")
    with pytest.raises(FolderError, match="is a file"):
        replace(file)
    assert file.read_text() == "of a user"


@pytest.mark.parametrize("name", ["out", "out.v2", "out[1]"])
def test_entries_return_to_the_folder_that_they_are_of(tmp_path, name):
    path, other = tmp_path / name, tmp_path / "out.v"
    (path / "training").mkdir(parents=True)
    other.mkdir()
    killed_while_moving(path, "training")
    recover(tmp_path / "out.v")
    recover(tmp_path / "ou")
    if name != "out":
        (tmp_path / "out").mkdir()
        recover(tmp_path / "out")
        assert names(tmp_path / "out") == []
    recover(path)
    assert names(path) == ["training"]


def test_the_lock_is_released_before_it_is_removed(folder, monkeypatch):
    # NFS keeps open files under another name, so their folder cannot be removed.
    from contrastive import whole_folders

    held = []

    class Lock(whole_folders.FileLock):
        def _acquire(self):
            super()._acquire()
            held.append(self)

    remove = whole_folders.shutil.rmtree

    def checking(path, **options):
        if Path(path).parent == folder.parent:
            assert not any(lock.is_locked for lock in held)
        remove(path, **options)

    monkeypatch.setattr(whole_folders, "FileLock", Lock)
    monkeypatch.setattr(whole_folders.shutil, "rmtree", checking)
    replace(folder)
    assert held

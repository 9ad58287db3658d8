"""Replaces folders as a whole, so that no one ever sees half of one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
from collections.abc import Container, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from contrastive.digests import read_sealed, write_sealed
from contrastive.errors import FolderError
from contrastive.files import flush, naming_full_disks

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # constants of Linux
_LOCK, _MOVED = "lock", "moved.json"


@contextlib.contextmanager
def replacing_folder(path: Path, disposable: Container[str] = ()) -> Iterator[Path]:
    """Yields a temporary folder; on exit, it atomically replaces the folder `path`.

    At every moment, `path` is the old folder or the new one, and whole. On file systems that cannot
    exchange two folders, `path` does not exist for a moment. After an exception or a kill, `path`
    is unchanged, and `recover` undoes the rest. The new folder has the permissions of the old one.

    A folder that cannot be renamed, such as a mount point, stays, and so does the working
    directory. Their entries are replaced one by one, so that a kill can leave old and new ones.

    Args:
      path: The folder to replace; it need not exist.
      disposable: Names of entries of the old folder that may be deleted. The others move to the new
        folder, unless it has entries of the same name.

    Raises:
      FolderError: If `path` is a file.
      SaveError: If the disk is full.
    """
    path = Path(os.path.realpath(path))  # a link stays, and the folder that it names is replaced
    if path.exists() and not path.is_dir():
        raise FolderError(f"{path} is a file, and a folder is written; choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path)
    with naming_full_disks(path):
        stays = path.is_dir() and _stays(path)
        beside = path if stays else path.parent
        room = Path(tempfile.mkdtemp(dir=beside, prefix=f".{path.name}."))
        with FileLock(room / _LOCK) as lock:
            new = room / "new"
            try:
                new.mkdir()
                yield new
                for file in (*new.rglob("*"), new):
                    flush(file)
                if stays:
                    _replace_entries(new, path, disposable)
                else:
                    _replace_whole(new, path, disposable)
            finally:
                _move_back(room, path)
                lock.release()
                _remove(room)
    flush(path.parent)


def recover(path: Path) -> None:
    """Undoes what is left of replacing a folder, if the process was killed.

    Args:
      path: The folder that was to be replaced.
    """
    path = Path(os.path.realpath(path))
    beside = [
        room for folder in (path.parent, path) if folder.is_dir() for room in folder.iterdir()
    ]
    for room in beside:
        # `mkdtemp` ends a name with characters other than a dot.
        of_path = room.name.rpartition(".")[0] == f".{path.name}"
        if not of_path or not (room / _LOCK).is_file() or room.is_symlink():
            continue
        with contextlib.suppress(Timeout):
            with FileLock(room / _LOCK, timeout=0):
                _move_back(room, path)
            _remove(room)


def _remove(room: Path) -> None:
    """Removes a temporary folder, whose lock must be released.

    NFS keeps files that are still open, such as weights that another program reads. What is left
    then is removed by the next `recover`, so the lock, by which it is recognized, is removed last.
    """
    for entry in room.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
    shutil.rmtree(room, ignore_errors=True)


def _stays(path: Path) -> bool:
    """Returns whether a folder cannot be renamed, or is the working directory or above it."""
    if os.path.ismount(path) or not os.access(path.parent, os.W_OK):
        return True
    try:
        return Path.cwd().is_relative_to(path)
    except FileNotFoundError:  # the working directory has been removed
        return False


def _replace_whole(new: Path, path: Path, disposable: Container[str]) -> None:
    """Moves what stays of the folder `path` to `new`, and then `new` to `path`."""
    moved = _entries(path) - _entries(new)
    moved = sorted(name for name in moved if name not in disposable)
    write_sealed(new.parent / _MOVED, {"names": moved})
    for name in moved:
        os.replace(path / name, new / name)
    if path.is_dir():
        shutil.copymode(path, new)
    _put_in_place(new, path, new.parent / "old")


def _replace_entries(new: Path, path: Path, disposable: Container[str]) -> None:
    """Moves the entries of `new` to the folder `path`, one by one."""
    names = _entries(new)
    for name in sorted(names):
        _put_in_place(new / name, path / name, new.parent / f"old-{name}")
    for name in sorted(_entries(path) - names):
        if name in disposable:
            entry = path / name
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _move_back(room: Path, path: Path) -> None:
    """Moves entries that are neither in the old folder nor in the new one to where they belong."""
    if not path.exists() and (room / "old").exists():
        os.replace(room / "old", path)
    if not (room / _MOVED).is_file():
        return
    remedy = f"move what is missing in {path} back from {room}"
    for name in read_sealed(room / _MOVED, dict[str, list[str]], remedy=remedy)["names"]:
        for place in (room / "new" / name, room / "old" / name):
            if place.exists() and not (path / name).exists():
                os.replace(place, path / name)


def _put_in_place(new: Path, path: Path, old: Path) -> None:
    """Renames `new` to `path`; what was there is then `new` or `old`."""
    if not path.exists():
        os.replace(new, path)
    elif not _exchange(new, path):
        os.replace(path, old)
        os.replace(new, path)


def _entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _exchange(a: Path, b: Path) -> bool:
    """Exchanges two folders atomically; returns whether the system can do that."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except AttributeError:  # not on Linux
        return False
    names = os.fsencode(a), os.fsencode(b)
    return rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0

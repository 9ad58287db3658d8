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
from contrastive.files import flush, naming_full_disks

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # constants of Linux
_LOCK, _MOVED = "lock", "moved.json"


@contextlib.contextmanager
def replacing_folder(path: Path, disposable: Container[str] = ()) -> Iterator[Path]:
    """Yields a temporary folder; on exit, it atomically replaces the folder `path`.

    At every moment, `path` is the old folder or the new one, and whole. On file systems that cannot
    exchange two folders, `path` does not exist for a moment. After an exception or a kill, `path`
    is unchanged, and `recover` undoes the rest.

    Args:
      path: The folder to replace; it need not exist.
      disposable: Names of entries of the old folder that may be deleted. The others move to the new
        folder, unless it has entries of the same name.

    Raises:
      SaveError: If the disk is full.
    """
    path = Path(os.path.abspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path)
    with naming_full_disks(path):
        room = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        with FileLock(room / _LOCK):
            new = room / "new"
            try:
                new.mkdir()
                yield new
                for file in (*new.rglob("*"), new):
                    flush(file)
                moved = _entries(path) - _entries(new)
                moved = sorted(name for name in moved if name not in disposable)
                write_sealed(room / _MOVED, {"names": moved})
                for name in moved:
                    os.replace(path / name, new / name)
                _put_in_place(new, path, room / "old")
            finally:
                _move_back(room, path)
                shutil.rmtree(room)
    flush(path.parent)


def recover(path: Path) -> None:
    """Undoes what is left of replacing a folder, if the process was killed.

    Args:
      path: The folder that was to be replaced.
    """
    path = Path(os.path.abspath(path))
    for room in path.parent.glob(f".{path.name}.*"):
        if not (room / _LOCK).is_file() or room.is_symlink():
            continue
        with contextlib.suppress(Timeout), FileLock(room / _LOCK, timeout=0):
            _move_back(room, path)
            shutil.rmtree(room)


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

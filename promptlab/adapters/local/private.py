"""A store is its owner's alone: files 0600 and folders 0700, whatever the umask is.

Prompts, datasets and answers are nobody else's on a machine that others use, too. What an older version made
is brought to the same when its owner opens it. Others' files, and systems without such modes, are left as
they are.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

FILE, FOLDER = 0o600, 0o700
_OTHERS = 0o077


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are not there, for their owner alone."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        # Not Path.mkdir(parents=True): it gives those above the usual mode.
        missing.mkdir(mode=FOLDER, exist_ok=True)


def create_file(path: Path) -> None:
    """Make an empty file for its owner alone, where none is there.

    SQLite gives its log and the index of its log the mode of the file.
    """
    with contextlib.suppress(OSError):  # it is there, or cannot be: then whoever opens it says so
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE))


def own_file(path: Path) -> None:
    """Take a file, and what SQLite puts beside it, from everybody but its owner, where that is us.

    By its name: to open and close it would drop this process's locks on it.
    """
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-journal"):
        _own(path.with_name(name))


def own_folder(folder: Path) -> None:
    """Take a folder, and once all that is in it, from everybody but its owner, where that is us."""
    if not _is_open(folder):
        return
    for path in _below(folder):
        _own(path)
    _own(folder)  # last: where this breaks off, it is done again


def _below(folder: Path) -> Iterator[Path]:
    for inner, folders, files in os.walk(folder):
        yield from (Path(inner, name) for name in (*folders, *files))


def _is_open(path: Path) -> bool:
    """Whether others may do something with a file of ours."""
    try:
        found = path.lstat()
    except OSError:
        return False
    ours = os.name == "posix" and found.st_uid == os.geteuid() and not stat.S_ISLNK(found.st_mode)
    return ours and bool(stat.S_IMODE(found.st_mode) & _OTHERS)


def _own(path: Path) -> None:
    """Leave what the owner may do: a store may be read only on purpose."""
    if _is_open(path):
        with contextlib.suppress(OSError):  # a file that is gone, or a disk without modes
            path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~_OTHERS)

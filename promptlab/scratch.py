"""Temporary folders that a killed process does not leave behind for good."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import BinaryIO

PREFIX = "promptlab-"
LOCK = ".in-use"
"""A file in each folder that is locked as long as its process lives; the system lets go of a killed one's."""
_LINK = ".link"
STALE_S = 60.0
"""Seconds that a folder without a lock is left alone: its process may be about to take the lock."""
_cleaned = threading.Event()


class ScratchFolder:
    """A temporary folder, removed by `close`, at the end of a `with` block, or by a later process.

    The first folder of a process removes those of processes that were killed.
    """

    def __init__(self, purpose: str = "") -> None:
        """`purpose`: a word in the folder's name, for people who look into the temporary folder."""
        if not _cleaned.is_set():
            _cleaned.set()
            remove_stale(Path(tempfile.gettempdir()))
        self._folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}{'-' if purpose else ''}"))
        self.path = _with_pattern(self._folder)
        self._lock = _locked(self._folder / LOCK, "xb")

    def close(self) -> None:
        """Remove the folder. Closing twice is fine."""
        if self.path != self._folder:
            self.path.unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


def _with_pattern(folder: Path) -> Path:
    """The folder, or a link to it, by a name for which DuckDB has a pattern: it takes a
    backslash beside one of `*?[` for a separator."""
    if "\\" not in str(folder) or not any(c in str(folder) for c in "*?["):
        return folder
    for base in (Path("/tmp"), Path("/var/tmp"), Path.home()):
        link = base / f"{folder.name}{_LINK}"
        with contextlib.suppress(OSError):
            for old in base.glob(f"{PREFIX}*{_LINK}"):  # of processes that were killed
                if old.is_symlink() and not old.exists():
                    old.unlink()
            link.symlink_to(folder)
            return link
    return folder


def remove_stale(base: Path) -> None:
    """Remove the scratch folders in `base` that no process holds any more."""
    with contextlib.suppress(OSError), os.scandir(base) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False):
                _remove_if_stale(Path(entry.path))


def _remove_if_stale(folder: Path) -> None:
    with contextlib.suppress(OSError):
        lock = folder / LOCK
        if time.time() - lock.stat().st_mtime < STALE_S:
            return
        held = _locked(lock, "r+b")
        if held is not None:
            with held:
                shutil.rmtree(folder, ignore_errors=True)


def _locked(path: Path, mode: str) -> BinaryIO | None:
    """The file, opened and locked; None where another process holds the lock or the system has none."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    file: BinaryIO = open(path, mode)  # type: ignore[assignment] # noqa: SIM115, PTH123 - held open
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file

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
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}{'-' if purpose else ''}"))
        self._lock = _locked(self.path / LOCK, "xb")

    def close(self) -> None:
        """Remove the folder. Closing twice is fine."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


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

"""A file that is given up when the disk is full, so that there is room to record how a run ended."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from promptlab.adapters.local.private import create_file

RESERVE_BYTES = 256 << 10
"""The record of a run and the pages of its indexes, as frames of SQLite's log: 30 to 60 KB."""


class Reserve:
    """Bytes and an inode of a disk, held while runs are worked on."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self) -> None:
        """Write the file, unless it is there. A disk that is full already gives none: the first write will
        say so."""
        with contextlib.suppress(OSError):
            if self._path.exists() and self._path.stat().st_size >= RESERVE_BYTES:
                return
            create_file(self._path)
            with self._path.open("wb") as file:
                # Written, and not only made this long: a file system that compresses or leaves holes
                # would hold nothing back.
                file.write(os.urandom(RESERVE_BYTES))

    def release(self) -> None:
        """Give its room back to the disk."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

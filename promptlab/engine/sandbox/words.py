"""An error of a user's code in words, with the lines of theirs that it came through."""

from __future__ import annotations

import errno
import linecache
import os
import traceback
from pathlib import Path

from promptlab.domain.results import described
from promptlab.domain.texts import storable

MOST_LINES = 3
"""Lines of a user's code that an error tells of: the last ones."""
_FORBIDDEN = (errno.EPERM, errno.EACCES)


def said(error: BaseException, folder: Path, *, network: bool = False) -> str:
    """Say an error's class and message, and the lines of the code in `folder` that it came through; and what
    the sandbox refuses, where that is what was met."""
    words = described(error)
    if isinstance(error, OSError) and error.errno in _FORBIDDEN:
        reach = "connections but to public addresses" if network else "network"
        words += f" (code in the cloud runs without {reach}, other processes and files but its own)"
    try:
        lines = _lines(error, folder)
    except Exception:  # noqa: BLE001 - a user's own class may have made its traceback anything
        lines = []
    return words if not lines else f"{words} [{'; '.join(lines)}]"


def _lines(error: BaseException, folder: Path) -> list[str]:
    root = f"{folder}{os.sep}"
    found = []
    for frame in traceback.extract_tb(error.__traceback__, limit=-200):
        if frame.filename.startswith(root):
            text = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
            found.append(storable(f"{frame.filename[len(root) :]}, line {frame.lineno}: {text[:200]}"))
    return found[-MOST_LINES:]

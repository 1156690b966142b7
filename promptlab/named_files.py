"""Files and folders that users name: a pipe would never end, and a working folder may be gone."""

from __future__ import annotations

import stat
from pathlib import Path

from promptlab.errors import PromptLabError


def working_folder() -> Path | None:
    """Return the working folder; None where it was deleted, and paths must be absolute."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def check_regular(path: Path, whose: str, error: type[PromptLabError]) -> None:
    """Refuse a pipe, a socket or a device: reading one may wait for ever.

    Raises:
        PromptLabError: it is one, as `error`.
        OSError: it cannot be looked at.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise error(f"{whose}: {path} is a pipe or a device: write what comes from it into a file first.")

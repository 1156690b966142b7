"""The folder of a child: measured and removed, whatever code has made of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path


def measured(folder: Path, most: int) -> tuple[int, int]:
    """How many bytes and entries a folder has; counting ends beyond `most` entries."""
    size = entries = 0
    left = [str(folder)]
    while left and entries <= most:
        with contextlib.suppress(OSError), os.scandir(left.pop()) as found:
            for entry in found:
                entries += 1
                if entries > most:
                    break
                with contextlib.suppress(OSError):
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
    return size, entries


def emptied(folder: Path, kept: Collection[str] = ()) -> None:
    """Remove all that is in a folder of ours, which nobody writes to any more: trees of any depth, folders
    without rights, whatever names. What is directly in it and is `kept` stays.

    Raises:
        OSError: something cannot be removed.
    """
    here = os.open(folder, _FOLDER)
    # No path ever grows long: each step is one folder down, or one up.
    above: list[tuple[str, list[str]]] = []
    try:
        folders = _folders(here, kept)
        while True:
            if folders:
                name = folders.pop()
                above.append((name, folders))
                os.chmod(name, 0o700, dir_fd=here)
                here = _moved(here, name)
                folders = _folders(here)
            elif above:
                here = _moved(here, "..")
                name, folders = above.pop()
                os.rmdir(name, dir_fd=here)
            else:
                return
    finally:
        os.close(here)


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def _moved(here: int, name: str) -> int:
    there = os.open(name, _FOLDER, dir_fd=here)
    os.close(here)
    return there


def _folders(here: int, kept: Collection[str] = ()) -> list[str]:
    """Remove all of a folder but its folders; give these."""
    found = []
    with os.scandir(here) as entries:
        found_here = ((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        listed = [(name, is_folder) for name, is_folder in found_here if name not in kept]
    for name, is_folder in listed:
        if is_folder:
            found.append(name)
        else:
            os.unlink(name, dir_fd=here)
    return found

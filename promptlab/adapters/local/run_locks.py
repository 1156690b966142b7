"""The lock files that keep two processes from working on one run; the system drops those of killed ones."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock, Timeout

from promptlab.adapters.local.private import FILE, make_folder
from promptlab.errors import PromptLabError, RunBusyError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock."""
    try:
        return _is_held(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # the store is another's, or read only: who may not look believes what is recorded


def _is_held(path: Path) -> bool:
    if fcntl is None:
        if not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            return True
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Shared: of two that look at the same time neither must take the other for one who works on it.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def take(folder: Path, run_id: str, kind: type[FileLock] = FileLock) -> FileLock:
    """Lock a run for this process, by a file and the locks of its disk.

    Raises:
        RunBusyError: another process holds it.
        PromptLabError: the store's disk has no locks, or may not be written.
    """
    try:
        make_folder(folder)
    except OSError as error:
        raise _no_lock(folder, error) from error
    path = folder / f"{run_id}.lock"
    # A second to get it: somebody may be looking whether the run is active.
    lock = kind(path, timeout=1, mode=FILE, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise RunBusyError(
            f"Run {run_id} is being worked on by another process. Wait for it, or stop that process, "
            "then resume."
        ) from None
    except (OSError, NotImplementedError) as error:
        raise _no_lock(path, error) from error
    return lock


def _no_lock(path: Path, error: Exception) -> PromptLabError:
    """The error for a store in which no run can be held: without a lock two processes would
    pay for the same calls."""
    return PromptLabError(
        f"The lock {path} cannot be taken ({error}): no call was made. Where its disk has no locks "
        "(some network drives) or may not be written, give another db_file."
    )

"""How many calls at once the process's limit of open files allows."""

from __future__ import annotations

import logging
import os
import sys

SPARE = 64
"""Descriptors for the store, DuckDB, temporary files and the user's own code."""

logger = logging.getLogger(__name__)


def calls_that_fit(wanted: int) -> int:
    """Raise the soft limit of open files as far as `wanted` calls need it, and say how many calls fit.

    Each call in flight holds a connection. The hard limit is the system's: only an administrator raises it.
    """
    if sys.platform == "win32":
        return wanted
    import resource

    used = _open_now()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = used + wanted + SPARE
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
        except (OSError, ValueError) as error:
            logger.debug("the limit of open files stays at %d: %s", soft, error)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    fit = max(1, soft - used - SPARE)
    logger.warning(
        "max_concurrent_tasks is %d, and %d calls at once are made: the process may open %d files "
        "(raise it with: ulimit -Hn, or LimitNOFILE= of its service)",
        wanted,
        fit,
        soft,
    )
    return fit


def _open_now() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder))  # noqa: PTH208 - no Path is needed for a count
        except OSError:
            continue
    return SPARE

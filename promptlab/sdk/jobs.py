"""How far an upload, or a job at a hosted lab, is: one line, written over."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any


class JobLine:
    """Writes the line to standard error, where that is a terminal; else nothing."""

    def __init__(self) -> None:
        self._shown = 0

    def __call__(self, job: Mapping[str, Any]) -> None:
        """Show how far it is."""
        if not sys.stderr.isatty():
            return
        over = job.get("status", "running") not in ("queued", "running")
        text = "" if over else said(job)
        sys.stderr.write("\r" + text.ljust(self._shown) + ("\r" if over else ""))
        sys.stderr.flush()
        self._shown = len(text)


def said(job: Mapping[str, Any]) -> str:
    """A job in words: `export: writing the file, 12.3 MB`."""
    done, total = job["done"], job["total"]
    if job["kind"] == "ingest":
        amount = f"{done:,} rows" if done else ""
    else:
        amount = f"{done / 1e6:,.1f} MB" if done else ""
        if total:
            amount = f"{done / 1e6:,.1f} of {total / 1e6:,.1f} MB ({100 * done // total}%)"
    return f"{job['kind']}: {job['stage']}" + (f", {amount}" if amount else "")

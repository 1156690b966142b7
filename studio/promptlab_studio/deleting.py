"""How long a request works on a deletion."""

from __future__ import annotations

from promptlab.store_lab import StoreLab

WORK_S = 15.0
"""Seconds that one request works in the cloud, where it has 30."""


def work_s(lab: StoreLab) -> float | None:
    """The seconds that a request deletes for; None on a laptop, where it has all the time."""
    return None if lab.stack is None else WORK_S

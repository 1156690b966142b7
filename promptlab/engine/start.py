"""A call's place among those that started."""

from __future__ import annotations

from typing import NamedTuple


class Start(NamedTuple):
    """A call's place among those that started."""

    number: int
    at: float
    """Seconds on the clock's monotonic scale."""

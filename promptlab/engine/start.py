"""A call's place among those that started."""

from __future__ import annotations

from typing import NamedTuple


class Start(NamedTuple):
    """A call's place among those that started."""

    number: int
    at: float
    """Seconds on the clock's monotonic scale."""
    tokens: float = 0.0
    """Those that it was given, where their limit is known."""

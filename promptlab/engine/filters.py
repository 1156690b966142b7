"""Which cases of a run are meant: a filter as a value, and as the condition of an SQL query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "failed"]


@dataclass(frozen=True, slots=True)
class Range:
    """Values of one number column between two bounds; a histogram's bin is one."""

    column: str
    """As in the results table: `score.<metric>`, `latency_ms`, `cost_usd`, `prompt_tokens`, `input.<column>` …"""
    low: float | None = None
    """Values from here on (included)."""
    high: float | None = None
    """Values up to here."""
    closed: bool = True
    """Whether `high` itself is included."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which cases: all conditions must hold. The empty filter means every case. Metrics are named as in the table (`Columns.scores`)."""

    text: str = ""
    """A part of the id, an input, the answer, the error message or a reason, whatever its case."""
    status: Status | None = None
    """`failed`: the call or a score failed; `ok`: neither."""
    error_type: str | None = None
    """The call's error, or `evaluator_error` for an answered case with a failed score: as in `Summary.errors`."""
    ranges: tuple[Range, ...] = ()
    passed: tuple[tuple[str, bool], ...] = ()
    """(metric, whether it passed)."""
    labels: tuple[tuple[str, str], ...] = ()
    """(metric, its label)."""
    unscored: tuple[str, ...] = ()
    """Metrics whose evaluator failed."""

"""The choice of what a comparison shows, without the SQL and the statistics of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Change = Literal["all", "different", "regressed", "improved", "same"]
"""`different`: a score or a label differs, or only one run has it; `same`: not so; `regressed`, `improved`:
by the metric's direction."""
MAX_COMPARED = 4
"""Runs of one comparison at most, the base included."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The choice of a page's pairs of cases."""

    change: Change = "all"
    metric: str | None = None
    """The metric that `change` is about; None: any that is not a mere fact."""
    other: int | None = None
    """The run, by its place in `others`, that `change` is about; None: any."""
    text: str = ""
    """A part of what a search of any of the runs would find (`Filter.text`)."""

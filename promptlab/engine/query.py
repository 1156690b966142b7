"""Pages, searches, histograms and counts of a run's results: SQL over its results.parquet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptlab.domain.results import CaseKey, RunRecord
from promptlab.engine.filters import Filter
from promptlab.engine.table import Columns
from promptlab.ports import Blobs, Ledger

TEXT_CHARS = 300
"""How much of a text a page of cases has."""
PAGE = 50


@dataclass(frozen=True, slots=True)
class CasePage:
    """One page of cases."""

    rows: list[dict[str, Any]]
    """By column of the results table, and `cut`: the names of the columns whose text is longer than what is here."""
    total_matching: int
    """Cases that match the filter."""
    total: int
    """Cases of the run."""
    offset: int
    """What was skipped: as asked, or less where that was beyond the last page."""
    limit: int
    live: bool = False
    """The run has no results file yet: rows come from the ledger, in case order and unfiltered, and cases without
    an answer yet have `pending: True` and only case, trial, id and inputs."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Where a case stands among those that match a filter, in a sort order."""

    previous: CaseKey | None
    next: CaseKey | None
    position: int | None
    """0-based; None where the case itself does not match (then there are no neighbours)."""
    total: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Values from `low` up to `high` (which only the last bin includes). `Range(column, low, high, closed)` selects them."""

    low: float
    high: float
    count: int
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Histogram:
    """How one number column is distributed."""

    column: str
    bins: tuple[Bin, ...]
    count: int
    """Values in all bins."""
    missing: int
    """Matching cases without a value."""


@dataclass(frozen=True, slots=True)
class MetricFacet:
    """How often each verdict of a metric occurs."""

    passed: int
    not_passed: int
    unscored: int
    """Its evaluator failed."""
    labels: Mapping[str, int]
    """Cases by label, most frequent first; at most 50."""


@dataclass(frozen=True, slots=True)
class Facets:
    """Counts of what a filter could be narrowed to."""

    matching: int
    ok: int
    failed: int
    errors: Mapping[str, int]
    """Failed cases by type, most frequent first."""
    metrics: Mapping[str, MetricFacet]


class ResultsQuery:
    """The results of one run. Every method runs in a thread, never on the event loop.

    Column names are those of the results table; an unknown one raises UnknownNameError.
    """

    live: bool
    """Whether there is no results file yet: then rows are in case order, unfiltered, and there are no histograms or facets."""
    columns: Columns
    run: RunRecord

    async def page(
        self,
        filter: Filter = Filter(),  # noqa: B008 - frozen
        *,
        sort: str = "case",
        descending: bool = False,
        offset: int = 0,
        limit: int = PAGE,
        text_chars: int = TEXT_CHARS,
    ) -> CasePage: ...

    async def case(self, case: int, trial: int = 0) -> dict[str, Any] | None: ...

    async def neighbours(self, case: int, trial: int = 0, filter: Filter = Filter(), *, sort: str = "case", descending: bool = False) -> Neighbours: ...  # noqa: B008

    async def histogram(self, column: str, filter: Filter = Filter(), *, bins: int = 20) -> Histogram: ...  # noqa: B008

    async def facets(self, filter: Filter = Filter()) -> Facets: ...  # noqa: B008


class QueryEngine:
    """Answers questions about runs. One for a process: it holds the connections and what it knows of the files."""

    def __init__(self, ledger: Ledger, blobs: Blobs, *, folder: Path | None = None) -> None: ...

    async def results(self, run: RunRecord) -> ResultsQuery: ...

    async def close(self) -> None: ...

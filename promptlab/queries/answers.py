"""Questions about a run's results, and the form of the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from promptlab.domain.results import CaseKey, RunRecord
from promptlab.queries.filters import NO_FILTER, Filter
from promptlab.queries.histograms import Histogram
from promptlab.results.table import Columns

TEXT_CHARS = 300
"""How much of a text a page of cases has."""
PAGE = 50


@dataclass(frozen=True, slots=True)
class CaseRows:
    """One page of cases."""

    rows: list[dict[str, Any]]
    """By column of the results table, and `cut`: the names of the columns whose text is
    longer than what is here."""
    total_matching: int
    """Cases that match the filter."""
    total: int
    """Cases of the run."""
    offset: int
    """The number of cases skipped: as asked, or that of the last page where it was beyond."""
    limit: int
    live: bool = False
    """The run has no results file. In the order of the dataset and unfiltered, a case without an answer yet
    has `pending: True` and only case, trial, id and inputs; else `total` are the cases that are answered."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The place of a case among those that match a filter, in a sort order."""

    previous: CaseKey | None
    next: CaseKey | None
    position: int | None
    """0-based; None where the case itself does not match (then it has no neighbours)."""
    total: int


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """How one trial of a dataset row ended, by one metric."""

    trial: int
    error_type: str | None
    passed: bool | None
    score: float | None
    pending: bool = False


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
    """Failed cases by type, most frequent first; at most 50."""
    metrics: Mapping[str, MetricFacet]
    """By the metric's name in the table."""
    finish_reasons: Mapping[str, int] = field(default_factory=dict)
    """Cases by why the model stopped, most frequent first; at most 50."""


class ResultsQuery(Protocol):
    """The results of one run: `StoredResults`, or `LiveResults` while there is no results file."""

    run: RunRecord
    columns: Columns
    live: bool
    """Whether there is no results file: filters, orders and counts are of what is answered so far."""

    async def page(
        self,
        filter: Filter = NO_FILTER,
        *,
        sort: str = "case",
        descending: bool = False,
        offset: int = 0,
        limit: int = PAGE,
        text_chars: int = TEXT_CHARS,
    ) -> CaseRows:
        """Some of the cases that match. Cases without a value come last either way;
        equal ones are in case order.

        Texts sort by their first 48 characters, whatever their case; ids by the number at their end.
        """

    async def row_numbers(self, filter: Filter = NO_FILTER) -> list[int]:
        """The numbers of the dataset rows whose cases match, each once, rising."""

    async def case(self, case: int, trial: int = 0) -> dict[str, Any] | None:
        """The whole row of one case, or None."""

    async def trials(self, case: int, metric: str | None = None) -> Sequence[TrialOutcome]:
        """All trials of a dataset row, with what a metric, named as in the table, says of each.

        Raises:
            UnknownNameError: there is no such metric.
        """

    async def neighbours(
        self,
        case: int,
        trial: int = 0,
        filter: Filter = NO_FILTER,
        *,
        sort: str = "case",
        descending: bool = False,
    ) -> Neighbours:
        """The cases before and after one, in the order of `page`."""

    async def histogram(self, column: str, filter: Filter = NO_FILTER, *, bins: int = 20) -> Histogram:
        """How a number column is distributed over the cases that match; the bins are
        those of the whole run."""

    async def facets(self, filter: Filter = NO_FILTER) -> Facets:
        """Count the cases that match, by what they are."""

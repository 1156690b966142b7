"""Answers that are asked for again and again of runs. Those of a run with results never change: the
newest are kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, cast

from promptlab.queries.query_engine import Facets, Filter, Histogram, ResultsQuery

MOST = 512
"""Answers of all runs together; one is a few kilobytes."""
_kept: OrderedDict[tuple[Hashable, ...], Any] = OrderedDict()


async def histogram_of(results: ResultsQuery, column: str, bins: int) -> Histogram:
    """A column's histogram over all cases. Four of them are half of a page's work at 100,000 cases."""
    return cast(
        Histogram, await _remembered(results, (column, bins), lambda: results.histogram(column, bins=bins))
    )


async def facets_of(results: ResultsQuery, filter_: Filter) -> Facets:
    """Count the cases that match, by what they are; the same for every page and order of them."""
    return cast(Facets, await _remembered(results, (filter_,), lambda: results.facets(filter_)))


async def _remembered(
    results: ResultsQuery, what: tuple[Hashable, ...], ask: Callable[[], Awaitable[Any]]
) -> Any:
    run = results.run
    if results.live:
        return await ask()
    key = (run.run_id, run.results, run.finished_at, *what)
    found = _kept.pop(key, None) or await ask()
    _kept[key] = found
    while len(_kept) > MOST:
        _kept.popitem(last=False)
    return found

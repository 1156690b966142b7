"""The cases of a run that has no results file yet: in the order of the dataset from the ledger, of which only
the shards that a page shows are read; filtered or sorted from a snapshot of what is answered so far."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from promptlab.assets.rows import read_rows
from promptlab.assets.shard_index import shards_between
from promptlab.domain.assets import Shard
from promptlab.domain.results import CaseKey
from promptlab.queries.answers import PAGE, TEXT_CHARS, CaseRows, Facets, Neighbours, TrialOutcome
from promptlab.queries.filters import NO_FILTER, Filter, known_metric
from promptlab.queries.finished import StoredResults
from promptlab.queries.histograms import Histogram
from promptlab.queries.opened import cut
from promptlab.results.run_table import RunTable


class LiveResults:
    """The results of a run that goes on, or was stopped before it was summed up."""

    live = True

    def __init__(self, table: RunTable, so_far: Callable[[], Awaitable[StoredResults]]) -> None:
        """`so_far`: gives a snapshot of the cases that are answered."""
        self._table, self._content = table, table.content
        self._ask = so_far
        self._answered: StoredResults | None = None
        self.run, self.columns, self._trials = table.run, table.columns, table.trials

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
        if _selects(filter, sort, descending):
            answered = await self._so_far()
            page = await answered.page(
                filter,
                sort=sort,
                descending=descending,
                offset=offset,
                limit=limit,
                text_chars=text_chars,
            )
            return replace(page, live=True)
        total = self.run.cases
        offset = offset if offset < total else (total - 1) // limit * limit
        first, last = offset // self._trials, (min(offset + limit, total) - 1) // self._trials
        rows: list[dict[str, Any]] = []
        for shard in await shards_between(self._table.blobs, self._content, first, last):
            rows += await self._rows(shard, max(first, shard.first), min(last, shard.first + shard.count - 1))
        begin = offset - first * self._trials
        return CaseRows(
            [cut(row, text_chars) for row in rows[begin : begin + limit]],
            total,
            total,
            offset,
            limit,
            live=True,
        )

    async def row_numbers(self, filter: Filter = NO_FILTER) -> list[int]:
        return await (await self._so_far()).row_numbers(filter)

    async def case(self, case: int, trial: int = 0) -> dict[str, Any] | None:
        if not (0 <= case < self._content.rows and 0 <= trial < self._trials):
            return None
        (shard,) = await shards_between(self._table.blobs, self._content, case, case)
        return (await self._rows(shard, case, case))[trial]

    async def trials(self, case: int, metric: str | None = None) -> Sequence[TrialOutcome]:
        if metric is not None:
            known_metric(metric, self.columns)
        if not 0 <= case < self._content.rows:
            return []
        (shard,) = await shards_between(self._table.blobs, self._content, case, case)
        return [
            TrialOutcome(
                trial,
                row.get("error_type"),
                row.get(f"passed.{metric}"),
                row.get(f"score.{metric}"),
                bool(row.get("pending")),
            )
            for trial, row in enumerate(await self._rows(shard, case, case))
        ]

    async def neighbours(
        self,
        case: int,
        trial: int = 0,
        filter: Filter = NO_FILTER,
        *,
        sort: str = "case",
        descending: bool = False,
    ) -> Neighbours:
        if _selects(filter, sort, descending):
            answered = await self._so_far()
            return await answered.neighbours(case, trial, filter, sort=sort, descending=descending)
        position, total = case * self._trials + trial, self.run.cases
        if not (0 <= trial < self._trials and 0 <= position < total):
            return Neighbours(None, None, None, total)
        before, after = (
            CaseKey(*divmod(at, self._trials)) if 0 <= at < total else None
            for at in (position - 1, position + 1)
        )
        return Neighbours(before, after, position, total)

    async def histogram(self, column: str, filter: Filter = NO_FILTER, *, bins: int = 20) -> Histogram:
        return await (await self._so_far()).histogram(column, filter, bins=bins)

    async def facets(self, filter: Filter = NO_FILTER) -> Facets:
        return await (await self._so_far()).facets(filter)

    async def _so_far(self) -> StoredResults:
        """The same snapshot for all that is asked here, so that the pages of an export fit together."""
        if self._answered is None:
            self._answered = await self._ask()
        return self._answered

    async def _rows(self, shard: Shard, first: int, last: int) -> list[dict[str, Any]]:
        """The table's rows of some dataset rows of a shard; every trial, done or not."""
        inputs = await read_rows(self._table.blobs, self._content, shard)
        done = {case.completion.key: case for case in await self._table.answered(shard, inputs)}
        empty, rows = dict.fromkeys(self.columns.types), list[dict[str, Any]]()
        for key in (CaseKey(case, trial) for case in range(first, last + 1) for trial in range(self._trials)):
            case = done.get(key)
            if case is None:
                found = self._table.input_row(inputs[key.case - shard.first], key) | {"pending": True}
            else:
                found = self._table.row(case)
            rows.append(empty | found)
        return rows


def _selects(filter: Filter, sort: str, descending: bool) -> bool:
    """Whether a question is of some cases, or of another order than the dataset's."""
    return filter != NO_FILTER or sort != "case" or descending

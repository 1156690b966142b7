"""The cases of a run that has no results file yet, from the ledger: only the shards that
a page shows are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from promptlab.assets.rows import read_rows
from promptlab.assets.shard_index import shards_between
from promptlab.domain.assets import Shard
from promptlab.domain.results import CaseKey
from promptlab.errors import RunError
from promptlab.queries.answers import PAGE, TEXT_CHARS, CasePage, Facets, Neighbours, TrialOutcome
from promptlab.queries.filters import NO_FILTER, Filter, known_metric
from promptlab.queries.histograms import Histogram
from promptlab.queries.opened import cut
from promptlab.results.run_table import RunTable


class LiveResults:
    """The results of a run that goes on, or was stopped before it was summed up."""

    live = True

    def __init__(self, table: RunTable) -> None:
        self._table, self._content = table, table.content
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
    ) -> CasePage:
        total = self.run.cases
        offset = offset if offset < total else (total - 1) // limit * limit
        first, last = offset // self._trials, (min(offset + limit, total) - 1) // self._trials
        rows: list[dict[str, Any]] = []
        for shard in await shards_between(self._table.blobs, self._content, first, last):
            rows += await self._rows(shard, max(first, shard.first), min(last, shard.first + shard.count - 1))
        begin = offset - first * self._trials
        return CasePage(
            [cut(row, text_chars) for row in rows[begin : begin + limit]],
            total,
            total,
            offset,
            limit,
            live=True,
        )

    async def row_numbers(self, filter: Filter = NO_FILTER) -> list[int]:
        self._not_yet("selections")

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
        position, total = case * self._trials + trial, self.run.cases
        if not (0 <= trial < self._trials and 0 <= position < total):
            return Neighbours(None, None, None, total)
        before, after = (
            CaseKey(*divmod(at, self._trials)) if 0 <= at < total else None
            for at in (position - 1, position + 1)
        )
        return Neighbours(before, after, position, total)

    async def histogram(self, column: str, filter: Filter = NO_FILTER, *, bins: int = 20) -> Histogram:
        self._not_yet("histograms")

    async def facets(self, filter: Filter = NO_FILTER) -> Facets:
        self._not_yet("counts")

    def _not_yet(self, what: str) -> NoReturn:
        raise RunError(
            f"Run {self.run.run_id} is {self.run.status} and has no {what} of its cases yet: they come "
            "with its results, once it has ended."
        )

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

"""Rows of a run's results table, a bounded page at a time: from the ledger while it runs, from
its results file after."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from promptlab.assets.shard_index import shards_from
from promptlab.domain.results import CaseKey
from promptlab.duck import parquet, reading_results, with_room
from promptlab.results.files import results_file
from promptlab.results.formats import MAX_ROWS
from promptlab.results.run_table import RunTable
from promptlab.results.table import natural

if TYPE_CHECKING:
    import duckdb

MAX_BYTES = 4 << 20
"""The largest page, in bytes of JSON: a Lambda function answers with 6 MB at most. A page has one row
at least, however long."""
MAX_SHARDS = 100
"""Shards of the ledger that one page looks through; each is two queries."""

Page = tuple[list[dict[str, Any]], CaseKey | None]
"""Rows, and the last case that was looked at where more may follow, else None."""


async def cases_page(table: RunTable, *, after: CaseKey | None = None, limit: int = MAX_ROWS) -> Page:
    """Read the rows that follow a case, in order of case and trial.

    A page of an unfinished run has what there is, and maybe fewer rows than `limit` with more to come.

    Raises:
        BlobNotFoundError: the results file or the dataset's rows are gone.
    """
    if table.run.results:
        # Of long rows only as many as may fit are looked at: DuckDB holds all of them at once.
        fitting = max(1, 2 * MAX_BYTES // max(1, table.content.largest_row_bytes or 1))
        async with results_file(table) as path:
            return await asyncio.to_thread(_from_file, path, after, min(limit, fitting))
    return await _from_ledger(table, after, limit)


def _from_file(path: Path, after: CaseKey | None, limit: int) -> Page:
    case, trial = after or (-1, -1)
    sql = (
        f"""SELECT * FROM {parquet(path)} WHERE "case" >= ? AND ("case", trial) > (?, ?) """
        """ORDER BY "case", trial LIMIT ?"""
    )
    pages = list[_Page]()

    def read(con: duckdb.DuckDBPyConnection) -> None:
        cursor = con.execute(sql, [case, case, trial, limit + 1])
        names = [column[0] for column in cursor.description or ()]
        page = _Page(limit)
        while not page.full and (found := cursor.fetchmany(50)):
            for values in found:
                if not page.add(natural(dict(zip(names, values, strict=True)))):
                    break
        pages.append(page)

    with reading_results():
        with_room(read, path.parent)  # three rows of 10 MB, with answers as long, need more than the 128 MB
    page = pages[-1]
    return page.rows, page.last if page.full else None


async def _from_ledger(table: RunTable, after: CaseKey | None, limit: int) -> Page:
    page, looked = _Page(limit), 0
    empty = dict.fromkeys(table.columns.types)
    async for shard in shards_from(table.blobs, table.content, after.case if after else 0):
        if looked == MAX_SHARDS:
            return page.rows, CaseKey(shard.first - 1, table.trials)
        looked += 1
        for case in await table.answered(shard):
            if after and case.completion.key <= after:
                continue
            if not page.add({**empty, **table.row(case)}):
                return page.rows, page.last
    return page.rows, None


class _Page:
    """Rows up to a number and a size."""

    def __init__(self, limit: int) -> None:
        self.rows: list[dict[str, Any]] = []
        self.full = False
        self._limit, self._bytes = limit, 0

    @property
    def last(self) -> CaseKey:
        return CaseKey(self.rows[-1]["case"], self.rows[-1]["trial"])

    def add(self, row: dict[str, Any]) -> bool:
        """Take a row, if there is room for it."""
        self._bytes += len(orjson.dumps(row, default=str))
        if self.rows and (len(self.rows) == self._limit or self._bytes > MAX_BYTES):
            self.full = True
        else:
            self.rows.append(row)
        return not self.full

"""Rows of a run's results table, a bounded page at a time: from the ledger while it runs, from its results file after."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import orjson

from promptlab.assets.rows import read_index, read_rows
from promptlab.domain.assets import DatasetContent, Shard
from promptlab.domain.experiment import Metric
from promptlab.domain.results import CaseKey, RunRecord
from promptlab.ports import Blobs, Ledger
from promptlab.results.duck import connect, literal
from promptlab.results.table import Case, columns, table_row

MAX_ROWS = 500
MAX_BYTES = 4 << 20
"""Of a page as JSON: a Lambda function answers with 6 MB at most. A page has one row at least, however long."""
MAX_SHARDS = 100
"""Shards of the ledger that one page looks through; each is two queries."""

Page = tuple[list[dict[str, Any]], CaseKey | None]
"""Rows, and the last case that was looked at where more may follow, else None."""


async def cases_page(
    ledger: Ledger,
    blobs: Blobs,
    run: RunRecord,
    content: DatasetContent,
    metrics: Sequence[Metric],
    *,
    after: CaseKey | None = None,
    limit: int = MAX_ROWS,
) -> Page:
    """The rows that follow a case, in order of case and trial. Of an unfinished run: what there is, and maybe fewer than `limit` with more to come.

    Raises:
        BlobNotFoundError: the results file or the dataset's rows are gone.
    """
    if run.results:
        with tempfile.TemporaryDirectory(prefix="promptlab-") as folder:
            (path,) = await blobs.files([run.results], Path(folder))
            return await asyncio.to_thread(_from_file, path, after, limit)
    return await _from_ledger(ledger, blobs, run, content, metrics, after, limit)


def _from_file(path: Path, after: CaseKey | None, limit: int) -> Page:
    case, trial = after or (-1, -1)
    sql = f"""SELECT * FROM read_parquet({literal(str(path))}) WHERE "case" >= ? AND ("case", trial) > (?, ?) ORDER BY "case", trial LIMIT ?"""
    page = _Page(limit)
    with connect() as con:
        cursor = con.execute(sql, [case, case, trial, limit + 1])
        names = [column[0] for column in cursor.description or ()]
        while not page.full and (found := cursor.fetchmany(50)):
            for values in found:
                if not page.add(dict(zip(names, values, strict=True))):
                    break
    return page.rows, page.last if page.full else None


async def _from_ledger(
    ledger: Ledger,
    blobs: Blobs,
    run: RunRecord,
    content: DatasetContent,
    metrics: Sequence[Metric],
    after: CaseKey | None,
    limit: int,
) -> Page:
    page, looked = _Page(limit), 0
    empty = dict.fromkeys(columns(content, metrics).types)
    async with aclosing(read_index(blobs, content)) as index:
        async for shard in index:
            if after and shard.first + shard.count <= after.case:
                continue
            if looked == MAX_SHARDS:
                return page.rows, CaseKey(shard.first - 1, run_trials(run))
            looked += 1
            for row in await _shard(ledger, blobs, run, content, metrics, shard):
                if (not after or CaseKey(row["case"], row["trial"]) > after) and not page.add(
                    {**empty, **row}
                ):
                    return page.rows, page.last
    return page.rows, None


def run_trials(run: RunRecord) -> int:
    """How often each row of a run is asked."""
    return int(run.experiment.get("trials", 1))


async def _shard(
    ledger: Ledger,
    blobs: Blobs,
    run: RunRecord,
    content: DatasetContent,
    metrics: Sequence[Metric],
    shard: Shard,
) -> list[dict[str, Any]]:
    completions = await ledger.get_completions(run.run_id, shard.number)
    if not completions:
        return []
    rows = await read_rows(blobs, content, shard)
    scores = {s.key: s for s in await ledger.get_scores(run.run_id, shard.number)}
    return [
        table_row(content, metrics, Case(rows[c.case - shard.first], c, scores.get(c.key)))
        for c in completions
    ]


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

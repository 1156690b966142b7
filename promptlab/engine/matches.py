"""What searches found, kept for a while: the next page, its histograms and the neighbours of a case need not search again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from itertools import count

from promptlab.engine.duckdb_pool import DuckDBPool
from promptlab.engine.filters import contains

MAX_ROWS = 4_000_000
"""Rows of all kept searches together, of 4 bytes each."""
MAX_SEARCHES = 32


class Matches:
    """Tables of the row numbers that searches found, in the pool's DuckDB."""

    def __init__(self, pool: DuckDBPool) -> None:
        self._pool = pool
        self._found: OrderedDict[tuple[str, str], asyncio.Task[tuple[str, int]]] = OrderedDict()
        self._names = count()

    async def find(self, source: str, text: str) -> str:
        """The table with the numbers `r` of the rows of `source` whose `search` has the text; searched once however many ask.

        Args:
            source: a file of search texts, as SQL; it never changes.
            text: what to look for, whatever its case.
        """
        key = (source, text)
        task = self._found.get(key)
        if task is None:
            task = self._found[key] = asyncio.create_task(self._search(source, text))
        self._found.move_to_end(key)
        try:
            table, _ = await asyncio.shield(task)
        except Exception:
            self._found.pop(key, None)
            raise
        await self._trim(keep=key)
        return table

    async def _search(self, source: str, text: str) -> tuple[str, int]:
        table, (where, values) = f"found{next(self._names)}", contains("search", text)
        ((rows,),) = await self._pool.fetch(f"CREATE TABLE {table} AS SELECT file_row_number::INTEGER AS r FROM {source} WHERE {where}", values)
        return table, rows

    async def _trim(self, keep: tuple[str, str]) -> None:
        """Forget the searches that were used longest ago, while they are too many."""
        while True:
            done = {key: task.result() for key, task in self._found.items() if task.done() and not task.cancelled() and not task.exception()}
            if len(done) <= MAX_SEARCHES and sum(rows for _, rows in done.values()) <= MAX_ROWS:
                return
            oldest = next((key for key in done if key != keep), None)
            if oldest is None:
                return
            del self._found[oldest]
            await self._pool.fetch(f"DROP TABLE {done[oldest][0]}")

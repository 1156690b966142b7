"""Results of searches, kept for a while: the next page, its histograms and the neighbours of a case
need not search again."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from promptlab.queries.filters import contains
from promptlab.queries.pool import DuckDBPool

MAX_ROWS = 4_000_000
"""Rows that all kept searches found together, of 4 bytes each."""
MAX_SEARCHES = 32
_Key = tuple[str, str]


class Matches:
    """Tables of the row numbers that searches found, in the pool's DuckDB."""

    def __init__(self, pool: DuckDBPool) -> None:
        self._pool = pool
        self._found: OrderedDict[_Key, asyncio.Task[tuple[str, int]]] = OrderedDict()
        self._users = Counter[_Key]()
        self._names = count()

    @asynccontextmanager
    async def found(self, source: str, text: str) -> AsyncIterator[str]:
        """A table with the numbers `r` of the rows of `source` whose `search` has the text, there until the
        context ends.

        However many ask, the search is made once.

        Args:
            source: a file of search texts, as SQL; it never changes.
            text: what to look for, whatever its case.
        """
        key = (source, text)
        task = self._found.get(key)
        if task is None:
            task = self._found[key] = asyncio.create_task(self._search(source, text))
        self._found.move_to_end(key)
        self._users[key] += 1
        try:
            try:
                table, _ = await asyncio.shield(task)
            except Exception:
                self._found.pop(key, None)
                raise
            yield table
        finally:
            self._users[key] -= 1
            if not task.done() and not self._users[key]:  # everybody who asked has gone
                self._found.pop(key, None)
                task.cancel()
            await self._trim()

    async def _search(self, source: str, text: str) -> tuple[str, int]:
        table, (where, values) = f"found{next(self._names)}", contains("search", text)
        ((rows,),) = await self._pool.fetch(
            f"CREATE TABLE {table} AS SELECT file_row_number::INTEGER AS r FROM {source} WHERE {where}",
            values,
        )
        return table, rows

    async def _trim(self) -> None:
        """Forget the searches that were used longest ago and that nobody uses, while there are too many."""
        self._users += Counter()  # drops those at zero
        done = {
            key: task.result()
            for key, task in self._found.items()
            if task.done() and not task.cancelled() and not task.exception()
        }
        rows = sum(rows for _, rows in done.values())
        for key, (table, size) in done.items():
            if len(self._found) <= MAX_SEARCHES and rows <= MAX_ROWS:
                return
            if not self._users[key]:
                rows -= size
                del self._found[key]
                await self._pool.fetch(f"DROP TABLE {table}")

"""One DuckDB for a process that answers many: bounded memory, bounded threads, never on the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from promptlab.duck import connect, reading_results

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")
MEMORY = "160MB"
"""The memory that all queries together may hold; a join of two runs of a million cases takes most of it."""
WORKERS = 2
"""Queries at once: more would only share the same cores."""


class DuckDBPool:
    """Runs SQL in threads of its own."""

    def __init__(self, folder: Path) -> None:
        """`folder`: where queries spill to; they reach what is in it, or was linked into it by `duck.given`
        before the first query."""
        self._folder = folder
        self._threads = ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="promptlab-query")
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None

    async def fetch(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query. When the caller is cancelled, the query stops.

        Raises:
            duckdb.Error: the query is wrong or needs too much memory.
        """
        running, unwanted = list[Any](), threading.Event()
        future = asyncio.get_running_loop().run_in_executor(
            self._threads, self._fetch, sql, list(values), running, unwanted
        )
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            unwanted.set()
            if running:
                running[0].interrupt()
            else:
                future.cancel()
            raise

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """The result of a function, in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    def _fetch(
        self, sql: str, values: list[Any], running: list[Any], unwanted: threading.Event
    ) -> list[tuple[Any, ...]]:
        with reading_results(), self._open().cursor() as cursor:
            running.append(cursor)
            return [] if unwanted.is_set() else cursor.execute(sql, values).fetchall()

    def _open(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._connection is None:
                self._connection = connect(self._folder, MEMORY, WORKERS)
                # A file here never changes: a newer one has another name.
                self._connection.execute("SET parquet_metadata_cache = true")
            return self._connection

    async def close(self) -> None:
        """Wait for running queries and let go of everything. Closing twice is fine."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

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
INTERRUPT_S = 0.05
"""Between two interrupts of a query that nobody waits for any more."""
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
        self._stopping: set[asyncio.Task[None]] = set()

    async def fetch(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query. When the caller is cancelled, the query stops.

        Raises:
            duckdb.Error: the query is wrong or needs too much memory.
        """
        query = _Query(sql, list(values))
        job = self._threads.submit(query.run, self._open)
        future = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            query.unwanted.set()
            if not job.cancel():
                stopping = asyncio.create_task(_stop(query, future))
                self._stopping.add(stopping)
                stopping.add_done_callback(self._stopping.discard)
            raise

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """The result of a function, in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    def _open(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._connection is None:
                # A file here never changes: a newer one has another name.
                self._connection = connect(
                    self._folder, MEMORY, WORKERS, settings=("parquet_metadata_cache = true",)
                )
            return self._connection

    async def close(self) -> None:
        """Wait for running queries and let go of everything. Closing twice is fine."""
        try:
            await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        except RuntimeError:  # the interpreter ends, and starts no thread any more
            self._threads.shutdown(cancel_futures=True)
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Query:
    """One query, in its thread."""

    def __init__(self, sql: str, values: list[Any]) -> None:
        self._sql, self._values = sql, values
        self._lock = threading.Lock()
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self.unwanted = threading.Event()

    def run(self, opened: Callable[[], duckdb.DuckDBPyConnection]) -> list[tuple[Any, ...]]:
        """All rows; none if nobody wants them any more."""
        with reading_results(), opened().cursor() as cursor:
            self._cursor = cursor
            try:
                return [] if self.unwanted.is_set() else cursor.execute(self._sql, self._values).fetchall()
            finally:
                with self._lock:
                    self._cursor = None

    def interrupt(self) -> None:
        """Stop what runs now."""
        with self._lock:
            if self._cursor is not None:
                self._cursor.interrupt()


async def _stop(query: _Query, future: asyncio.Future[Any]) -> None:
    """Interrupt a query until it has ended: DuckDB forgets an interrupt that comes just before the query
    begins."""
    while not future.done():
        query.interrupt()
        await asyncio.wait((future,), timeout=INTERRUPT_S)

"""One SQLite file, used at once from several event loops, threads and processes.

Writes of this process go through one thread, which commits everything that is waiting together: a
commit costs as much as ten rows. Reads run in a few threads beside it (WAL lets them).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import weakref
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Concatenate, ParamSpec, TypeVar

from promptlab.adapters.local.sqlite_open import (
    FAULTS,
    Identity,
    explained,
    identity_of,
    open_for_reading,
    open_for_writing,
    schema,
)
from promptlab.errors import PromptLabError

READERS = 4

_files: weakref.WeakSet[SqliteFile] = weakref.WeakSet()
_of_parents: list[object] = []

P = ParamSpec("P")
T = TypeVar("T")


class SqliteFile:
    """Runs functions of a connection against the file; opens it on first use.

    Reading creates no file: until there is one, reads see an empty database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._writer: _Writer | None = None
        self._readers: _Readers | None = None
        _files.add(self)

    def forget(self) -> None:
        """Begin anew, in a forked child: the threads and connections are its parent's.

        The connections are kept, and never closed: SQLite would take the parent's locks away.
        """
        _of_parents.append((self._writer, self._readers))
        self._lock, self._writer, self._readers = threading.Lock(), None, None

    async def read(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The function's result, from a thread."""
        with self._lock:
            readers = self._readers = self._readers or _Readers(self._path)
            answer = asyncio.get_running_loop().run_in_executor(
                readers.pool, lambda: readers.call(lambda c: function(c, *args, **kwargs))
            )
        return await answer

    async def write(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The function's result, once the transaction that it ran in is committed.

        It may run twice, the first time rolled back. What it raises undoes its own changes only.
        """
        loop = asyncio.get_running_loop()
        result: T = await self._written(
            _Job(lambda connection: function(connection, *args, **kwargs), loop.create_future(), loop)
        )
        return result

    async def write_one(self, statement: str, *values: object) -> int:
        """Execute one statement and give the number of rows that it wrote.

        Where nothing else waits to be written, it is a transaction of its own.
        """
        loop = asyncio.get_running_loop()
        rows: int = await self._written(
            _Job(
                lambda connection: connection.execute(statement, values).rowcount,
                loop.create_future(),
                loop,
                alone=True,
            )
        )
        return rows

    async def _written(self, job: _Job) -> Any:
        with self._lock:
            self._writer = self._writer or _Writer(self._path)
            self._writer.jobs.put(job)
        return await job.future

    def close(self) -> None:
        """Commit what is waiting and close every connection. A later read or write opens the file again."""
        with self._lock:
            writer, readers, self._writer, self._readers = self._writer, self._readers, None, None
        if writer:
            writer.stop()
        if readers:
            readers.stop()


@dataclass(slots=True)
class _Job:
    run: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    alone: bool = False
    """It is one statement, which SQLite runs whole or not at all without BEGIN and COMMIT."""
    result: Any = None
    error: BaseException | None = None


class _Writer:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._identity: Identity | None = None
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="promptlab-ledger", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.jobs.put(None)
        # A garbage collection inside the thread may be what brings us here.
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while self._round():
            pass
        if self._connection:
            self._connection.close()

    def _round(self) -> bool:
        """Commit all that is waiting; False at the end."""
        waiting = [self.jobs.get()]
        with contextlib.suppress(Empty):
            while True:
                waiting.append(self.jobs.get_nowait())
        jobs = [job for job in waiting if job]
        if jobs:
            self._commit(jobs)
            _answer(jobs)
        return len(jobs) == len(waiting)

    def _commit(self, jobs: list[_Job]) -> None:
        """Give each job its result or its error."""
        try:
            connection = self._open()
            if len(jobs) == 1 and jobs[0].alone:
                jobs[0].result = jobs[0].run(connection)
                return
            connection.execute("BEGIN IMMEDIATE")
        except (*FAULTS, PromptLabError) as error:
            for job in jobs:
                job.error = explained(error, self._path)
            return
        try:
            for job in jobs:
                job.result = job.run(connection)
            connection.execute("COMMIT")
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it goes to the caller who waits for the write
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            if len(jobs) == 1:
                jobs[0].error = explained(error, self._path)
                return
        # The others must not fail with it.
        for job in jobs:
            self._commit([job])

    def _open(self) -> sqlite3.Connection:
        # Somebody may have deleted the file: what went to the open one would be lost.
        if self._connection and self._identity == identity_of(self._path):
            return self._connection
        if self._connection:
            self._connection.close()
            self._connection = None
        self._connection = open_for_writing(self._path)
        self._identity = identity_of(self._path)
        return self._connection


def _answer(jobs: list[_Job]) -> None:
    """Wake those who wait: one call a loop, since waking a loop costs more than a row."""
    loops: dict[asyncio.AbstractEventLoop, list[_Job]] = defaultdict(list)
    for job in jobs:
        loops[job.loop].append(job)
    for loop, its in loops.items():
        # A loop may have been closed meanwhile. Its write stands; nobody waits for it.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, its)


def _resolve(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)


class _Readers:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.pool = ThreadPoolExecutor(READERS, thread_name_prefix="promptlab-ledger-read")
        self._idle: deque[tuple[Identity, sqlite3.Connection]] = deque()
        self._stopped = False

    def call(self, function: Callable[[sqlite3.Connection], T]) -> T:
        try:
            identity = identity_of(self._path)
            if identity is None:
                with contextlib.closing(sqlite3.connect(":memory:")) as empty:
                    empty.executescript(schema())
                    return function(empty)
            connection = self._take(identity)
            try:
                return function(connection)
            finally:
                self._idle.append((identity, connection))
                if self._stopped:
                    self._drain()
        except FAULTS as error:
            raise explained(error, self._path) from error

    def _take(self, identity: Identity) -> sqlite3.Connection:
        with contextlib.suppress(IndexError):
            while True:
                known, connection = self._idle.pop()
                if known == identity:
                    return connection
                connection.close()
        return open_for_reading(self._path)

    def stop(self) -> None:
        self.pool.shutdown(wait=False)
        self._stopped = True
        self._drain()

    def _drain(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop()[1].close()


def _forget() -> None:
    for file in list(_files):
        file.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

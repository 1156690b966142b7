"""Makes the writes of a SQLite ledger wait, so that a test decides what waits together."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the file's write lock, as another process would: what is written meanwhile waits."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


async def begun(*writes: Awaitable[Any]) -> list[asyncio.Task[Any]]:
    """The writes as tasks, each handed to the writer."""
    tasks = [asyncio.ensure_future(write) for write in writes]
    await asyncio.sleep(0)
    return tasks

"""Work that nobody waits for any more ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from promptlab_studio.abandoned import Abandoned
from starlette.types import Message, Receive, Scope, Send

from promptlab.queries.matches import Matches
from promptlab.queries.pool import DuckDBPool, _Query, _stop


class App:
    """Answers when it is let, and says whether it was cancelled."""

    def __init__(self) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.cancelled = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        await send({"type": "http.response.start", "status": 200, "headers": []})


class Browser:
    """The other end of a connection."""

    def __init__(self, *headers: tuple[bytes, bytes], method: str = "GET") -> None:
        self.scope: Scope = {"type": "http", "method": method, "headers": list(headers)}
        self.sent: list[Message] = []
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})

    def hang_up(self) -> None:
        self._messages.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> Message:
        return await self._messages.get()

    async def send(self, message: Message) -> None:
        self.sent.append(message)


HTMX = (b"hx-request", b"true")


async def test_what_a_browser_gave_up_is_cancelled() -> None:
    """The request ends without an answer and without an error."""
    app, browser = App(), Browser(HTMX)
    asking = asyncio.create_task(Abandoned(app)(browser.scope, browser.receive, browser.send))
    await app.begun.wait()
    browser.hang_up()
    await asking
    assert app.cancelled and browser.sent == []


@pytest.mark.parametrize(
    "browser", [Browser(HTMX, method="POST"), Browser()], ids=["a change", "a whole page"]
)
async def test_what_changes_something_is_finished(browser: Browser) -> None:
    """Only questions for a part of a page are given up."""
    app = App()
    asking = asyncio.create_task(Abandoned(app)(browser.scope, browser.receive, browser.send))
    await app.begun.wait()
    browser.hang_up()
    app.go.set()
    await asking
    assert not app.cancelled and len(browser.sent) == 1


async def test_who_waits_gets_the_answer() -> None:
    """And nothing is left running."""
    app, browser = App(), Browser(HTMX)
    app.go.set()
    before = asyncio.all_tasks()
    await Abandoned(app)(browser.scope, browser.receive, browser.send)
    assert len(browser.sent) == 1
    assert asyncio.all_tasks() == before


async def test_a_query_that_is_given_up_while_it_begins_stops(tmp_path: Path) -> None:
    """DuckDB forgets an interrupt that comes just before: this would hold one of two threads for minutes."""
    pool, begins, given_up = DuckDBPool(tmp_path), threading.Event(), threading.Event()

    class Slow(_Query):
        def run(self, opened: Callable[[], Any]) -> list[tuple[Any, ...]]:
            def cursor_later() -> Any:
                connection = opened()
                begins.set()
                assert given_up.wait(60)
                return connection

            return super().run(cursor_later)

    query = Slow("SELECT sum(hash(i)) FROM range(20_000_000_000) t(i)", [])
    job = asyncio.wrap_future(pool._threads.submit(query.run, pool._open))
    assert await asyncio.to_thread(begins.wait, 60)
    query.interrupt()  # nothing is there yet to be interrupted
    given_up.set()
    await _stop(query, job)
    with pytest.raises(duckdb.InterruptException):
        await job
    await pool.close()


async def test_a_search_that_nobody_waits_for_stops(tmp_path: Path) -> None:
    """Another for the same text is made anew; one that somebody else waits for goes on."""
    pool = DuckDBPool(tmp_path)
    matches = Matches(pool)
    source = (
        "(SELECT i AS file_row_number, repeat(CAST(hash(i) AS VARCHAR), 40) AS search FROM range({}) t(i))"
    )

    async def search(rows: int) -> int:
        async with matches.found(source.format(rows), "7") as table:
            ((found,),) = await pool.fetch(f"SELECT count(*) FROM {table}")
            return int(found)

    try:
        await pool.fetch("SELECT 1")
        alone, together, other = (asyncio.create_task(search(rows)) for rows in (10**9, 1000, 1000))
        await asyncio.sleep(0)
        for task in (alone, together):
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await alone
        assert await other > 0
        assert await search(500) > 0
    finally:
        await pool.close()

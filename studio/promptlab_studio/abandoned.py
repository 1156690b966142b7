"""Ends the work for parts of pages that nobody waits for any more."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Abandoned:
    """Cancels a GET of htmx whose browser has hung up, and with it the query that it waits for.

    Who types into a search field asks with every key or two, and each question replaces the one
    before; without this, all of them would be answered, one after the other, before the last.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or "hx-request" not in Headers(scope=scope):
            await self._app(scope, receive, send)
            return
        gone = asyncio.Event()

        async def listening() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()

        async def nothing_more() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        answering = asyncio.ensure_future(self._app(scope, nothing_more, send))
        listener = asyncio.create_task(listening())
        try:
            await asyncio.wait([answering, listener], return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and gone.is_set():
                answering.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await answering
            else:
                await answering
        finally:
            for task in (answering, listener):
                task.cancel()
            await asyncio.gather(answering, listener, return_exceptions=True)

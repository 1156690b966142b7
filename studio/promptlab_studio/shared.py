"""Gives those who ask the same of a running run at the same time the same answer."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SHARED_S = 0.25
"""Seconds for which an answer is given again. It tells of a run that moves on while the answer is sent;
pages ask once a second."""
MOST_SHARED_S = 2.0
"""The same on a machine so busy that an answer takes longer: it is given again for as long as it took,
so that no question is worked on more than half of the time."""
KEPT = 64
MOST_BYTES = 1 << 20
"""The longest answer that is kept."""
_MOVES = "promptlab_moves"
_Key = tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...]]


def moves(request: Request) -> None:
    """Say that the answer tells of a run that is worked on: it may be given to others who ask now."""
    setattr(request.state, _MOVES, True)


@dataclass(slots=True)
class _Answer:
    """What was sent, whole."""

    start: Message
    body: bytes
    until: float


class Shared:
    """Keeps answers that tell of running runs for a quarter of a second, or as long as they took.

    A run's page takes 7 ms of CPU, its first rows 5 ms: 200 tabs and scripts that ask once a second took most
    of a core from the run. Any request that may change something ends all sharing: who cancels a run
    sees that on the next page. Requests are the same when address and all headers are, cookies with them.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        kept: int = KEPT,
        most_bytes: int = MOST_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._most, self._most_bytes, self._clock = app, kept, most_bytes, clock
        self._answers: OrderedDict[_Key, _Answer] = OrderedDict()
        self._begun: dict[_Key, asyncio.Future[None]] = {}
        self._changes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["method"] != "GET":
            self._forget()
            try:
                await self._app(scope, receive, send)
            finally:
                self._forget()
        else:
            await self._get(scope, receive, send)

    async def _get(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = (scope["path"].encode(), scope["query_string"], tuple(scope["headers"]))
        # Only of what moved a moment ago it is known that it may be shared: all else goes its own way.
        while (answer := self._answers.get(key)) is not None:
            if self._clock() < answer.until:
                await send({**answer.start, "headers": list(answer.start["headers"])})
                await send({"type": "http.response.body", "body": answer.body})
                return
            if (others := self._begun.get(key)) is None:
                break
            await asyncio.wait([others])
        done = self._begun[key] = asyncio.get_running_loop().create_future()
        try:
            await self._kept(key, scope, receive, send)
        finally:
            if self._begun.get(key) is done:
                del self._begun[key]
            done.set_result(None)

    async def _kept(self, key: _Key, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and keep the answer if it tells of what moves."""
        state, changes, sent = scope.setdefault("state", {}), self._changes, list[Message]()
        begun, size = self._clock(), 0

        async def keeping(message: Message) -> None:
            nonlocal size
            size += len(message.get("body", b""))
            if size <= self._most_bytes:
                sent.append({**message, "headers": list(message.get("headers", ()))})
            await send(message)

        await self._app(scope, receive, keeping)
        if (
            not state.get(_MOVES)
            or changes != self._changes
            or size > self._most_bytes
            or not _is_plain(sent)
        ):
            self._answers.pop(key, None)
            return
        now = self._clock()
        until = now + max(SHARED_S, min(now - begun, MOST_SHARED_S))
        self._answers[key] = _Answer(sent[0], b"".join(m.get("body", b"") for m in sent[1:]), until)
        self._answers.move_to_end(key)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)

    def _forget(self) -> None:
        self._changes += 1
        self._answers.clear()


def _is_plain(sent: list[Message]) -> bool:
    """Whether messages are a whole answer that sets no cookie."""
    return (
        len(sent) > 1
        and sent[0].get("status") == 200
        and all(name.lower() != b"set-cookie" for name, _ in sent[0]["headers"])
        and not sent[-1].get("more_body", False)
    )

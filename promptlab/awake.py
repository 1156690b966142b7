"""Timeouts that count only the time in which the process runs.

A laptop that sleeps, and a process that is stopped (Ctrl-Z, SIGSTOP, a debugger), miss every deadline at once;
the answers that came meanwhile wait in the system's buffers, and are paid for.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

TICK_S = 0.1
ASLEEP_S = 0.2
"""An event loop that looks at its clock this much too late did not run in between: it slept, or code of a user held it."""


class _Watch:
    """How long one event loop stood still, while timeouts wait in it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._users = 0
        self._expected = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.asleep_s = 0.0

    def enter(self) -> None:
        self._users += 1
        if self._timer is None:
            self._next()

    def leave(self) -> None:
        self._users -= 1
        if not self._users and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> float:
        """Seconds that the loop has stood still so far, up to this moment."""
        loop = self._loop()
        if loop is not None and (late := loop.time() - self._expected) > ASLEEP_S:
            self.asleep_s += late
            if self._timer is not None:
                self._timer.cancel()
            self._next()
        return self.asleep_s

    def _next(self) -> None:
        if (loop := self._loop()) is not None:
            self._expected = loop.time() + TICK_S
            self._timer = loop.call_at(self._expected, self._tick)

    def _tick(self) -> None:
        before = self._expected
        self.look()
        if self._expected == before:
            self._next()


_watches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = weakref.WeakKeyDictionary()


@asynccontextmanager
async def timeout(seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """Do as `asyncio.timeout`, without counting the time in which the process stood still.

    Raises:
        TimeoutError: the block took longer.
    """
    loop = asyncio.get_running_loop()
    watch = _watches.get(loop) or _watches.setdefault(loop, _Watch(loop))
    watch.enter()
    before, timer = watch.look(), None
    try:
        async with asyncio.timeout(None) as limit:

            def check() -> None:
                nonlocal before, timer
                now = watch.look()
                if now > before:
                    timer = loop.call_later(now - before, check)
                    before = now
                else:
                    limit.reschedule(loop.time())

            timer = loop.call_later(seconds, check)
            try:
                yield limit
            finally:
                timer.cancel()
    finally:
        watch.leave()

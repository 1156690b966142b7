"""Timeouts that count only the time in which the process runs.

A laptop that sleeps, and a process that is stopped (Ctrl-Z, SIGSTOP, a debugger), miss every deadline at
once; the answers that came meanwhile wait in the system's buffers, and are paid for.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

TICK_S = 0.1
ASLEEP_S = 0.2
"""An event loop that looks at its clock this much too late did not run in between: it slept, or code of a
user held it."""


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


def _watch_of(loop: asyncio.AbstractEventLoop) -> _Watch:
    watch = _watches.get(loop)
    if watch is None:
        watch = _watches[loop] = _Watch(loop)
    return watch


@contextmanager
def asleep_s() -> Iterator[Callable[[], float]]:
    """In the block, a function that says how many seconds the loop has stood still so far."""
    watch = _watch_of(asyncio.get_running_loop())
    watch.enter()
    try:
        yield watch.look
    finally:
        watch.leave()


class timeout:
    """Do as `asyncio.timeout`, without counting the time in which the process stood still.

    Each call of a model enters two of these: a class costs half of what a generator
    around `asyncio.timeout` does.

    Raises:
        TimeoutError: the block took longer.
    """

    __slots__ = ("_before", "_cancelling", "_expired", "_loop", "_seconds", "_task", "_timer", "_watch")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._expired = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a timeout is of a task")
        self._loop = loop = asyncio.get_running_loop()
        watch = _watch_of(loop)
        self._task, self._cancelling, self._watch = task, task.cancelling(), watch
        watch.enter()
        self._before = watch.look()
        self._timer = loop.call_later(self._seconds, self._check)
        return self

    def expired(self) -> bool:
        """Whether it was this time limit that ended the block."""
        return self._expired

    def _check(self) -> None:
        now = self._watch.look()
        if now > self._before:
            self._timer = self._loop.call_later(now - self._before, self._check)
            self._before = now
        else:
            self._expired = True
            self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._watch.leave()
        if not self._expired:
            return
        ours = self._task.uncancel() <= self._cancelling
        if ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

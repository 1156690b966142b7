"""Threads for code of users: none keeps the process alive, and one that hangs takes
nothing from the others."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from promptlab.errors import HangingCodeError

MOST_HANGING = 500
"""Calls that were given up and still hang: each keeps a thread (about 100 KB) for as
long as the process lives."""

_pools: weakref.WeakSet[Threads] = weakref.WeakSet()


@dataclass(slots=True, eq=False)
class _Call:
    function: Callable[[], Any]
    context: contextvars.Context
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[tuple[Any, BaseException | None]]


class Threads:
    """Calls functions in daemon threads, as many at once as are asked for: the caller bounds that.

    An executor of `concurrent.futures` has a fixed number of threads: calls behind those that hang would
    wait for ever, and the interpreter would wait for them at its end.
    """

    def __init__(self, name: str, *, most_hanging: int = MOST_HANGING) -> None:
        self.name, self.most_hanging = name, most_hanging
        self._idle: deque[SimpleQueue[_Call | None]] = deque()
        self._lock = threading.Lock()
        self._hanging = 0
        self._closed = False
        _pools.add(self)

    async def call(self, function: Callable[[], Any]) -> Any:
        """The function's result. A cancelled caller gives the call up: it goes on, and nobody waits for it.

        Raises:
            HangingCodeError: most_hanging calls were given up and have not ended.
            Exception: whatever the function raised.
        """
        if self._hanging >= self.most_hanging:
            raise HangingCodeError(self._hanging)
        loop = asyncio.get_running_loop()
        call = _Call(function, contextvars.copy_context(), loop, loop.create_future())
        self._thread().put(call)
        try:
            result, error = await call.future
        except asyncio.CancelledError:
            # Cancelled in the moment in which it ended, nothing hangs.
            if call.future.cancelled():
                self._count(+1)
            raise
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """End the threads that have nothing to do; the others end with their call."""
        self._closed = True
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().put(None)

    def _thread(self) -> SimpleQueue[_Call | None]:
        try:
            return self._idle.pop()
        except IndexError:
            calls: SimpleQueue[_Call | None] = SimpleQueue()
            threading.Thread(target=self._work, args=(calls,), name=self.name, daemon=True).start()
            return calls

    def _work(self, calls: SimpleQueue[_Call | None]) -> None:
        while (call := calls.get()) is not None:
            result, error, pid = None, None, os.getpid()
            try:
                result = call.context.run(call.function)
            except BaseException as raised:  # noqa: BLE001 - whatever code of a user raises is its caller's, and never ends the thread
                error = _raisable(raised)
            end_if_forked(pid, failed=error is not None)
            try:
                call.loop.call_soon_threadsafe(self._ended, calls, call, (result, error))
            except RuntimeError:  # the loop was closed: nobody waits
                return
            del call, result, error  # or they live until the next call

    def _ended(
        self,
        calls: SimpleQueue[_Call | None],
        call: _Call,
        outcome: tuple[Any, BaseException | None],
    ) -> None:
        if call.future.done():
            self._count(-1)
        else:
            call.future.set_result(outcome)
        if self._closed:
            calls.put(None)
        else:
            self._idle.append(calls)

    def _count(self, change: int) -> None:
        with self._lock:
            self._hanging += change

    def forget(self) -> None:
        """Begin anew, in a forked child: the threads are its parent's."""
        self._idle.clear()
        self._lock, self._hanging = threading.Lock(), 0


def _raisable(error: BaseException) -> BaseException:
    """The error, as one that a coroutine may raise: StopIteration would end the coroutine instead."""
    if not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    raisable = RuntimeError(f"{type(error).__name__} was raised")
    raisable.__cause__ = error
    return raisable


def end_if_forked(pid: int, *, failed: bool = False) -> None:
    """End the process, if it is not `pid`: a forked child whose code came back must not go on with its
    parent's work."""
    if os.getpid() != pid:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(int(failed))


def _forget() -> None:
    for pool in list(_pools):
        pool.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

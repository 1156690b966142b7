"""One resource for each event loop: a model may be used from several over its life."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_EXIT_S = 2.0
_all: weakref.WeakSet[PerLoop[object]] | None = None
_closing: set[asyncio.Task[None]] = set()
"""Held here: the loop itself holds its tasks weakly."""
_dropped_in: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
"""Loops in which something is closed that nobody holds any more."""


class PerLoop(Generic[T]):
    """Opens a resource on first use in a loop, and closes it with `aclose`, with the loop, when nobody holds
    this any more, or when Python ends.

    An async generator holds the resource open: whoever ends a loop properly (`asyncio.run`,
    `asyncio.Runner`) closes its generators. A finalizer holds the generators, so that the garbage
    collector never meets an open resource: one in a cycle, as every caught exception makes one of its
    model, would be finalized before it is closed. Neither `open_` nor `close` may hold whoever owns
    this, or be a generator itself.
    """

    def __init__(self, open_: Callable[[], Awaitable[T]], close: Callable[[T], Awaitable[None]]) -> None:
        self._open, self._close = open_, close
        self._kept: dict[asyncio.AbstractEventLoop, _Kept[T]] = {}
        self._opening: dict[asyncio.AbstractEventLoop, asyncio.Task[T]] = {}
        weakref.finalize(self, _close_dropped, self._kept).atexit = False

    async def get(self) -> T:
        """Give the running loop's resource."""
        loop = asyncio.get_running_loop()
        kept = self._kept.get(loop)
        if kept is not None:
            return kept.value
        if loop not in self._opening:
            self._opening[loop] = loop.create_task(self._start(loop))
        # Whoever came first may be cancelled; the others still want it.
        return await asyncio.shield(self._opening[loop])

    async def _start(self, loop: asyncio.AbstractEventLoop) -> T:
        _close_at_exit(self)
        for closed in [other for other in self._kept if other.is_closed()]:
            del self._kept[closed]  # a loop that was ended without its generators: nothing can close it there
        keeper = _keep(self._open, self._close, self._kept, loop)
        try:
            value = await anext(keeper)
        finally:
            del self._opening[loop]
        self._kept[loop] = _Kept(value, keeper)
        return value

    async def aclose(self) -> None:
        """Close the running loop's resource, if it is open."""
        kept = self._kept.get(asyncio.get_running_loop())
        if kept is not None:
            await kept.keeper.aclose()

    def close_elsewhere(self) -> None:
        """Close what is open in loops that other threads run. Call it from no loop."""
        for loop, kept in list(self._kept.items()):
            if loop.is_running():
                with contextlib.suppress(TimeoutError):
                    asyncio.run_coroutine_threadsafe(_aclose(kept.keeper), loop).result(_EXIT_S)


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    value: T
    keeper: AsyncGenerator[T, None]


async def _keep(
    open_: Callable[[], Awaitable[T]],
    close: Callable[[T], Awaitable[None]],
    kept: dict[asyncio.AbstractEventLoop, _Kept[T]],
    loop: asyncio.AbstractEventLoop,
) -> AsyncGenerator[T, None]:
    # It holds no owner: one that is dropped must go at once, and this with it.
    value = await open_()
    try:
        yield value
    finally:
        kept.pop(loop, None)
        await close(value)


def _close_dropped(kept: dict[asyncio.AbstractEventLoop, _Kept[Any]]) -> None:
    """Close what an owner had open that is gone, in whichever thread it went."""
    for loop, one in list(kept.items()):
        with contextlib.suppress(RuntimeError):  # the loop was closed: with its generators, or for good
            _dropped_in.add(loop)
            loop.call_soon_threadsafe(_begin_closing, loop, one.keeper)


def _begin_closing(loop: asyncio.AbstractEventLoop, keeper: AsyncGenerator[object, None]) -> None:
    task = loop.create_task(_aclose(keeper))
    _closing.add(task)
    task.add_done_callback(_closing.discard)


async def _settled() -> None:
    """Wait until what was dropped in the running loop is closed."""
    loop = asyncio.get_running_loop()
    while tasks := [task for task in _closing if task.get_loop() is loop]:
        await asyncio.wait(tasks)


async def _aclose(keeper: AsyncGenerator[object, None]) -> None:
    await keeper.aclose()


def _close_at_exit(pool: PerLoop[T]) -> None:
    """Sync calls run on a loop in a daemon thread, which nobody ends: close what it has open
    before Python is gone."""
    global _all
    if _all is None:
        _all = weakref.WeakSet()
        atexit.register(_close_all)
    _all.add(pool)  # type: ignore[arg-type]


def _close_all() -> None:
    for pool in list(_all or ()):
        pool.close_elsewhere()
    for loop in list(_dropped_in):
        if loop.is_running():
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(_settled(), loop).result(_EXIT_S)

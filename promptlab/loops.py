"""One resource for each event loop: a model may be used from several over its life."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_EXIT_S = 2.0
_all: weakref.WeakSet[PerLoop[object]] | None = None


class PerLoop(Generic[T]):
    """Opens a resource on first use in a loop, and closes it with `aclose`, with the loop, or when Python ends.

    An async generator holds the resource open: whoever ends a loop properly (`asyncio.run`,
    `asyncio.Runner`) closes its generators, and the loop closes one that is garbage collected.
    Neither `open_` nor `close` may hold whoever owns this, or be a generator itself.
    """

    def __init__(self, open_: Callable[[], Awaitable[T]], close: Callable[[T], Awaitable[None]]) -> None:
        self._open, self._close = open_, close
        self._ready: dict[asyncio.AbstractEventLoop, T] = {}
        self._keepers: dict[asyncio.AbstractEventLoop, AsyncGenerator[T, None]] = {}
        self._opening: dict[asyncio.AbstractEventLoop, asyncio.Task[T]] = {}

    async def get(self) -> T:
        """The running loop's resource."""
        loop = asyncio.get_running_loop()
        value = self._ready.get(loop)
        if value is None:
            if loop not in self._opening:
                self._opening[loop] = loop.create_task(self._start(loop))
            # Whoever came first may be cancelled; the others still want it.
            value = await asyncio.shield(self._opening[loop])
        return value

    async def _start(self, loop: asyncio.AbstractEventLoop) -> T:
        _close_at_exit(self)
        keeper = _keep(self._open, self._close, weakref.ref(self), loop)
        try:
            value = await anext(keeper)
        finally:
            del self._opening[loop]
        self._ready[loop], self._keepers[loop] = value, keeper
        return value

    async def aclose(self) -> None:
        """Close the running loop's resource, if it is open."""
        keeper = self._keepers.get(asyncio.get_running_loop())
        if keeper is not None:
            await keeper.aclose()

    def close_elsewhere(self) -> None:
        """Close what is open in loops that other threads run. Call it from no loop."""
        for loop, keeper in list(self._keepers.items()):
            if loop.is_running():
                with contextlib.suppress(TimeoutError):
                    asyncio.run_coroutine_threadsafe(_aclose(keeper), loop).result(_EXIT_S)


async def _keep(
    open_: Callable[[], Awaitable[T]],
    close: Callable[[T], Awaitable[None]],
    owner: weakref.ref[PerLoop[T]],
    loop: asyncio.AbstractEventLoop,
) -> AsyncGenerator[T, None]:
    # A weak reference: an owner that is dropped must go at once, and this with it, and not wait for
    # the garbage collector, which might finalize the open resource before its keeper.
    value = await open_()
    try:
        yield value
    finally:
        await close(value)
        pool = owner()
        if pool is not None:
            pool._ready.pop(loop, None)
            pool._keepers.pop(loop, None)


async def _aclose(keeper: AsyncGenerator[object, None]) -> None:
    await keeper.aclose()


def _close_at_exit(pool: PerLoop[T]) -> None:
    """Sync calls run on a loop in a daemon thread, which nobody ends: close what it has open before Python is gone."""
    global _all
    if _all is None:
        _all = weakref.WeakSet()
        atexit.register(_close_all)
    _all.add(pool)  # type: ignore[arg-type]


def _close_all() -> None:
    for pool in list(_all or ()):
        pool.close_elsewhere()

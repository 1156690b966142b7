"""Runs the async core for sync callers, on one event loop in a thread of its own.

A loop of its own, and not `asyncio.run`, so that a sync call works inside a running loop too (a
notebook), and so that every sync call finds the connections that the last one left open.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def _background_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="promptlab", daemon=True).start()
        return _loop


def _forget() -> None:
    """In a forked child the loop's thread is not there: the first call makes another."""
    global _loop, _lock
    _loop, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result.

    On Ctrl-C the coroutine is cancelled, given the time to clean up, and KeyboardInterrupt goes on.

    Raises:
        RuntimeError: called from inside our own loop, which would wait for itself.
    """
    loop = _background_loop()
    try:
        inside = asyncio.get_running_loop() is loop
    except RuntimeError:
        inside = False
    if inside:
        coroutine.close()
        raise RuntimeError(
            "a sync PromptLab call was made from async code that PromptLab runs: use the async call there (ainvoke, run_async, …)"
        )
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result()
    except KeyboardInterrupt:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        future.cancel()
        # concurrent futures turn "cancelled" before the task has cleaned up: wait for the task itself.
        asyncio.run_coroutine_threadsafe(_settle(loop), loop).result()
        raise


async def _settle(loop: asyncio.AbstractEventLoop) -> None:
    """Wait until every other task of the loop that is being cancelled has ended."""
    me = asyncio.current_task()
    while tasks := [t for t in asyncio.all_tasks(loop) if t is not me and t.cancelling()]:
        await asyncio.wait(tasks)


def run_here(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, on a loop in this thread; in a thread of its own where a loop is running here (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    return run_sync(coroutine)

"""Runs the async core for sync callers, on one event loop in a thread of its own.

A loop of its own, and not `asyncio.run`, so that a sync call works inside a running loop too (a
notebook), and so that every sync call finds the connections that the last one left open.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def _background_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_run_on, args=(_loop,), name="promptlab", daemon=True).start()
        return _loop


def _run_on(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop for as long as it is open, also when a task of a user's code raises SystemExit or KeyboardInterrupt.

    asyncio lets these two out of a task and of the loop: whoever waits for anything there would wait for ever.
    """
    pid = os.getpid()
    while not loop.is_closed() and os.getpid() == pid:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            logger.warning("a task of your code raised %s; it ends that task only", type(error).__name__)


def _taken() -> set[int]:
    """The signals that an event loop takes.

    asyncio writes each of them into a pipe that a forked child shares with its parent: a child that is
    terminated (each worker of a `multiprocessing.Pool` is) would stop the parent's run, and not end itself.
    """
    return {
        number
        for number in signal.valid_signals()
        if getattr(signal.getsignal(number), "__module__", "") == "asyncio.unix_events"
    }


def _before_fork() -> None:
    # A child may be ended before its first line has run.
    _before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _taken())


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _before.mask)


def _forget() -> None:
    """Begin anew, in a forked child: the loop's thread is not there, and signals have their usual meaning."""
    global _loop, _lock
    _loop, _lock = None, threading.Lock()
    if taken := _taken():
        signal.set_wakeup_fd(-1)
    for number in taken:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _after_fork()


_before = threading.local()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_forget)


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine to its end, and give its result.

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
    """Run the coroutine on a loop in this thread; in a thread of its own if a loop is running here (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run_in_this_thread(coroutine)
    return run_sync(coroutine)


def _run_in_this_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, also when a task of a user's code raises SystemExit: it ends that task only."""
    with asyncio.Runner() as runner:
        task = runner.get_loop().create_task(coroutine)
        while True:
            try:
                return runner.run(_joined(task))
            except SystemExit:
                if task.done():
                    raise
                logger.warning("a task of your code raised SystemExit; it ends that task only")


async def _joined(task: asyncio.Task[T]) -> T:
    return await task

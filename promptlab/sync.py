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
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_ours: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
"""Loops that run nothing but PromptLab."""
_of_users: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
_closing: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Callable[[], None]] = (
    weakref.WeakKeyDictionary()
)


def _background_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            _ours.add(_loop)
            threading.Thread(target=_run_on, args=(_loop,), name="promptlab", daemon=True).start()
        return _loop


def is_ours(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether nobody but PromptLab has anything to do in a loop."""
    return loop in _ours


def runs_user_code(loop: asyncio.AbstractEventLoop) -> None:
    """Note a loop that PromptLab runs for coroutines of users."""
    _of_users.add(loop)


def at_end(loop: asyncio.AbstractEventLoop, close: Callable[[], None]) -> None:
    """Have `close` called when the loop's last coroutine has ended, where it has a last one."""
    _closing[loop] = close


def _run_on(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop for as long as it is open, also when a task of a user's code raises
    SystemExit or KeyboardInterrupt.

    asyncio lets these two out of a task and of the loop: whoever waits for anything
    there would wait for ever.
    """
    pid = os.getpid()
    while not loop.is_closed() and os.getpid() == pid:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            logger.warning("a task of your code raised %s; it ends that task only", type(error).__name__)


def _taken() -> set[int]:
    """Find the signals that an event loop takes, or a sync call of ours.

    asyncio writes each of them into a pipe that a forked child shares with its parent: a child that is
    terminated (each worker of a `multiprocessing.Pool` is) would stop the parent's run, and not end itself.
    An exception that a handler raises may be lost in the child, and its parent would wait for it for ever.
    """
    return {
        number
        for number in signal.valid_signals()
        if getattr(signal.getsignal(number), "__module__", "") in ("asyncio.unix_events", __name__)
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

    On Ctrl-C the coroutine is cancelled, given the time to clean up, and KeyboardInterrupt goes on. So it is
    on SIGTERM and SIGHUP, which then end the process as usual, unless the program handles them itself.

    Raises:
        RuntimeError: called from async code that PromptLab runs, whose loop would stand still.
    """
    loop = _background_loop()
    try:
        inside = (running := asyncio.get_running_loop()) is loop or running in _of_users
    except RuntimeError:
        inside = False
    if inside:
        coroutine.close()
        raise RuntimeError(
            "a sync PromptLab call was made from async code that PromptLab runs: use the async call "
            "there (ainvoke, run_async, …)"
        )
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        with _ending_as_interruption():
            return future.result()
    except (KeyboardInterrupt, _SignalledError) as stop:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        future.cancel()
        # concurrent futures turn "cancelled" before the task has cleaned up: wait for the task itself.
        asyncio.run_coroutine_threadsafe(_settle(loop), loop).result()
        if isinstance(stop, _SignalledError):
            # As whoever sent it expects: the process ends by this very signal.
            os.kill(os.getpid(), stop.number)
        raise


class _SignalledError(BaseException):
    """A signal that would have ended the process at once."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


@contextmanager
def _ending_as_interruption() -> Iterator[None]:
    """In the block, SIGTERM and SIGHUP are raised, as Ctrl-C is, if nobody else handles them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        raise _SignalledError(number)

    ending = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in ending:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ending:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def ending_as_cancellation() -> Iterator[None]:
    """In the block, SIGTERM and SIGHUP cancel the running task, if it runs in the main thread and nobody else
    handles them; once it has cleaned up, the process ends by the signal, as whoever sent it expects."""
    ending = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread() or not ending:
        yield
        return
    loop, task, came = asyncio.get_running_loop(), asyncio.current_task(), list[int]()

    def stop(number: int) -> None:
        came.append(number)
        if task is not None:
            task.cancel()

    for number in ending:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number in ending:
            loop.remove_signal_handler(number)
        if came:
            os.kill(os.getpid(), came[0])


async def _settle(loop: asyncio.AbstractEventLoop) -> None:
    """Wait until every other task of the loop that is being cancelled has ended."""
    me = asyncio.current_task()
    while tasks := [t for t in asyncio.all_tasks(loop) if t is not me and t.cancelling()]:
        await asyncio.wait(tasks)


def run_here(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine on a loop in this thread; in a thread of its own if a loop is
    running here (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run_in_this_thread(coroutine)
    return run_sync(coroutine)


def run_in_this_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, also when a task of a user's code raises SystemExit: it ends that task only."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        _ours.add(loop)
        task = loop.create_task(coroutine)
        try:
            while True:
                try:
                    return runner.run(_joined(task))
                except SystemExit:
                    if task.done():
                        raise
                    logger.warning("a task of your code raised SystemExit; it ends that task only")
        finally:
            if close := _closing.pop(loop, None):
                close()


async def _joined(task: asyncio.Task[T]) -> T:
    return await task

"""Awaits code of users, which may do anything, so that it costs its own case only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from promptlab import awake, sync
from promptlab.domain.results import described
from promptlab.engine.side_loop import STOP_S, Outcome, OverdueError, aside, outcome_of
from promptlab.threads import Threads

T = TypeVar("T")

SAY_S = 5.0
"""How long an error of a user's own class may take to say its message."""

__all__ = ["OverdueError", "apart", "beside", "in_time", "said"]

logger = logging.getLogger(__name__)

_left: set[asyncio.Task[Any]] = set()
"""Tasks that ignore their cancellation: held here, for a task that nobody holds is
collected in the middle."""
_SAYING = Threads("promptlab-error")


async def in_time(call: Callable[[], Awaitable[T]], timeout_s: float) -> T:
    """Await a call of our own code for `timeout_s` seconds at most.

    Raises:
        OverdueError: it took longer.
        Exception: whatever it raised.
    """
    try:
        async with awake.timeout(timeout_s) as limit:
            return await call()
    except TimeoutError as error:
        if limit.expired():
            raise OverdueError from error
        raise


async def apart(call: Callable[[], Awaitable[T]], timeout_s: float) -> T:
    """Await a call of a user's code for `timeout_s` seconds at most, also one that ignores its cancellation.

    It runs in a loop of its own, unless this one is the user's, and in a task of its own, which can be left
    behind; what it raises never reaches the event loop, which SystemExit and KeyboardInterrupt would end.

    Raises:
        OverdueError: it took longer.
        BaseException: whatever it raised.
    """
    if sync.is_ours(asyncio.get_running_loop()):
        return cast("T", _of(await aside(call, timeout_s)))
    return await beside(call, timeout_s)


async def beside(call: Callable[[], Awaitable[T]], timeout_s: float) -> T:
    """Do as `apart`, in this loop: a user's, where what the call shares with the rest of the program
    works; or ours, for a call that does not run in it but in a thread."""
    task = asyncio.ensure_future(outcome_of(call))
    try:
        await in_time(lambda: asyncio.wait((task,)), timeout_s)
    except (OverdueError, asyncio.CancelledError):
        await _stop(task)
        raise
    return cast("T", _of(task.result()))


def _of(outcome: Outcome) -> Any:
    answer, error = outcome
    if error is not None:
        raise error
    return answer


async def _stop(task: asyncio.Task[Any]) -> None:
    """Cancel a task, and leave it where it is if that does not end it."""
    task.cancel()
    with contextlib.suppress(OverdueError):
        await in_time(lambda: asyncio.wait((task,)), STOP_S)
    if not task.done():
        logger.warning("code of yours ignores that it was cancelled: it is left behind")
        _left.add(task)
        task.add_done_callback(_left.discard)
    elif not task.cancelled():
        task.exception()  # seen: else asyncio complains that nobody looked


async def said(error: BaseException) -> str:
    """An error's class and message, where its own class may say them in its own way,
    or never come to an end."""
    if type(error).__str__ in (Exception.__str__, BaseException.__str__, KeyError.__str__, OSError.__str__):
        return described(error)
    try:
        words: str = await in_time(lambda: _SAYING.call(lambda: described(error)), SAY_S)
    except OverdueError:
        return f"{type(error).__name__}: (its message takes longer than {SAY_S:g} s)"
    return words

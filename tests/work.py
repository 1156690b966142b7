"""Measures work in a way that does not depend on how busy the machine is: processor time of this process."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

MOST_STALL_S = 1.0
"""Seconds of processor time that nothing else may get between two turns of the event loop."""
FREE_S = 0.5
"""Work below it is not held to its growth: it is mostly what every call takes."""
MOST_GROWTH = 3.0
"""Twice the input is at most so many times the work; what is quadratic is four times."""
_LOOK_S = 0.002


@dataclass(frozen=True, slots=True)
class Work:
    """What a call took, in seconds of this process's processor time."""

    total_s: float
    stall_s: float
    """The most between two turns of the event loop: the loop was busy, or a thread held the interpreter."""


async def work_of(call: Callable[[], Awaitable[object]]) -> Work:
    """Await a call and measure it, beside something else that the loop has to do."""
    stall = 0.0

    async def turn() -> None:
        nonlocal stall
        while True:
            before = time.process_time()
            await asyncio.sleep(_LOOK_S)
            stall = max(stall, time.process_time() - before)

    # Whatever other tests left in memory is not this call's work: many new objects make Python look
    # through all that it holds, 1.2 s at the end of the suite for what takes 0.2 s alone.
    gc.freeze()
    turning = asyncio.create_task(turn())
    await asyncio.sleep(_LOOK_S)
    before = time.process_time()
    try:
        await call()
    finally:
        total = time.process_time() - before
        await asyncio.sleep(2 * _LOOK_S)  # one look more: a call that never let go ended just now
        turning.cancel()
        gc.unfreeze()
    return Work(total, stall)


async def held_to_its_bound(call: Callable[[], Awaitable[object]]) -> None:
    """Fail when a call holds the event loop too long, each of three times.

    What a call takes, it takes each time; once in 600 something else of the process falls into a measurement.
    """
    works = [await work_of(call)]
    while works[-1].stall_s >= MOST_STALL_S and len(works) < 3:
        works.append(await work_of(call))
    assert works[-1].stall_s < MOST_STALL_S, works


async def held_to_its_growth(
    small: Callable[[], Awaitable[object]], large: Callable[[], Awaitable[object]]
) -> None:
    """Fail when twice an input is too much work against the input, each of three times."""
    for last in (False, False, True):
        works = await work_of(small), await work_of(large)
        if works[1].stall_s < MOST_STALL_S and works[1].total_s < MOST_GROWTH * max(works[0].total_s, FREE_S):
            return
        assert not last, works

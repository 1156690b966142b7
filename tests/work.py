"""Measures work in a way that does not depend on how busy the machine is: processor time of this process."""

from __future__ import annotations

import asyncio
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

    turning = asyncio.create_task(turn())
    await asyncio.sleep(_LOOK_S)
    before = time.process_time()
    try:
        await call()
    finally:
        total = time.process_time() - before
        await asyncio.sleep(2 * _LOOK_S)  # one look more: a call that never let go ended just now
        turning.cancel()
    return Work(total, stall)


def check_growth(small: Work, large: Work) -> None:
    """Hold the work for twice an input against that for the input."""
    assert large.stall_s < MOST_STALL_S, (small, large)
    assert large.total_s < MOST_GROWTH * max(small.total_s, FREE_S), (small, large)

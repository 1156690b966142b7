"""An event loop whose time is virtual: a sleep ends at once, and the clock jumps. A run of a minute takes the
time of its callbacks, and takes the same course every time."""

from __future__ import annotations

import asyncio
import math
import random
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

ROUND_S = 0.0001
"""Seconds that a round of a late loop takes that waits for nothing."""
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class _Jump(selectors.SelectSelector):
    """Waits for nothing: it moves the loop's time instead."""

    at = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("all tasks wait, and none for the clock")
        self.at += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._jump.at


class _LateJump(_Jump):
    """Rounds waits up to milliseconds, as epoll does, and comes back late, as on a busy machine."""

    def __init__(self, late_s: float, seed: int) -> None:
        super().__init__()
        self._late_s, self._draw = late_s, random.Random(seed)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            late_s = self._draw.expovariate(1 / self._late_s) if self._late_s else 0.0
            timeout = math.ceil(timeout * 1000) / 1000 + late_s
        elif timeout is not None:
            timeout = ROUND_S
        return super().select(timeout)


class LateLoop(VirtualLoop):
    """A loop in virtual time whose timers are late by `late_s` seconds on average, and whose rounds take
    time."""

    def __init__(self, late_s: float, seed: int) -> None:
        self._jump = _LateJump(late_s, seed)
        asyncio.SelectorEventLoop.__init__(self, self._jump)


class VirtualClock:
    """The `Clock` port over the running loop's time."""

    def now(self) -> str:
        return (BEGINNING + timedelta(seconds=self.monotonic())).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run_virtual(main: Coroutine[Any, Any, T], *, late_s: float | None = None, seed: int = 7) -> T:
    """Run a coroutine to its end in virtual time; with `late_s` as on a machine that has other things to
    do."""
    loop = VirtualLoop if late_s is None else partial(LateLoop, late_s, seed)
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)

"""How many model calls are in flight, and until when new ones may start."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from promptlab.models.retry import Postponed
from promptlab.ports import Clock

GROWTH = 0.1
"""What a success adds to the limit; a 429 takes 1. The limit settles where one answer in eleven is a 429:
rarer ones do not slow a run, and a provider's real limit is overstepped by no more than that. The textbook's
halving for each loss settles, at 5% random 429s, at 4 calls in flight of 100 (10,000 rows took 547 s)."""
WORST_CUT = 0.5
"""What a burst of 429s leaves of the limit within CUT_WINDOW_S: they are one message, sent many times."""
CUT_WINDOW_S = 1.0
BACKLOG = 50
"""Calls that wait for a slot so that none is ever free for want of work: one shard's."""
PAUSE = 5
"""Successes that do not grow the limit after a server error."""


class AdaptiveLimiter:
    """Bounds the calls in flight of one process by how the provider answers.

    A 429 cuts the limit, a success grows it, a server error only pauses the growth: it says that
    the provider is ill, not that we are too fast.
    """

    def __init__(self, maximum: int, *, clock: Clock) -> None:
        self.maximum = maximum
        self.limit = float(maximum)
        self.in_use = 0
        self._clock = clock
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.stopped = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._hungry = asyncio.Event()
        self._hungry.set()
        self._window_ends = float("-inf")
        self._floor = 1.0
        self._pause = 0

    async def acquire(self) -> None:
        """Wait for a slot, in turn.

        Raises:
            Postponed: no further call may start (see `stop`).
        """
        if self.stopped:
            raise Postponed(0.0)
        if self.in_use >= int(self.limit) or self._waiters:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            if len(self._waiters) >= BACKLOG:
                self._hungry.clear()
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                    self.release()  # the slot came in the same moment
                raise
            return
        self._take()

    def _take(self) -> None:
        self.in_use += 1
        self._idle.clear()

    def release(self) -> None:
        """Give the slot back and wake whoever is next."""
        self.in_use -= 1
        if not self.in_use:
            self._idle.set()
        self._wake()

    def _wake(self) -> None:
        while self._waiters and self.in_use < int(self.limit):
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._take()
                waiter.set_result(None)
        if len(self._waiters) < BACKLOG:
            self._hungry.set()

    def succeeded(self) -> None:
        """Grow, unless a server error said to wait."""
        if self._pause:
            self._pause -= 1
        elif self.limit < self.maximum:
            self.limit = min(self.maximum, self.limit + GROWTH)
            self._wake()

    def throttled(self) -> None:
        """Cut, but by no more than half in CUT_WINDOW_S, and never below one call."""
        now = self._clock.monotonic()
        if now >= self._window_ends:
            self._window_ends, self._floor = now + CUT_WINDOW_S, max(1.0, self.limit * WORST_CUT)
        self.limit = max(self._floor, self.limit - 1)

    def failed(self) -> None:
        """Stop growing for the next PAUSE successes."""
        self._pause = PAUSE

    def stop(self) -> None:
        """Let no further call start; those in flight go on."""
        self.stopped = True
        self._hungry.set()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(Postponed(0.0))

    async def hungry(self) -> None:
        """Wait until fewer than BACKLOG calls wait for a slot: more work can be had."""
        await self._hungry.wait()

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        await self._idle.wait()


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a worker must stop starting calls. Without one it never must."""

    clock: Clock
    at: float | None = None
    """On the clock's monotonic scale, seconds."""

    def left_s(self) -> float | None:
        """Seconds left, or None for no deadline."""
        return None if self.at is None else self.at - self.clock.monotonic()

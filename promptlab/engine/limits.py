"""How many model calls are in flight, and until when new ones may start."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from promptlab.models.retry import Postponed
from promptlab.ports import Clock

CUT = 0.8
"""What a 429 leaves of the limit."""
CUT_EVERY_S = 1.0
"""One cut a second: the 429s of one burst are one message."""
GROWTH = 0.05
"""What a success adds to the limit. With 5% of answers 429 at random this keeps about 90% of 100 in
flight (`make bench`), and after a real limit it finds back from half within seconds."""
PAUSE_S = 2.0
"""How long a server error stops the growth."""


class AdaptiveLimiter:
    """Additive increase, multiplicative decrease over the calls in flight of one process.

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
        self._next_cut = float("-inf")
        self._grow_from = float("-inf")

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

    def succeeded(self) -> None:
        """Grow, unless a server error said to wait."""
        if self.limit < self.maximum and self._clock.monotonic() >= self._grow_from:
            self.limit = min(self.maximum, self.limit + GROWTH)
            self._wake()

    def throttled(self) -> None:
        """Cut, at most once in CUT_EVERY_S, and never below one call."""
        now = self._clock.monotonic()
        if now >= self._next_cut:
            self._next_cut = now + CUT_EVERY_S
            self.limit = max(1.0, self.limit * CUT)

    def failed(self) -> None:
        """Stop growing for PAUSE_S."""
        self._grow_from = self._clock.monotonic() + PAUSE_S

    def stop(self) -> None:
        """Let no further call start; those in flight go on."""
        self.stopped = True
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(Postponed(0.0))

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

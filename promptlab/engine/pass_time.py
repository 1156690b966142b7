"""The time that a pass over a run may take, whichever workers work on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from promptlab.domain.results import RunRecord
from promptlab.engine.halting import Halt
from promptlab.ports import Clock


class PassTime:
    """Halts a run once its newest pass has taken `run_deadline_s`. Each pass has all of it."""

    def __init__(self, run: RunRecord, deadline_s: float | None, halt: Callable[[Halt], None], clock: Clock):
        """Take the time of a pass, which began at the run's `started_at`.

        Args:
            run: the run.
            deadline_s: how long a pass may take, in seconds; None for as long as it does.
            halt: ends the run.
            clock: the time.
        """
        self._deadline_s, self._halt, self._clock = deadline_s, halt, clock
        self._ends: float | None = None
        if deadline_s is not None:
            began, now = (
                datetime.fromisoformat(at) for at in (run.started_at or run.created_at, clock.now())
            )
            self._ends = clock.monotonic() + deadline_s - (now - began).total_seconds()

    def left_s(self) -> float | None:
        """Return the seconds that are left; None for no bound."""
        return None if self._ends is None else self._ends - self._clock.monotonic()

    def shorten(self, wait_s: float) -> float:
        """Return a wait that ends with the time at the latest: then whoever waited finds the run over."""
        left_s = self.left_s()
        return wait_s if left_s is None else min(wait_s, max(0.0, left_s))

    @contextmanager
    def running(self) -> Iterator[None]:
        """In the block, work is done, and the run is halted when its time is over."""
        left_s = self.left_s()
        if left_s is None or self.is_over():
            yield
            return
        watch = asyncio.create_task(self._watch(left_s))
        try:
            yield
        finally:
            watch.cancel()

    def is_over(self) -> bool:
        """Whether the time is over; then the run is halted."""
        left_s = self.left_s()
        if left_s is None or left_s > 0:
            return False
        self._end()
        return True

    async def _watch(self, left_s: float) -> None:
        await self._clock.sleep(left_s)
        self._end()

    def _end(self) -> None:
        self._halt(
            Halt(
                "interrupted",
                f"The run's time is over (run_deadline_s: {self._deadline_s:g} s). What was answered is "
                "kept; resume the run to do the rest: each pass has that time.",
            )
        )

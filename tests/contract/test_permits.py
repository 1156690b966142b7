"""Permits over every ledger: what all who share a limit were given together."""

from __future__ import annotations

import asyncio

from promptlab.clock import SystemClock
from promptlab.engine.permits import Permits
from promptlab.ports import Ledger


async def test_all_that_lease_at_once_get_no_more_than_a_second_has(ledger: Ledger) -> None:
    """Eight ask for all of the same three seconds, whose time stands still; a third of the rest is lost at
    most."""
    at = 1_800_000_000.5
    workers = [
        Permits(ledger, SystemClock(), "model", requests_per_minute=600, wall=lambda: at) for _ in range(8)
    ]

    async def drained(worker: Permits) -> int:
        taken = 0
        for _ in range(4):
            while worker.take(0):
                taken += 1
            worker.lease(20, 0)
            while worker._leasing is not None:
                await asyncio.sleep(0.01)
        while worker.take(0):
            taken += 1
        return taken

    taken = await asyncio.gather(*map(drained, workers))
    # The second's own permits, and those of the next that were leased ahead: ten and ten at most.
    assert 9 <= sum(taken) <= 20
    other = Permits(ledger, SystemClock(), "another", requests_per_minute=600, wall=lambda: at)
    assert await drained(other) >= 9, "another key has a limit of its own"

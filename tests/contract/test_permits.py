"""Permits over every ledger: what all who share a limit were given together."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from promptlab.clock import SystemClock
from promptlab.engine.pacing import Pacer
from promptlab.engine.permits import Permits
from promptlab.engine.shared_rate import SharedRate
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
            while worker._leasing:
                await asyncio.sleep(0.01)
        while worker.take(0):
            taken += 1
        return taken

    taken = await asyncio.gather(*map(drained, workers))
    # The second's own permits, and those of the next that were leased ahead: ten and ten at most.
    assert 9 <= sum(taken) <= 20
    other = Permits(ledger, SystemClock(), "another", requests_per_minute=600, wall=lambda: at)
    assert await drained(other) >= 9, "another key has a limit of its own"


async def test_who_begins_has_a_part_of_the_rate_that_was_learned(ledger: Ledger) -> None:
    """The first leaves what it learned; of three that begin then one after another each has a part of it."""
    clock = SystemClock()

    def process() -> tuple[Pacer, SharedRate]:
        pacer = Pacer(50, now=clock.monotonic())
        return pacer, SharedRate(ledger, clock, "model", pacer, wall=lambda: 1_800_000_000.25)

    pacer, shared = process()
    async with shared.shared():
        assert pacer.rate is None
        pacer.begin_at(30.1, clock.monotonic())
    async with AsyncExitStack() as at_work:
        rates = []
        for _ in range(3):
            pacer, shared = process()
            await at_work.enter_async_context(shared.shared())
            rates.append(pacer.rate)
        assert rates == [pytest.approx(30.1 / n, rel=0.01) for n in (1, 2, 3)]

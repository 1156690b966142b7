"""Answers are written together, as many as have come, and each caller knows when its own is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from promptlab.domain.results import CaseKey, Completion, Failure
from promptlab.engine.job import Recorder, redo
from promptlab.engine.limits import AdaptiveLimiter
from promptlab.models.retry import Postponed
from tests.contract.builders import run
from tests.unit.test_limits import HandClock


@dataclass
class Store:
    """A store that takes what it is given, but for its first refusals."""

    refusals: int = 0
    writes: list[list[CaseKey]] = field(default_factory=list)
    taken: list[Completion] = field(default_factory=list)

    async def write(self, batch: Sequence[Completion]) -> None:
        self.writes.append([done.key for done in batch])
        if self.refusals:
            self.refusals -= 1
            raise OSError("no space left")
        self.taken += batch


def answer(case: int, response: str = "x") -> Completion:
    return Completion(shard=0, case=case, trial=0, response=response)


def recorder(
    store: Store, *, gather_s: float = 0.0
) -> tuple[Recorder[Completion], list[Completion], HandClock]:
    clock, told = HandClock(), list[Completion]()
    limiter = AdaptiveLimiter(100, clock=clock)
    return Recorder(store.write, limiter, clock, told.append, gather_s), told, clock


async def test_what_comes_during_a_write_goes_into_the_next_and_no_more_than_25_into_one() -> None:
    """Each caller is told of its own once it is written, and the run of every one."""
    store = Store()
    record, told, _ = recorder(store)
    await asyncio.gather(*(record.record(answer(case)) for case in range(60)))
    assert [len(batch) for batch in store.writes] == [25, 25, 10]
    assert told == store.taken == [answer(case) for case in range(60)]
    await record.record(answer(60))
    assert store.writes[-1] == [(60, 0)]
    await record.drain()


async def test_of_a_case_that_comes_twice_the_last_is_written() -> None:
    """It has all of its scores; both callers go on."""
    store = Store()
    record, _, _ = recorder(store)
    await asyncio.gather(record.record(answer(1, "first")), record.record(answer(1, "last")))
    assert store.taken == [answer(1, "last")]


async def test_a_cancelled_caller_keeps_nobody_from_its_answer() -> None:
    """Its own is written all the same: it was paid for."""
    store = Store()
    record, told, _ = recorder(store)
    tasks = [asyncio.create_task(record.record(answer(case))) for case in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert await asyncio.gather(*tasks[1:]) == [None, None]
    assert [done.case for done in store.taken] == [done.case for done in told] == [0, 1, 2]


@pytest.mark.parametrize("refusals", [0, 1, 2])
async def test_what_cannot_be_written_is_tried_again(refusals: int) -> None:
    """After half a second, and after two more."""
    store = Store(refusals)
    record, told, clock = recorder(store)
    await record.record(answer(1))
    assert (len(store.writes), len(told), clock.at) == (refusals + 1, 1, (0.0, 0.5, 2.5)[refusals])
    assert not record.limiter.stopped


async def test_after_three_refusals_no_further_call_starts() -> None:
    """The caller has the error; nobody is told that the answer is there."""
    store = Store(3)
    record, told, clock = recorder(store)
    with pytest.raises(OSError, match="no space left"):
        await record.record(answer(1))
    assert (len(store.writes), told, clock.at) == (3, [], 2.5)
    with pytest.raises(Postponed):
        await record.limiter.acquire()
    await record.record(answer(2))  # what is in flight is still tried
    assert told == [answer(2)]


async def test_where_writes_cost_money_a_batch_gathers_until_the_run_is_stopped() -> None:
    """Then nothing waits any more."""
    store = Store()
    record, _, clock = recorder(store, gather_s=3.0)
    await record.record(answer(1))
    assert clock.at == 3.0
    record.limiter.stop()
    await record.record(answer(2))
    assert (clock.at, len(store.writes)) == (3.0, 2)


@pytest.mark.parametrize(
    ("error", "generation", "again"),
    [
        (None, 0, False),
        (Failure("timeout", ""), 0, True),
        (Failure("timeout", ""), 1, True),
        (Failure("timeout", ""), 2, False),
        (Failure("rate_limit", ""), 1, False),
    ],
)
def test_failures_of_earlier_passes_are_made_again(
    error: Failure | None, generation: int, again: bool
) -> None:
    """Those of the types that were asked for, or all; never what this pass has made itself."""
    record = replace(run(), redo_before=2, redo_errors=("timeout",))
    assert redo(error, generation, record) == again
    assert redo(error, generation, replace(record, redo_errors=())) == (error is not None and generation < 2)
    assert not redo(error, generation, replace(record, redo_before=0))

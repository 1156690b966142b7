"""Limits that the user gave, shared by processes over one ledger, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from promptlab.domain.tokens import Needed
from promptlab.engine.limits import AdaptiveLimiter
from promptlab.engine.permits import Permits
from promptlab.models.retry import Postponed, RetryPolicy, Slot, with_retries
from tests.unit.test_pacing import Provider
from tests.virtual import VirtualClock, run_virtual

LIMITS = {"requests_per_minute": 600, "tokens_per_minute": 60_000}


class Counters:
    """A ledger's counters in memory, with the seconds that a write takes, half of them before it counts."""

    def __init__(self, write_s: float = 0.01) -> None:
        self.counts: dict[str, int] = {}
        self.writes: list[float] = []
        self._write_s, self._draw = write_s, random.Random(5)

    async def count_up(self, kind: str, key: str, *, by: int = 1, expires_at: float) -> tuple[int, float]:
        await asyncio.sleep(self._write_s * (0.25 + self._draw.random() / 2))
        self.writes.append(asyncio.get_running_loop().time())
        self.counts[key] = count = self.counts.get(key, 0) + by
        await asyncio.sleep(self._write_s * (0.25 + self._draw.random() / 2))
        return count, expires_at


class Process:
    """What one process does: cases, until it is done or killed."""

    def __init__(
        self,
        ledger: Any,
        provider: Provider,
        *,
        tokens: float = 0.0,
        writes: Callable[[], float] | None = None,
        max_pause_s: float | None = None,
        **limits: int,
    ) -> None:
        self.clock = VirtualClock()
        loop = asyncio.get_running_loop()
        self.limiter = AdaptiveLimiter(50, clock=self.clock, max_pause_s=max_pause_s)
        self.limiter.share(Permits(ledger, self.clock, "a-model", wall=loop.time, **limits))
        self.provider, self.tokens, self.writes = provider, tokens, writes
        self.used: list[tuple[float, float]] = []
        """When calls started, and the tokens that each used."""
        self.task: asyncio.Task[None] | None = None

    async def work(self, cases: int) -> None:
        async def case() -> None:
            async with Slot(self.limiter) as slot:
                slot.needed = Needed(self.tokens, None if self.writes else 0)
                await with_retries(self.provider.call, RetryPolicy(5), clock=self.clock, slot=slot)
                written = self.writes() if self.writes else 0.0
                self.used.append((slot.start.at, self.tokens + written))
                slot.settle(self.tokens + written, written)

        async with asyncio.TaskGroup() as group:
            for _ in range(cases):
                await self.limiter.hungry()
                group.create_task(case())
                await asyncio.sleep(0)


def most_in_a_minute(arrivals: list[float]) -> int:
    """Return the most arrivals in any 60 s."""
    first, most, arrivals = 0, 0, sorted(arrivals)
    for last, at in enumerate(arrivals):
        while arrivals[first] <= at - 60.0:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize(
    "limits", [{"requests_per_minute": 600}, {"tokens_per_minute": 60_000}], ids=["requests", "tokens"]
)
def test_a_function_begins_the_calls_that_the_limit_lets_start_soon(limits: dict[str, int]) -> None:
    """Those of a shard, in five seconds: none is put off because none has started yet."""
    provider = Provider(late_s=0.05)

    async def main() -> None:
        await Process(Counters(), provider, tokens=100.0, max_pause_s=5.0, **limits).work(50)

    run_virtual(main())
    assert len(provider.arrivals) == 50


def test_a_function_puts_off_the_calls_that_wait_for_minutes() -> None:
    """Six a minute: nobody pays a function to wait for fifty."""
    provider = Provider(late_s=0.05)

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as put_off:
            await Process(Counters(), provider, max_pause_s=5.0, requests_per_minute=6).work(50)
        assert put_off.group_contains(Postponed)

    run_virtual(main())
    assert len(provider.arrivals) <= 6


@pytest.mark.parametrize("processes", [1, 4])
def test_requests_a_minute_are_never_more_and_nearly_all_used(processes: int) -> None:
    """600 a minute, over three minutes."""
    provider, ledger = Provider(late_s=0.05), Counters()

    async def main() -> None:
        work = [Process(ledger, provider, requests_per_minute=600) for _ in range(processes)]
        tasks = [asyncio.create_task(one.work(2_000)) for one in work]
        await asyncio.sleep(180)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_virtual(main())
    assert most_in_a_minute(provider.arrivals) <= 600
    assert len(provider.arrivals) >= 0.9 * 1_800
    if processes == 1:
        assert len(ledger.writes) <= 182


def test_of_processes_that_share_none_gets_nothing() -> None:
    """Each of four gets a fair part, also one that begins later."""
    ledger = Counters()

    async def main() -> list[int]:
        providers = [Provider() for _ in range(4)]
        tasks = []
        for provider in providers:
            process = Process(ledger, provider, requests_per_minute=600)
            tasks.append(asyncio.create_task(process.work(2_000)))
            await asyncio.sleep(1.3)
        await asyncio.sleep(60)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [len(provider.arrivals) for provider in providers]

    assert min(run_virtual(main())) >= 60


def test_what_a_killed_process_had_is_the_others_at_once() -> None:
    """Full use within 30 s: it is within two."""
    provider, ledger = Provider(), Counters()

    async def main() -> None:
        one, other = (Process(ledger, provider, requests_per_minute=600) for _ in range(2))
        tasks = [asyncio.create_task(process.work(2_000)) for process in (one, other)]
        await asyncio.sleep(20)
        tasks[0].cancel()
        await asyncio.sleep(60)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_virtual(main())
    assert sum(22 < at <= 32 for at in provider.arrivals) >= 0.9 * 100


@pytest.mark.parametrize("write_s", [0.01, 4.0])
@pytest.mark.parametrize("limit", ["requests_per_minute", "tokens_per_minute"])
def test_of_eight_processes_one_is_killed_and_the_limit_is_used_again(limit: str, write_s: float) -> None:
    """Full use within 30 s, of requests and tokens, however slow the ledger is."""
    provider, ledger = Provider(), Counters(write_s)

    async def main() -> None:
        work = [Process(ledger, provider, tokens=100.0, **{limit: LIMITS[limit]}) for _ in range(8)]
        tasks = [asyncio.create_task(process.work(300)) for process in work]
        await asyncio.sleep(40)
        tasks[0].cancel()
        await asyncio.sleep(60)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_virtual(main())
    assert sum(70 < at <= 100 for at in provider.arrivals) >= 0.9 * 300
    assert most_in_a_minute(provider.arrivals) <= 600


def test_tokens_a_minute_are_shared_too() -> None:
    """60,000 a minute, in calls of 500."""
    provider, ledger = Provider(late_s=0.05), Counters()

    async def main() -> None:
        work = [Process(ledger, provider, tokens=500.0, tokens_per_minute=60_000) for _ in range(4)]
        tasks = [asyncio.create_task(one.work(2_000)) for one in work]
        await asyncio.sleep(180)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_virtual(main())
    assert most_in_a_minute(provider.arrivals) * 500 <= 60_000
    assert len(provider.arrivals) * 500 >= 0.9 * 180_000


@dataclass(frozen=True)
class Shared:
    """What processes did that shared limits for three minutes."""

    calls: int
    """Of the last two minutes."""
    tokens: float
    """Of the last two minutes."""
    most_calls: int
    """In any 60 s."""
    most_tokens: float
    """In any 60 s."""


def shared(
    processes: int, ledger: Counters, *, tokens: float, writes: Callable[[], float], **limits: int
) -> Shared:
    """Let processes work for three minutes, each with calls that wait all the time."""
    provider = Provider(late_s=0.05)

    async def main() -> list[tuple[float, float]]:
        work = [Process(ledger, provider, tokens=tokens, writes=writes, **limits) for _ in range(processes)]
        tasks = [asyncio.create_task(one.work(2_000)) for one in work]
        await asyncio.sleep(180)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return sorted(use for one in work for use in one.used)

    used = run_virtual(main())
    late = [tokens for at, tokens in used if at > 60]
    first, sum_, most = 0, 0.0, 0.0
    for at, some in used:
        sum_ += some
        while used[first][0] <= at - 60:
            sum_ -= used[first][1]
            first += 1
        most = max(most, sum_)
    return Shared(len(late), sum(late), most_in_a_minute([at for at, _ in used]), most)


@pytest.mark.parametrize("write_s", [0.01, 4.0])
@pytest.mark.parametrize(
    ("processes", "limit"), [(1, "tokens_per_minute"), (8, "tokens_per_minute"), (8, "requests_per_minute")]
)
def test_a_limit_is_used_however_long_the_ledger_takes(processes: int, limit: str, write_s: float) -> None:
    """Permits are asked for as much earlier as a write takes: a limited run never starves. Calls are taken to
    write ten times as much as they do until the first answers."""
    draw = random.Random(3)
    found = shared(
        processes,
        Counters(write_s),
        tokens=50.0,
        writes=lambda: draw.expovariate(1 / 50),
        **{limit: LIMITS[limit]},
    )
    used, most = (found.calls, found.most_calls) if "requests" in limit else (found.tokens, found.most_tokens)
    assert 0.9 * 2 * LIMITS[limit] <= used
    assert most <= LIMITS[limit]


@pytest.mark.parametrize("processes", [1, 8])
@pytest.mark.parametrize(("tokens", "binds"), [(100.0, "both"), (20.0, "requests"), (900.0, "tokens")])
def test_two_limits_are_used_together(processes: int, tokens: float, binds: str) -> None:
    """Who may start no call takes no tokens from the others: the limit that binds is used, and neither is
    overstepped."""
    found = shared(processes, Counters(), tokens=tokens, writes=lambda: 0.0, **LIMITS)
    used = {"requests": found.calls / 1_200, "tokens": found.tokens / 120_000}
    assert all(used[limit] >= 0.9 for limit in used if binds in (limit, "both"))
    assert found.most_calls <= 600 and found.most_tokens <= 60_000


def test_a_call_of_more_tokens_than_a_minute_has_is_made() -> None:
    """Refusing it is the provider's to do."""
    provider, ledger = Provider(), Counters()

    async def main() -> None:
        await Process(ledger, provider, tokens=9_000.0, tokens_per_minute=5_000).work(2)

    run_virtual(main())
    assert len(provider.answers) == 2


def test_tokens_that_were_not_used_are_given_back_and_those_beyond_owed() -> None:
    """Settled by what the provider says."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        permits = Permits(Counters(), VirtualClock(), "m", tokens_per_minute=60_000, wall=loop.time)  # type: ignore[arg-type]
        while not permits.take(800):
            await asyncio.sleep(min(0.05, permits.lease(1, 800)))
        permits.settle(800, 100, 50)
        assert permits.take(700)
        permits.settle(700, 5_000, 50)
        assert not permits.take(1)

    run_virtual(main())

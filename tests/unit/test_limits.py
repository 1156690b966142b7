"""How many calls are in flight, by how a provider answers."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import pytest

from promptlab.engine.limits import AdaptiveLimiter
from promptlab.models.retry import Postponed


@dataclass
class HandClock:
    """A clock that a test moves."""

    at: float = 0.0

    def now(self) -> str:
        return f"{self.at}"

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


async def test_no_more_than_the_limit_are_in_flight_and_waiters_come_in_turn(clock: HandClock) -> None:
    """The third waits until one of two is done."""
    limiter = AdaptiveLimiter(2, clock=clock)
    order: list[int] = []

    async def call(number: int) -> None:
        await limiter.acquire()
        order.append(number)

    tasks = [asyncio.create_task(call(n)) for n in range(4)]
    await asyncio.sleep(0)
    assert (order, limiter.in_use) == ([0, 1], 2)
    limiter.release()
    await asyncio.gather(tasks[2])
    limiter.release()
    await asyncio.gather(*tasks)
    assert (order, limiter.in_use) == ([0, 1, 2, 3], 2)


def test_a_429_cuts_a_success_grows_and_a_server_error_pauses(clock: HandClock) -> None:
    """The limit never grows beyond the maximum."""
    limiter = AdaptiveLimiter(100, clock=clock)
    limiter.succeeded()
    assert limiter.limit == 100
    limiter.throttled()
    cut = limiter.limit
    assert cut < 100
    limiter.failed()
    assert limiter.limit == cut
    limiter.succeeded()
    assert limiter.limit == cut, "a server error pauses the growth"
    for _ in range(50):
        limiter.succeeded()
    assert limiter.limit == 100


def test_a_burst_of_429s_halves_the_limit_at_most_and_one_call_always_remains(clock: HandClock) -> None:
    """Second after second it goes down to one, not below."""
    limiter = AdaptiveLimiter(64, clock=clock)
    limits = []
    for _ in range(8):
        for _ in range(64):
            limiter.throttled()
        limits.append(limiter.limit)
        clock.at += 1.0
    assert limits == [32, 16, 8, 4, 2, 1, 1, 1]


@pytest.mark.parametrize(("share_429", "at_least"), [(0.0, 100), (0.02, 99), (0.05, 95)])
def test_rare_random_429s_and_server_errors_do_not_slow_a_run(
    clock: HandClock, share_429: float, at_least: float
) -> None:
    """With 5% of answers 429 and 2% 500 at random, nearly all of the allowed calls stay in flight."""
    limiter, draw, seen = AdaptiveLimiter(100, clock=clock), random.Random(1), []
    for _ in range(20_000):
        clock.at += 0.2 / limiter.limit
        outcome = draw.random()
        (
            limiter.throttled
            if outcome < share_429
            else limiter.failed
            if outcome < share_429 + 0.02
            else limiter.succeeded
        )()
        seen.append(limiter.limit)
    assert sum(seen) / len(seen) >= at_least


def test_a_real_limit_is_found(clock: HandClock) -> None:
    """A provider that answers 429 to everything above 20 calls in flight is asked for little more than 20."""
    limiter, draw, seen = AdaptiveLimiter(100, clock=clock), random.Random(1), []
    for _ in range(20_000):
        clock.at += 0.2 / limiter.limit
        (limiter.throttled if draw.random() < 1 - 20 / max(limiter.limit, 20) else limiter.succeeded)()
        seen.append(limiter.limit)
    steady = seen[5_000:]
    assert 20 <= sum(steady) / len(steady) <= 24


async def test_after_stop_no_call_starts_and_those_in_flight_are_waited_for(clock: HandClock) -> None:
    """Waiters and newcomers are told to ask later."""
    limiter = AdaptiveLimiter(1, clock=clock)
    await limiter.acquire()
    waiter = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    limiter.stop()
    for call in (waiter, limiter.acquire()):
        with pytest.raises(Postponed):
            await call
    idle = asyncio.create_task(limiter.idle())
    await asyncio.sleep(0)
    assert not idle.done()
    limiter.release()
    await idle


async def test_a_cancelled_waiter_leaves_no_slot_behind(clock: HandClock) -> None:
    """Also when the slot came in the same moment."""
    limiter = AdaptiveLimiter(1, clock=clock)
    await limiter.acquire()
    waiter = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    limiter.release()
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert limiter.in_use == 0

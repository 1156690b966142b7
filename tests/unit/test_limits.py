"""How many calls are in flight, by how a provider answers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from promptlab import get_model
from promptlab.engine.limits import AdaptiveLimiter, ScoringLimits, Where, models_of
from promptlab.engine.start import Start
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


def test_a_timeout_takes_one_call_and_ten_answers_give_it_back(clock: HandClock) -> None:
    """A server error takes nothing, and the next five answers give nothing; it never passes the maximum."""
    limiter = AdaptiveLimiter(100, clock=clock)
    start = Start(1, 0.0)
    limiter.succeeded(start)
    assert limiter.limit == 100
    limiter.timed_out(start)
    assert limiter.limit == 99
    for _ in range(9):
        limiter.succeeded(start)
    assert limiter.limit == pytest.approx(99.9)
    limiter.failed()
    for _ in range(5):
        limiter.succeeded(start)
    assert limiter.limit == pytest.approx(99.9)
    for _ in range(50):
        limiter.succeeded(start)
    assert limiter.limit == pytest.approx(100)


def test_a_429_leaves_the_number_in_flight_as_it_is(clock: HandClock) -> None:
    """It is about the rate."""
    limiter = AdaptiveLimiter(100, clock=clock)
    limiter.throttled(Start(1, 0.0))
    assert limiter.limit == 100


async def test_more_work_is_asked_for_while_fewer_than_a_shard_of_calls_waits(clock: HandClock) -> None:
    """Fifty: then no slot is ever free for want of work, and no more of a dataset is read ahead."""
    limiter = AdaptiveLimiter(1, clock=clock)
    await limiter.acquire()
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(49)]
    await asyncio.sleep(0)
    await limiter.hungry()
    waiting.append(asyncio.create_task(limiter.acquire()))
    await asyncio.sleep(0)
    hungry = asyncio.create_task(limiter.hungry())
    await asyncio.sleep(0)
    assert not hungry.done()
    limiter.release()
    await hungry
    limiter.stop()
    await asyncio.gather(*waiting, return_exceptions=True)


def test_timeouts_of_calls_that_began_together_halve_the_limit_at_most_and_one_call_remains(
    clock: HandClock,
) -> None:
    """Those that began before the last cut say the same once more."""
    limiter = AdaptiveLimiter(64, clock=clock)
    limits = []
    for _ in range(8):
        begun = Start(1, clock.at)
        clock.at += 30.0
        for _ in range(64):
            limiter.timed_out(begun)
        limits.append(limiter.limit)
    assert limits == [32, 16, 8, 4, 2, 1, 1, 1]


async def test_after_stop_no_call_starts_and_those_in_flight_are_waited_for(clock: HandClock) -> None:
    """Waiters and newcomers are told to ask later."""
    limiter = AdaptiveLimiter(1, clock=clock)
    await limiter.acquire()
    waiter = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    limiter.stop()
    for call in (waiter, limiter.acquire()):
        with pytest.raises(Postponed) as later:
            await call
        assert later.value.wait_s == 0  # nothing is gained by waiting: the run is over
    idle = asyncio.create_task(limiter.idle())
    await asyncio.sleep(0)
    assert not idle.done()
    limiter.release()
    await idle


class Sleeps:
    """A clock whose sleepers wake when a test moves it."""

    def __init__(self) -> None:
        self.at = 0.0
        self._asleep: list[tuple[float, asyncio.Event]] = []

    def now(self) -> str:
        return f"{self.at}"

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        over = asyncio.Event()
        self._asleep.append((self.at + seconds, over))
        await over.wait()

    async def move(self, to: float) -> None:
        self.at = to
        for _ in range(5):
            for until, over in self._asleep:
                if until <= to:
                    over.set()
            await asyncio.sleep(0)


async def test_a_hold_keeps_every_call_from_starting_and_none_from_ending() -> None:
    """Of two holds the one that ends later counts; then the calls start in turn."""
    clock = Sleeps()
    limiter = AdaptiveLimiter(2, clock=clock)
    await limiter.acquire()
    before = asyncio.create_task(limiter.acquire())
    third = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    assert before.done() and not third.done()
    limiter.hold(5.0)
    limiter.hold(1.0)
    limiter.release()
    fourth = asyncio.create_task(limiter.acquire())
    await clock.move(4.9)
    assert not third.done() and not fourth.done() and limiter.in_use == 1
    await clock.move(5.0)
    assert third.done() and not fourth.done()
    limiter.release()
    await fourth
    limiter.release()
    await asyncio.wait_for(limiter.acquire(), 60)


async def test_who_cannot_wait_for_the_end_of_a_hold_is_postponed() -> None:
    """Those who wait for a slot and those who come; a shorter hold is waited for."""
    clock = Sleeps()
    limiter = AdaptiveLimiter(1, clock=clock, max_pause_s=5.0)
    await limiter.acquire()
    waiting = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    limiter.hold(4.0)
    await asyncio.sleep(0)
    assert not waiting.done()
    limiter.hold(60.0)
    with pytest.raises(Postponed) as later:
        await waiting
    assert later.value.wait_s == 60.0
    await clock.move(20.0)
    with pytest.raises(Postponed) as later:
        await limiter.acquire()
    assert later.value.wait_s == 40.0
    limiter.stop()


async def test_calls_that_wait_are_sent_away_also_after_a_429_that_asks_for_long() -> None:
    """First it is looked whether the provider accepts others meanwhile, and then nobody waits in a function
    that is paid for."""
    clock = Sleeps()
    limiter = AdaptiveLimiter(2, clock=clock, max_pause_s=5.0)
    start = await limiter.acquire()
    await limiter.acquire()
    waiting = asyncio.create_task(limiter.acquire())
    await clock.move(0.1)
    limiter.throttled(start, 299.0)
    limiter.release()
    limiter.release()
    await clock.move(1.0)
    with pytest.raises(Postponed) as later:
        await asyncio.wait_for(waiting, 60)
    assert 290 < later.value.wait_s <= 299.0
    limiter.stop()


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


class Judged:
    """An evaluator with whatever models."""

    def __init__(self, *models: object) -> None:
        self.models = list(models)


async def at_once(limits: ScoringLimits, evaluator: object, where: Where = "loop") -> int:
    """Count how many of 600 evaluations begin while none ends."""
    begun, end = 0, asyncio.Event()

    async def evaluation() -> None:
        nonlocal begun
        async with limits.slots(evaluator, where):
            begun += 1
            await end.wait()

    tasks = [asyncio.create_task(evaluation()) for _ in range(600)]
    for _ in range(5):
        await asyncio.sleep(0)
    found = begun
    end.set()
    await asyncio.gather(*tasks)
    return found


async def test_evaluations_at_once_are_bounded_by_what_they_ask(clock: HandClock) -> None:
    """A judge by its own limit, the model under test with the run's calls, others by what a process bears;
    each of several workers has its share, and one at least."""
    model, judge = get_model("simulated/echo"), get_model("simulated/demo", max_concurrent_tasks=10)
    calls = AdaptiveLimiter(3, clock=clock)
    for workers, of_judge, unknown in ((1, 10, 50), (4, 2, 12), (200, 1, 1)):
        limits = ScoringLimits(model, calls, clock=clock, workers=workers)
        assert await at_once(limits, Judged(judge)) == of_judge
        assert await at_once(limits, Judged(model)) == 3
        assert await at_once(limits, Judged(judge, model)) == min(of_judge, 3)
        assert await at_once(limits, Judged()) == unknown
        assert await at_once(limits, Judged(), "threads") == 8
        assert await at_once(limits, Judged(), "processes") == 512


async def test_the_same_model_elsewhere_has_its_own_limit(clock: HandClock) -> None:
    """A provider counts by model and endpoint; so many of one evaluator's models are looked at, in lists and
    dicts."""
    here, there = (get_model("openai/x", endpoint=f"http://{host}/v1", api_key="k") for host in ("a", "b"))
    limits = ScoringLimits(here, AdaptiveLimiter(3, clock=clock), clock=clock)
    assert await at_once(limits, Judged(there)) == 10
    assert await at_once(limits, Judged(here)) == 3
    assert list(models_of(Judged(here, there, here))) == [here, there]
    assert list(models_of(Judged(*[None] * 99, here, there))) == [here]
    assert list(models_of(Judged({"a": here}))) == []
    one = Judged()
    vars(one)["judges"] = {"a": here, "b": there}
    assert list(models_of(one)) == [here, there]

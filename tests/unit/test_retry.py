"""The one retry loop: what it repeats, how long it waits, and when it holds its slot."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest

from promptlab.domain.tokens import Needed
from promptlab.errors import ModelError
from promptlab.models.provider import Gate
from promptlab.models.retry import Postponed, RetryPolicy, Slot, with_retries


class Limiter:
    """A `RateLimiter` that writes down what it is told."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.in_use = 0

    async def acquire(self, needed: Needed | None = None) -> None:
        await asyncio.sleep(0)
        self.in_use += 1
        self.log.append("acquire")

    def release(self) -> None:
        self.in_use -= 1
        self.log.append("release")

    async def pause(self, seconds: float, clock: Clock) -> None:
        await clock.sleep(seconds)

    def spread_s(self) -> float:
        return math.inf

    def succeeded(self, start: None) -> None:
        self.log.append("succeeded")

    def throttled(self, start: None, wait_s: float | None = None) -> None:
        self.log.append("throttled")

    def settle(self, start: None, used: float, written: float) -> None:
        self.log.append("settled")

    def timed_out(self, start: None) -> None:
        self.log.append("timed out")

    def failed(self) -> None:
        self.log.append("failed")


class Clock:
    """A `Clock` whose waits are over at once; `during` is called in each."""

    def __init__(self, during: Callable[[], object] = lambda: None) -> None:
        self.slept: list[float] = []
        self._during = during

    def now(self) -> str:
        return "2026-01-01T00:00:00.000000Z"

    def monotonic(self) -> float:
        return sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._during()
        await asyncio.sleep(0)


class Calls:
    """A call with scripted outcomes; after them it answers."""

    def __init__(self, *outcomes: BaseException) -> None:
        self.outcomes = list(outcomes)
        self.made = 0

    async def __call__(self) -> str:
        self.made += 1
        await asyncio.sleep(0)
        if self.outcomes:
            raise self.outcomes.pop(0)
        return "answer"


def broken(kind: str = "server_error", *, retryable: bool = True, wait_s: float | None = None) -> ModelError:
    return ModelError(kind, type=kind, retryable=retryable, retry_after_s=wait_s)


def throttled(wait_s: float | None = None) -> ModelError:
    return broken("rate_limit", wait_s=wait_s)


async def test_slot_is_held_until_the_caller_is_done_with_the_answer():
    """After success the slot stays taken, and the end of the block gives it back once."""
    limiter = Limiter()
    async with Slot(limiter) as slot:
        answer, attempts = await with_retries(Calls(), RetryPolicy(0), clock=Clock(), slot=slot)
        assert limiter.in_use == 1
    assert (answer, attempts) == ("answer", 1)
    assert limiter.log == ["acquire", "succeeded", "release"]


async def test_slot_is_free_while_a_retry_waits():
    """Nobody is kept from calling by somebody who waits."""
    limiter = Limiter()
    seen: list[int] = []
    clock = Clock(during=lambda: seen.append(limiter.in_use))
    async with Slot(limiter) as slot:
        assert await with_retries(Calls(broken(), throttled()), RetryPolicy(5), clock=clock, slot=slot) == (
            "answer",
            3,
        )
    assert seen == [0, 0]
    assert limiter.log == [
        "acquire",
        "failed",
        "release",
        "acquire",
        "throttled",
        "release",
        "acquire",
        "succeeded",
        "release",
    ]


async def test_final_error_carries_attempts_and_leaves_the_slot_held():
    """The caller records the failure first, too."""
    limiter = Limiter()
    calls = Calls(*(broken() for _ in range(9)))
    async with Slot(limiter) as slot:
        with pytest.raises(ModelError) as caught:
            await with_retries(calls, RetryPolicy(2), clock=Clock(), slot=slot)
        assert limiter.in_use == 1
    assert (caught.value.attempts, calls.made, limiter.in_use) == (3, 3, 0)


async def test_error_that_would_stay_is_not_retried():
    """A refused request is one call, and counts as an answer for the limiter."""
    limiter, calls = Limiter(), Calls(broken("bad_request", retryable=False))
    async with Slot(limiter) as slot:
        with pytest.raises(ModelError, match="bad_request"):
            await with_retries(calls, RetryPolicy(5), clock=Clock(), slot=slot)
    assert calls.made == 1
    assert limiter.log == ["acquire", "succeeded", "release"]


@pytest.mark.parametrize(("jitter", "expected"), [(1.0, [0.5, 1.0, 2.0, 3.0, 3.0]), (0.0, [0.0] * 5)])
async def test_backoff_doubles_up_to_its_cap_with_full_jitter(jitter: float, expected: list[float]):
    """The longest waits are base · 2^k up to the cap; the shortest are none."""
    clock = Clock()
    await with_retries(
        Calls(*(broken() for _ in range(5))), RetryPolicy(5, cap_s=3.0), clock=clock, jitter=lambda: jitter
    )
    assert clock.slept == expected


async def test_retry_after_is_the_least_wait():
    """The wait is what the provider asks for, and a little more."""
    clock = Clock()
    await with_retries(Calls(throttled(7.0)), RetryPolicy(0), clock=clock, jitter=lambda: 0.5)
    assert clock.slept == [7.25]


async def test_throttles_have_a_count_of_their_own():
    """A 429 uses up no retry, and a retry no 429."""
    calls = Calls(throttled(), broken(), throttled(), throttled(), broken())
    assert await with_retries(calls, RetryPolicy(2, max_throttles=3), clock=Clock()) == ("answer", 6)
    with pytest.raises(ModelError) as caught:
        await with_retries(
            Calls(*(throttled() for _ in range(9))), RetryPolicy(0, max_throttles=3), clock=Clock()
        )
    assert caught.value.attempts == 4


async def test_wait_that_is_too_long_ends_the_case_and_says_so():
    """An hour's Retry-After is a failure with its reason."""
    with pytest.raises(ModelError, match=r"asks to wait 3600 s.*300 s at most") as caught:
        await with_retries(Calls(throttled(3600.0)), RetryPolicy(5), clock=Clock())
    assert (caught.value.type, caught.value.attempts, caught.value.retryable) == ("rate_limit", 1, False)


async def test_waits_of_one_call_have_a_bound_together():
    """A provider that always asks for a little more does not hold a case for hours."""
    clock, calls = Clock(), Calls(*(throttled(250.0) for _ in range(99)))
    with pytest.raises(ModelError, match="1800 s in all") as caught:
        await with_retries(calls, RetryPolicy(5), clock=clock, jitter=lambda: 0.0)
    assert (caught.value.type, calls.made, sum(clock.slept)) == ("rate_limit", 8, 1750.0)


@pytest.mark.parametrize("asked_s", [float("nan"), -1.0, float("-inf")])
async def test_wait_that_is_none_is_not_waited(asked_s: float):
    """A user's own model may say anything."""
    clock = Clock()
    await with_retries(Calls(throttled(asked_s)), RetryPolicy(5), clock=clock, jitter=lambda: 0.5)
    assert clock.slept == [0.25]


async def test_wait_without_end_ends_the_case():
    """An infinite wait is too long, and is said in words."""
    with pytest.raises(ModelError, match="more than a year") as caught:
        await with_retries(Calls(throttled(float("inf"))), RetryPolicy(5), clock=Clock())
    assert (caught.value.type, caught.value.attempts) == ("rate_limit", 1)


async def test_invalid_answer_is_retried_once():
    """A wrong endpoint is not asked six times."""
    calls = Calls(*(broken("invalid_response") for _ in range(9)))
    with pytest.raises(ModelError):
        await with_retries(calls, RetryPolicy(5), clock=Clock())
    assert calls.made == 2


async def test_caller_that_cannot_wait_is_told_how_long_it_would_be():
    """A pause beyond max_pause_s postpones, with the slot given back; a shorter one is waited."""
    limiter, clock = Limiter(), Clock()
    async with Slot(limiter) as slot:
        with pytest.raises(Postponed) as caught:
            await with_retries(
                Calls(throttled(4.0), throttled(60.0)),
                RetryPolicy(5),
                clock=clock,
                slot=slot,
                max_pause_s=5.0,
                jitter=lambda: 0.0,
            )
        assert limiter.in_use == 0
    assert (caught.value.wait_s, clock.slept) == (60.0, [4.0])
    assert limiter.log.count("release") == 2


async def test_no_call_starts_once_the_caller_says_no():
    """may_start is asked before each attempt, with the slot in hand."""
    limiter, calls = Limiter(), Calls(broken())
    answers = iter([True, False])
    async with Slot(limiter) as slot:
        with pytest.raises(Postponed):
            await with_retries(
                calls, RetryPolicy(5), clock=Clock(), slot=slot, may_start=lambda: next(answers)
            )
    assert (calls.made, limiter.in_use, limiter.log.count("release")) == (1, 0, 2)


async def test_other_exceptions_pass_through_unretried():
    """A bug in a user's model is not a model error."""
    limiter, calls = Limiter(), Calls(KeyError("bug"))
    with pytest.raises(KeyError):
        async with Slot(limiter) as slot:
            await with_retries(calls, RetryPolicy(5), clock=Clock(), slot=slot)
    assert calls.made == 1
    assert limiter.log == ["acquire", "failed", "release"]


async def test_cancelled_call_gives_its_slot_back_once():
    """Cancellation during the attempt releases what was acquired."""
    limiter, started = Limiter(), asyncio.Event()

    async def forever() -> None:
        started.set()
        await asyncio.Event().wait()

    async def case() -> None:
        async with Slot(limiter) as slot:
            await with_retries(forever, RetryPolicy(5), clock=Clock(), slot=slot)

    task = asyncio.create_task(case())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert limiter.log == ["acquire", "failed", "release"]


async def test_cancelled_wait_for_a_slot_releases_nothing():
    """A caller that never had a slot gives none back."""
    gate = Gate(1)
    await gate.acquire()

    async def case() -> None:
        async with Slot(gate) as slot:
            await with_retries(Calls(), RetryPolicy(0), clock=Clock(), slot=slot)

    task = asyncio.create_task(case())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.release()
    await gate.acquire()
    waiting = asyncio.create_task(gate.acquire())
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.release()
    await waiting


async def test_cancelled_backoff_holds_no_slot():
    """Cancellation while waiting for the next attempt finds the slot already free."""
    limiter, waiting = Limiter(), asyncio.Event()

    class Stuck(Clock):
        async def sleep(self, seconds: float) -> None:
            waiting.set()
            await asyncio.Event().wait()

    async def case() -> None:
        async with Slot(limiter) as slot:
            await with_retries(Calls(broken()), RetryPolicy(5), clock=Stuck(), slot=slot)

    task = asyncio.create_task(case())
    await waiting.wait()
    assert limiter.in_use == 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert limiter.log == ["acquire", "failed", "release"]

"""The rate of starts, against providers of several kinds, in virtual time."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from promptlab.engine.limits import AdaptiveLimiter
from promptlab.errors import ModelError
from promptlab.models.retry import HEARS, RetryPolicy, Slot, with_retries
from tests.virtual import VirtualClock, run_virtual


@dataclass
class Provider:
    """A provider in virtual time: a bucket of calls, and answers 429 at random."""

    rate: float = float("inf")
    """Calls a second that the bucket is filled with."""
    burst: float = 1.0
    retry_after_s: float | None = None
    by_chance: float = 0.0
    told: bool = False
    """Whether answers tell what is left, as OpenAI's do."""
    others: float = 0.0
    """Calls a second of other processes, which take of the same bucket."""
    answer_s: float = 0.2
    refusal_s: float = 0.01
    late_s: float = 0.0
    """How much later than they are sent calls arrive at most, each by chance."""
    draw: random.Random = field(default_factory=lambda: random.Random(1))
    answers: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    _tokens: float = float("nan")
    _at: float = 0.0

    async def call(self) -> str:
        # A network is late by itself, and not by the loop's timers.
        now = asyncio.get_running_loop().time() + self.draw.random() * self.late_s
        if self._tokens != self._tokens:
            self._tokens, self._at = self.burst, now
        self.arrivals.append(now)
        full = self.rate == float("inf")
        self._tokens = (
            1.0
            if full
            else min(self.burst, self._tokens + max(0.0, now - self._at) * (self.rate - self.others))
        )
        self._at = max(self._at, now)
        if self._tokens < 1 or self.draw.random() < self.by_chance:
            self.refusals.append(now)
            await asyncio.sleep(self.refusal_s)
            raise ModelError(
                "no", type="rate_limit", status=429, retryable=True, retry_after_s=self.retry_after_s
            )
        self._tokens -= 1
        headers = self._headers() if self.told else {}
        await asyncio.sleep(self.answer_s)
        if (hear := HEARS.get()) is not None:
            hear(headers)
        self.answers.append(asyncio.get_running_loop().time())
        return "yes"

    def _headers(self) -> dict[str, str]:
        return {
            "x-ratelimit-limit-requests": f"{self.burst:.0f}",
            "x-ratelimit-remaining-requests": f"{int(self._tokens)}",
            "x-ratelimit-reset-requests": f"{(self.burst - int(self._tokens)) / self.rate:.3f}s",
        }


@dataclass
class Found:
    """How a run went."""

    seconds: float
    share_429: float
    tail_s: float
    """Seconds that the last hundredth of the answers took."""
    failed: int


def work(provider: Provider, rows: int, in_flight: int, seed: int = 7, late_s: float | None = None) -> Found:
    """Ask a provider for so many answers, as a run does."""
    jitter = random.Random(seed).random

    async def main() -> int:
        clock = VirtualClock()
        limiter = AdaptiveLimiter(in_flight, clock=clock)

        async def case() -> None:
            async with Slot(limiter) as slot:
                await with_retries(provider.call, RetryPolicy(5), clock=clock, slot=slot, jitter=jitter)

        tasks = set()
        for _ in range(rows):
            await limiter.hungry()
            tasks.add(asyncio.create_task(case()))
            await asyncio.sleep(0)
        done = await asyncio.gather(*tasks, return_exceptions=True)
        limiter.stop()
        return sum(isinstance(one, BaseException) for one in done)

    failed = run_virtual(main(), late_s=late_s, seed=seed)
    calls = len(provider.answers) + len(provider.refusals)
    ends = sorted(provider.answers)
    return Found(ends[-1], len(provider.refusals) / calls, ends[-1] - ends[-len(ends) // 100], failed)


BUCKETS = [(60.0, 1.0), (60.0, None), (1.0, None)]


@pytest.mark.parametrize("in_flight", [50, 100, 200])
@pytest.mark.parametrize(("burst", "retry_after_s"), BUCKETS)
def test_a_bucket_is_used_to_the_full(in_flight: int, burst: float, retry_after_s: float | None) -> None:
    """2,000 calls at 60 a second: nearly that rate, few answers 429, no tail, nothing lost."""
    found = work(Provider(60.0, burst, retry_after_s), 2_000, in_flight)
    assert 2_000 / 60 / found.seconds >= 0.945
    assert found.share_429 <= (0.05 if retry_after_s else 0.10)
    assert found.tail_s <= 3.0 and found.failed == 0


@pytest.mark.parametrize("answer_s", [0.2, 2.0])
@pytest.mark.parametrize(("rate", "burst"), [(60.0, 300.0), (20.0, 1200.0), (60.0, 3600.0), (5.0, 300.0)])
def test_a_limit_that_is_told_is_kept_without_a_refusal(rate: float, burst: float, answer_s: float) -> None:
    """What the bucket held at first and what came back is used, but for a little; no call meets the limit."""
    rows = int(burst + 40 * rate)
    found = work(Provider(rate, burst, told=True, answer_s=answer_s), rows, 200)
    assert (found.share_429, found.failed) == (0.0, 0)
    assert found.seconds <= max(40.0, rows * answer_s / 200) * 1.1 + 10 + answer_s


@pytest.mark.parametrize("others", [15.0, 45.0])
def test_what_others_use_of_a_limit_that_is_told_is_seen(others: float) -> None:
    """A quarter or three quarters of it: what is left for this run is used, and nearly nothing refused."""
    provider = Provider(60.0, 300.0, told=True, others=others)
    found = work(provider, int(300 + 40 * (60 - others)), 100)
    assert found.share_429 <= 0.01 and found.failed == 0
    assert found.seconds <= 40 * 1.25 + 10


@pytest.mark.parametrize("late_s", [0.0, 0.001, 0.005])
@pytest.mark.parametrize("in_flight", [50, 200])
@pytest.mark.parametrize("retry_after_s", [1.0, None])
def test_a_bucket_is_used_to_the_full_on_a_busy_machine(
    in_flight: int, retry_after_s: float | None, late_s: float
) -> None:
    """Whose event loop is late by milliseconds, and whose calls arrive up to twice as late."""
    for seed in (1, 2, 3):
        provider = Provider(60.0, 60.0, retry_after_s, late_s=2 * late_s, draw=random.Random(seed))
        found = work(provider, 2_000, in_flight, seed, late_s)
        assert 2_000 / 60 / found.seconds >= 0.945
        assert found.share_429 <= 0.10
        assert found.tail_s <= 3.0 and found.failed == 0


@pytest.mark.parametrize(
    ("late_s", "arrives_s", "least"),
    [
        (0.0, 0.0, 0.96),
        (0.0003, 0.0003, 0.95),
        (0.001, 0.0003, 0.94),
        (0.002, 0.0003, 0.92),
        (0.003, 0.0003, 0.89),
        (0.001, 0.002, 0.87),
    ],
)
def test_a_bucket_of_one_call_is_used_by_late_timers_too(
    late_s: float, arrives_s: float, least: float
) -> None:
    """The loop begins to look at the time as much sooner as its timers are late. What calls arrive later than
    each other is lost: a call that comes two milliseconds after its token has lost an eighth of a sixtieth of
    a second, for the bucket holds no second one."""
    for in_flight, seed in ((50, 1), (200, 2)):
        provider = Provider(60.0, 1.0, None, refusal_s=0.002, late_s=arrives_s, draw=random.Random(seed))
        found = work(provider, 2_000, in_flight, seed, late_s)
        assert 2_000 / 60 / found.seconds >= least
        assert found.share_429 <= 0.08
        assert found.tail_s <= 3.0 and found.failed == 0


@pytest.mark.parametrize("in_flight", [50, 200])
def test_a_bucket_of_one_call_that_asks_each_time_for_a_second(in_flight: int) -> None:
    """Each 429 costs all calls a second, until it is known that the provider accepts others meanwhile."""
    found = work(Provider(60.0, 1.0, 1.0), 2_000, in_flight)
    assert 2_000 / 60 / found.seconds >= 0.75
    assert found.share_429 <= 0.10 and found.failed == 0


@pytest.mark.parametrize("in_flight", [10, 100])
@pytest.mark.parametrize(("share", "retry_after_s"), [(0.05, None), (0.3, None), (0.05, 1.0), (0.3, 1.0)])
def test_answers_429_by_chance_collapse_nothing(
    in_flight: int, share: float, retry_after_s: float | None
) -> None:
    """1,000 calls: at most 2.5 times as long as without, and the waits that the provider asked for."""
    provider = Provider(by_chance=share, retry_after_s=retry_after_s)
    found = work(provider, 1_000, in_flight)
    asked_s = 6.0 if retry_after_s else 0.0  # the longest row of 429s of one call, and those of all at first
    assert found.seconds <= 2.5 * 1_000 * 0.2 / in_flight + asked_s
    assert found.failed == 0 and len(provider.answers) == 1_000


def test_a_provider_without_limits_is_asked_as_fast_as_it_answers() -> None:
    """But for the first calls, which are spread over 0.2 s."""
    found = work(Provider(), 2_000, 100)
    assert found.seconds <= 4.0 + 0.2


@dataclass
class OneSlot:
    """A server that works on one call at a time, also for those who have given up."""

    answer_s: float = 0.5
    timeout_s: float = 5.0
    _free_at: float = 0.0

    async def call(self) -> str:
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + self.answer_s
        wait_s = self._free_at - now
        if wait_s > self.timeout_s:
            self._free_at -= self.answer_s  # it saw that the caller went
            await asyncio.sleep(self.timeout_s)
            raise ModelError("late", type="timeout", retryable=True)
        await asyncio.sleep(wait_s)
        return "yes"


def test_timeouts_under_overload_cut_the_calls_in_flight() -> None:
    """50 in flight on a server with one slot: nearly all are answered."""
    server = OneSlot()

    async def main() -> int:
        clock = VirtualClock()
        limiter = AdaptiveLimiter(50, clock=clock)

        async def case() -> str:
            async with Slot(limiter) as slot:
                answer, _ = await with_retries(server.call, RetryPolicy(5), clock=clock, slot=slot)
                return answer

        done = await asyncio.gather(*(case() for _ in range(200)), return_exceptions=True)
        limiter.stop()
        return sum(one == "yes" for one in done)

    assert run_virtual(main()) >= 198


def test_a_429_that_says_when_is_obeyed_by_all_calls() -> None:
    """Of a server that refuses everything for 3 s no call is asked again before."""
    provider = Provider(rate=1e9, burst=1e9, retry_after_s=3.0)
    provider._tokens, provider._at = 40.0, 0.0
    provider.rate = 0.0

    async def main() -> list[float]:
        clock = VirtualClock()
        limiter = AdaptiveLimiter(20, clock=clock)

        async def case() -> None:
            async with Slot(limiter) as slot:
                await with_retries(provider.call, RetryPolicy(5), clock=clock, slot=slot, jitter=lambda: 0.5)

        tasks = [asyncio.create_task(case()) for _ in range(60)]
        while not provider.refusals:
            await asyncio.sleep(0.01)
        first = provider.refusals[0]
        await asyncio.sleep(first + 2.9 - clock.monotonic())
        seen = [at for at in provider.arrivals if at > first + 0.02]
        provider.rate = provider.burst = 1e9
        await asyncio.gather(*tasks)
        limiter.stop()
        return seen

    assert run_virtual(main()) == []

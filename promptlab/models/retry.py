"""When a failed model call is made again, and how long that waits. The only retry loop there is."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self, TypeVar

from promptlab.domain.results import MAX_SAID, Attempt
from promptlab.domain.texts import storable
from promptlab.domain.tokens import Needed
from promptlab.errors import ModelError
from promptlab.models.case_time import DEADLINE, CaseTime
from promptlab.ports import Clock, OutageWatch, RateLimiter

T = TypeVar("T")

HEARS: ContextVar[Callable[[Mapping[str, str]], None] | None] = ContextVar("promptlab_hears", default=None)
"""What is given the headers of the answer to the call that is under way; None: nobody."""

USUAL = 5
"""Further tries where nothing else is said."""
MAX_WAIT_S = 300.0
"""A provider that asks for a longer wait than this ends the case."""
LONGEST_SHOWN_S = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class Tries:
    """How often one call was made without an answer, and how long it waited for that."""

    attempts: int = 0
    throttles: int = 0
    """Answers 429 among them."""
    retries: int = 0
    """Other failures among them."""
    waited_s: float = 0.0
    """Seconds of all waits together."""
    kinds: tuple[tuple[str, int], ...] = ()
    """The failures of types that have a number of retries of their own."""
    began_at: float | None = None
    """When the first attempt began, in seconds since 1970, where the time of a case has a bound."""


class Postponed(Exception):
    """A call was not made, or not made again, because its caller cannot wait: it has
    not failed, ask again later.

    Attributes:
        wait_s: seconds after which it makes sense to ask.
        tries: what was tried, with that wait; `with_retries` goes on from there.
    """

    def __init__(self, wait_s: float, tries: Tries = Tries()) -> None:
        self.wait_s, self.tries = wait_s, tries
        super().__init__(f"postponed for {wait_s:.1f} s")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a call is tried again."""

    max_retries: int
    """Further tries after server errors, timeouts and broken connections."""
    max_throttles: int = 30
    """Further tries after answers 429: these say "later", not "broken", and have a count of their own."""
    base_s: float = 0.5
    """The first wait is up to this long, and each further one up to twice as long …"""
    cap_s: float = 30.0
    """… but no longer than this."""
    max_wait_s: float = MAX_WAIT_S
    """A provider that asks for a longer wait than this ends the case."""
    max_total_wait_s: float = 1800.0
    """All waits of one call together, at most: 30 times 300 s would be two and a half hours."""
    by_kind: Mapping[str, int] = field(default_factory=dict)
    """Further tries after errors of single types, each counted by itself, in place of the other numbers."""

    @classmethod
    def of(cls, max_retries: int | Mapping[Any, int]) -> RetryPolicy:
        """The policy of a model's `max_retries`."""
        if isinstance(max_retries, int):
            return cls(max_retries=max_retries)
        return cls(max_retries=USUAL, by_kind={str(kind): most for kind, most in max_retries.items()})

    def allowed(self, kind: str) -> int:
        """How many further tries there are after errors of a type."""
        if kind in self.by_kind:
            return self.by_kind[kind]
        if kind == "rate_limit":
            return self.max_throttles
        # A proxy's hiccup goes away at once; a wrong endpoint never does.
        return min(self.max_retries, 1) if kind == "invalid_response" else self.max_retries


class Slot:
    """One place in a rate limiter, taken by `with_retries` and given back once, when the `async with` ends.

    It outlives the call on purpose: the caller records the answer first. While a retry waits the
    place is free for others.
    """

    def __init__(self, limiter: RateLimiter | None = None, outage: OutageWatch | None = None) -> None:
        self._limiter, self._outage = limiter, outage
        self._gone, self._outages = 0, 0 if outage is None else outage.count
        self._held = False
        self._start: Any = None
        self.needed: Needed | None = None
        """What is known of a call's tokens, where their limit is known."""

    @property
    def start(self) -> Any:
        """What the limiter says of the call's start, once the place is held."""
        return self._start

    async def acquire(self) -> None:
        """Wait for the place, unless it is held."""
        if self._limiter is not None and not self._held:
            self._start = await self._limiter.acquire(self.needed)
            self._held = True

    def release(self) -> None:
        """Give the place back, if it is held."""
        if self._limiter is not None and self._held:
            self._held = False
            self._limiter.release()

    def taken_back(self) -> int:
        """How many failed attempts turned out to be the beginning of an outage, and are not their case's."""
        if self._outage is None or self._outage.count == self._outages:
            return 0
        self._outages, gone, self._gone = self._outage.count, self._gone, 0
        return gone

    def report(self, error: BaseException | None) -> bool:
        """Tell the limiter how the call went, None for an answer; whether it failed for an outage, which is
        not its case's failure."""
        self._limit(error)
        if self._outage is None:
            return False
        if isinstance(error, ModelError):
            is_outage = self._outage.failed(error)
            self._gone += error.is_gone and not is_outage
            return is_outage
        if self._outage.streak:
            self._outage.over()
        return False

    def _limit(self, error: BaseException | None) -> None:
        if self._limiter is None:
            return
        if isinstance(error, ModelError) and error.type in ("timeout", DEADLINE):
            self._limiter.timed_out(self._start)
        elif error is None or (isinstance(error, ModelError) and not error.retryable):
            self._limiter.succeeded(self._start)  # a refusal that will stay one is an answer too
        elif isinstance(error, ModelError) and error.type == "rate_limit":
            self._limiter.throttled(self._start, _asked_s(error) or None)
        else:
            self._limiter.failed()

    def hear(self, headers: Mapping[str, str]) -> None:
        """Tell the limiter what an answer's headers say of the provider's limits."""
        if self._limiter is not None and self._held:
            self._limiter.hear(self._start, headers)

    def settle(self, used: float, written: float) -> None:
        """Correct the tokens that the call was given by those that it used, some of them written."""
        if self._limiter is not None and self.needed is not None:
            self._limiter.settle(self._start, used, written)

    async def pause(self, seconds: float, clock: Clock) -> None:
        """Wait, but no longer than until no further call may start."""
        await (clock.sleep(seconds) if self._limiter is None else self._limiter.pause(seconds, clock))

    def spread_s(self) -> float:
        """Return the seconds that retries after a 429 should spread over at most."""
        return math.inf if self._limiter is None else self._limiter.spread_s()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()


async def with_retries(
    attempt: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    *,
    clock: Clock,
    slot: Slot | None = None,
    may_start: Callable[[], bool] | None = None,
    max_pause_s: float | None = None,
    before: Tries = Tries(),
    deadline_s: float | None = None,
    jitter: Callable[[], float] = random.random,
    on_attempt: Callable[[Attempt], None] | None = None,
) -> tuple[T, int]:
    """Make a call, again where that may help.

    A wait is what the provider asked for (`Retry-After`) plus full jitter: uniform between 0 and
    min(cap_s, base_s · 2^k) after the k-th failure of its kind, from k = 0 (Brooker, "Exponential
    Backoff And Jitter", AWS Architecture Blog, 2015). After a 429 no longer than the limiter needs to start
    all that wait: towards the end of a run, with few left, that is at once, for the limiter paces them.

    Args:
        attempt: makes the call once. Only a retryable ModelError is tried again;
            anything else passes through.
        slot: held during each attempt and, when this returns or raises a ModelError, still held:
            leave its `async with` once the outcome is recorded.
        may_start: asked before each attempt.
        max_pause_s: the longest wait, in seconds, that the caller can afford.
        before: what was tried before the call was postponed.
        deadline_s: how long it may take from its first attempt on, with all waits; see `CaseTime`.
        jitter: a random number from 0 to 1.
        on_attempt: told of each attempt as it ends; of one that is the first and an answer it is not, for
            that is nearly every call, and nothing is to be told of it.

    Returns:
        The answer, and how many attempts it took, those of `before` included.

    Raises:
        ModelError: it failed for good; `attempts` says after how many tries.
        Postponed: `may_start` or the slot's limiter said no, or a wait is longer than `max_pause_s`.
    """
    slot = slot or Slot()
    call = _Call(policy, CaseTime(deadline_s, clock, before.began_at), before)
    while True:
        await call.begin(slot, may_start)
        hears = HEARS.set(slot.hear)
        started = clock.monotonic()
        try:
            answer = await call.time.within(attempt, call.last)
        except ModelError as error:
            is_outage = slot.report(error)
            error.attempts = call.attempts
            if on_attempt is not None:
                on_attempt(_attempt(call.attempts, started, clock, error))
            if is_outage:  # the limiter holds all calls, and says when the next one asks
                call.time.begin_anew()
                slot.release()
                continue
            wait_s = call.wait_s(error, jitter, slot)
            slot.release()
            if max_pause_s is not None and wait_s > max_pause_s:
                raise Postponed(wait_s, call.tries()) from error
        except BaseException as error:
            slot.report(error)
            raise
        else:
            slot.report(None)
            if call.attempts > 1 and on_attempt is not None:
                on_attempt(_attempt(call.attempts, started, clock))
            return answer, call.attempts
        finally:
            HEARS.reset(hears)
        await slot.pause(wait_s, clock)


class _Call:
    """Counts what was tried for one call."""

    __slots__ = ("_own", "_policy", "_retries", "_throttles", "_waited_s", "attempts", "last", "time")

    def __init__(self, policy: RetryPolicy, time: CaseTime, before: Tries) -> None:
        # Not by astuple, which copies deeply: 15 µs a call.
        self.attempts, self._throttles = before.attempts, before.throttles
        self._retries, self._waited_s = before.retries, before.waited_s
        self._policy, self._own, self.time = policy, _OfKinds(policy, before.kinds), time
        self.last: ModelError | None = None

    def tries(self) -> Tries:
        """Return what was tried, for whoever goes on."""
        return Tries(
            self.attempts,
            self._throttles,
            self._retries,
            self._waited_s,
            self._own.counted(),
            self.time.began_at,
        )

    async def begin(self, slot: Slot, may_start: Callable[[], bool] | None) -> None:
        """Wait for the turn of the next attempt.

        Raises:
            ModelError: its case has no time for that.
            Postponed: it is not to be made here.
        """
        try:
            await self.time.within(slot.acquire, self.last)
        except Postponed as later:
            raise Postponed(later.wait_s, self.tries()) from later
        self._retries -= slot.taken_back()
        if may_start is not None and not may_start():
            raise Postponed(0.0, self.tries())
        self.attempts += 1
        self.time.begin()

    def wait_s(self, error: ModelError, jitter: Callable[[], float], slot: Slot) -> float:
        """Count a failed attempt, and return the seconds until the next.

        Raises:
            ModelError: there is none.
        """
        throttled = error.type == "rate_limit"
        failures = self._own.count(error, self._throttles if throttled else self._retries)
        spread_s = slot.spread_s() if throttled else math.inf
        wait_s = _wait_s(error, self._policy, failures, self._waited_s, jitter, spread_s)
        if wait_s >= self.time.left_s():
            raise self.time.over(error) from error
        self._throttles += throttled
        self._retries += self._own.is_shared(error)
        self._waited_s += wait_s
        self.last = error
        return wait_s


class _OfKinds:
    """Counts the failures of one call that have a number of retries of their own."""

    def __init__(self, policy: RetryPolicy, kinds: Sequence[Sequence[Any]]) -> None:
        self._own = policy.by_kind
        self._counts: dict[str, int] = {str(kind): int(count) for kind, count in kinds}

    def count(self, error: ModelError, others: int) -> int:
        """Count a failure, and say how many of its kind were before it: `others`, unless it has a number of
        its own."""
        if error.type not in self._own:
            return others
        before = self._counts.get(error.type, 0)
        self._counts[error.type] = before + 1
        return before

    def is_shared(self, error: ModelError) -> bool:
        """Whether a failure counts among those of max_retries."""
        return error.type != "rate_limit" and error.type not in self._own

    def counted(self) -> tuple[tuple[str, int], ...]:
        """The counts, for whoever goes on."""
        return tuple(self._counts.items())


def _attempt(number: int, started: float, clock: Clock, error: ModelError | None = None) -> Attempt:
    """Write down an attempt that has just ended."""
    took_s = clock.monotonic() - started
    begun = datetime.fromisoformat(clock.now()) - timedelta(seconds=took_s)
    started_at = f"{begun:%Y-%m-%dT%H:%M:%S.%fZ}"
    if error is None:
        return Attempt(number=number, started_at=started_at, duration_ms=took_s * 1000)
    return Attempt(
        number=number,
        started_at=started_at,
        duration_ms=took_s * 1000,
        status=error.status,
        type=error.type,
        said=storable((error.said or str(error))[:MAX_SAID]),
        request_id=error.request_id,
        prompt_tokens=error.prompt_tokens,
        completion_tokens=error.completion_tokens,
        cost_usd=0.0 if error.cost_usd is None and error.refused else error.cost_usd,
    )


def _wait_s(
    error: ModelError,
    policy: RetryPolicy,
    failures: int,
    waited_s: float,
    jitter: Callable[[], float],
    spread_s: float,
) -> float:
    """Work out the wait after an error, with `failures` of its kind before it and `waited_s` waited so far.

    Raises:
        ModelError: the error, if it is final.
    """
    if not error.retryable or failures >= policy.allowed(error.type):
        raise error
    asked_s = _asked_s(error)
    if asked_s > policy.max_wait_s:
        raise _given_up(
            error,
            f"the provider asks to wait {_shown(asked_s)}; a case waits {policy.max_wait_s:.0f} s at most",
        ) from error
    wait_s = asked_s + jitter() * min(spread_s, policy.cap_s, policy.base_s * 2.0 ** min(failures, 60))
    if waited_s + wait_s > policy.max_total_wait_s:
        raise _given_up(
            error,
            f"a case waits {policy.max_total_wait_s:.0f} s in all at most, and has waited {waited_s:.0f} s",
        ) from error
    return wait_s


def _asked_s(error: ModelError) -> float:
    """The seconds that an error asks to wait; a user's own model may have put anything there."""
    asked_s = error.retry_after_s
    return asked_s if asked_s is not None and asked_s > 0 else 0.0  # NaN is not greater than 0 either


def _shown(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < LONGEST_SHOWN_S else "more than a year"


def _given_up(error: ModelError, why: str) -> ModelError:
    final = ModelError(
        f"{error} ({why}: resume the run later)",
        type=error.type,
        status=error.status,
        retryable=False,
        retry_after_s=error.retry_after_s,
    )
    final.attempts = error.attempts
    final.said, final.request_id = error.said, error.request_id
    final.prompt_tokens, final.completion_tokens = error.prompt_tokens, error.completion_tokens
    final.cost_usd = error.cost_usd
    final.messages, final.trace = error.messages, error.trace
    return final

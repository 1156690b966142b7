"""How many model calls are in flight, and until when new ones may start."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from promptlab import awake
from promptlab.domain.tokens import Needed
from promptlab.engine.pacing import LONGEST_HOLD_S, Pacer
from promptlab.engine.permits import Permits, permits_for
from promptlab.engine.start import Start
from promptlab.engine.told import Holder
from promptlab.models.base import Model
from promptlab.models.provider import TELLS
from promptlab.models.rates import left_in
from promptlab.models.retry import Postponed, Slot
from promptlab.ports import Clock, Records

GROWTH = 0.1
"""The addition to the limit for an answer; a timeout takes 1. The limit settles where one call in eleven
times out: rarer ones do not slow a run."""
WORST_CUT = 0.5
"""The share of the limit that timeouts of calls that started before the last cut leave: they are one message,
sent many times."""
BACKLOG = 50
"""Calls that wait for a slot so that none is ever free for want of work: one shard's."""
MAX_QUEUE_S = 60.0
"""Seconds that a call waits at most behind others where its caller is a function that is paid for."""
PAUSE = 5
"""Successes that do not grow the limit after a server error."""
TIMER_S, MOST_TIMER_S = 0.001, 0.006
"""How late a timer of the event loop is: its system counts in milliseconds, and on a machine with other work
it is later still. So much of a wait, by what was seen of late, is spent in steps of the loop instead: a
bucket of one call a sixtieth of a second loses what its calls are late by."""
MOST_OF_WAIT = 1 / 3
"""The share of a wait that is spent so at most, beyond TIMER_S."""
LATER, SOONER = 0.25, 0.02
"""What is taken of the difference where a timer was later than expected, and where it was sooner: a few that
are late count for more than many that are not."""
EVALUATIONS = 50
"""Async evaluations in flight at most whose model, if they have one, is not known."""
MOST_MODELS = 100
"""Models in one list of an evaluator that are looked at."""
THREADS = 8
"""Sync evaluations at once at most whose model, if they have one, is not known."""
IN_PROCESSES = 512
"""Evaluations at once that are with processes, or wait for one: a message to a process brings several."""
THREADS_GRACE_S = 5.0
"""After Ctrl-C: how long sync evaluations are waited for that have no model: nothing of theirs is known to be
paid for."""
Where = Literal["loop", "threads", "processes"]


class AdaptiveLimiter:
    """Bounds the calls in flight of one process, and paces their starts, by how the provider answers.

    A 429 is about the rate of starts (`Pacer`). A timeout says that too many calls are in flight: it cuts
    their number, and an answer grows it. A server error only pauses the growth: the provider is ill, and we
    are not too fast.
    """

    def __init__(
        self, maximum: int, *, clock: Clock, max_pause_s: float | None = None, fill: bool = True
    ) -> None:
        """Bound the calls to `maximum`; whoever would wait longer than `max_pause_s` seconds for the next
        start is postponed instead. Without `fill` the first calls are not spread: they ask no provider."""
        self.maximum = maximum
        self.limit = float(maximum)
        self.in_use = 0
        self.pacer = Pacer(maximum if fill else 0, now=clock.monotonic())
        self.permits: Permits | None = None
        """What else a start needs, where the user gave limits: see `share`."""
        self._clock = clock
        self._waiters: deque[tuple[asyncio.Future[Start], Needed | None]] = deque()
        self.stopped = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._hungry = asyncio.Event()
        self._hungry.set()
        self._cut_at = float("-inf")
        self._floor = 1.0
        self._pause = 0
        self.throttles = 0
        """Answers 429 so far."""
        self._max_pause_s = max_pause_s
        self._ticking: asyncio.Task[None] | None = None
        self._ticks_at = float("inf")
        self._timer_s = TIMER_S
        """How late timers are of late."""
        self._pausing = set[asyncio.Future[None]]()
        """Waits of calls that are to be made again."""

    def share(self, permits: Permits | None) -> None:
        """Let no call start without a permit, which all that work on the same ledger share."""
        self.permits = permits
        if permits is not None:
            permits.on_lease = self._wake

    async def acquire(self, needed: Needed | None = None) -> Start:
        """Wait for a slot, in turn.

        Args:
            needed: what is known of the call's tokens, where their limit is known.

        Raises:
            Postponed: no further call may start (see `stop`), or none for longer than `max_pause_s` (see
                `hold`), or those that wait already take longer than MAX_QUEUE_S.
        """
        if self.stopped:
            raise Postponed(0.0)
        now = self._clock.monotonic()
        if self._waiters or self.in_use >= int(self.limit) or self._wait_s(now, needed) > 0:
            self._refuse_to_wait_long(now, needed)
            waiter: asyncio.Future[Start] = asyncio.get_running_loop().create_future()
            self._waiters.append((waiter, needed))
            if len(self._waiters) == 1:
                self._wake()
            if len(self._waiters) >= BACKLOG:
                self._hungry.clear()
            try:
                return await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                    self.release()  # the slot came in the same moment
                raise
        return self._take(now, needed)

    def _wait_s(self, now: float, needed: Needed | None) -> float:
        """Return the seconds until a call may start; 0 or less for now: then its permit is taken."""
        wait_s = self.pacer.wait_s(now)
        if wait_s <= 0 and self.permits is not None:
            tokens = self.permits.estimate(needed)
            if not self.permits.take(tokens):
                return self.permits.lease(len(self._waiters) + 1, tokens)
        return wait_s

    def _refuse_to_wait_long(self, now: float, needed: Needed | None) -> None:
        if self._max_pause_s is None:
            return
        wait_s = self.pacer.wait_s(now)
        if self._is_too_long(wait_s):
            raise Postponed(wait_s)
        paces = [] if self.pacer.rate is None else [self.pacer.pace(now)]
        if self.permits is not None:  # what started so far tells nothing: at first that is none
            paces.append(self.permits.pace(self.permits.estimate(needed)))
        if paces:
            queue_s = len(self._waiters) / max(min(paces), 1e-3)
            if queue_s > MAX_QUEUE_S:
                raise Postponed(min(queue_s, LONGEST_HOLD_S))

    def _take(self, now: float, needed: Needed | None) -> Start:
        self.in_use += 1
        self._idle.clear()
        start = self.pacer.start(now)
        if needed is None or self.permits is None:
            return start
        return start._replace(tokens=self.permits.estimate(needed))

    def release(self) -> None:
        """Give the slot back and wake whoever is next."""
        self.in_use -= 1
        if not self.in_use:
            self._idle.set()
        self._wake()

    def _wake(self) -> None:
        while self._waiters and self.in_use < int(self.limit):
            waiter, needed = self._waiters[0]
            if not waiter.done():
                now = self._clock.monotonic()
                if (wait_s := self._wait_s(now, needed)) > 0:
                    if self._is_too_long(wait_s):
                        self._postpone(wait_s)
                    else:
                        self._wake_in(wait_s)
                    break
                waiter.set_result(self._take(now, needed))
            self._waiters.popleft()
        if len(self._waiters) < BACKLOG:
            self._hungry.set()

    def hold(self, seconds: float) -> None:
        """Let no call start for some seconds; those in flight go on. Of two holds the one that ends later
        counts.

        Whoever waits for a slot longer than `max_pause_s` for that is postponed.
        """
        now = self._clock.monotonic()
        self.pacer.held_until = max(self.pacer.held_until, now + seconds)
        self._look(now)

    def _look(self, now: float) -> None:
        """Have those who wait woken when the next call may start, or send them away."""
        wait_s = self.pacer.wait_s(now)
        if self._is_too_long(wait_s):
            self._postpone(wait_s)
        elif self._waiters and wait_s > 0:
            self._wake_in(wait_s)

    def _is_too_long(self, wait_s: float) -> bool:
        return self._max_pause_s is not None and wait_s > self._max_pause_s

    def _wake_in(self, wait_s: float) -> None:
        """Have the waiting calls looked at in some seconds, unless they are sooner."""
        at = self._clock.monotonic() + wait_s
        if self._ticking is None or at < self._ticks_at:
            if self._ticking is not None:
                self._ticking.cancel()
            self._ticks_at = at
            self._ticking = asyncio.create_task(self._tick(at))

    async def _tick(self, at: float) -> None:
        wait_s = at - self._clock.monotonic()
        timer_s = max(TIMER_S, min(self._timer_s, wait_s * MOST_OF_WAIT))
        await self._clock.sleep(max(0.0, wait_s - timer_s))
        if wait_s > timer_s:
            late_s = min(self._clock.monotonic() - (at - timer_s), MOST_TIMER_S) - self._timer_s
            self._timer_s += late_s * (LATER if late_s > 0 else SOONER)
        while (left_s := at - (now := self._clock.monotonic())) > 0:
            await asyncio.sleep(0)
            if self._clock.monotonic() <= now:
                await self._clock.sleep(left_s)
        self._ticking, self._ticks_at = None, float("inf")
        self._wake()

    def narrow(self, calls: int) -> None:
        """Let so few calls be in flight at most, until `widen`."""
        self.limit = float(min(calls, self.maximum))

    def widen(self, calls: float | None = None) -> None:
        """Let so many calls be in flight again; by default as many as there may be."""
        self.limit = float(self.maximum if calls is None else calls)
        self._wake()

    def spread_s(self) -> float:
        """Return the seconds in which all calls that wait or are in flight can start: retries that spread
        over more would only end later. Towards the end of a run it goes to nothing."""
        now = self._clock.monotonic()
        return (self.in_use + len(self._waiters)) / max(self.pacer.pace(now), 1e-3)

    def succeeded(self, start: Start) -> None:
        """Grow, unless a server error said to wait."""
        self.pacer.accepted(start, self._clock.monotonic())
        if self._pause:
            self._pause -= 1
        elif self.limit < self.maximum:
            self.limit = min(self.maximum, self.limit + GROWTH)
            self._wake()

    def throttled(self, start: Start, wait_s: float | None = None) -> None:
        """Pace the starts, and let none begin before the wait that the provider asks for is over."""
        self.throttles += 1
        now = self._clock.monotonic()
        self.pacer.refused(start, now, wait_s)
        self._look(now)

    def hear(self, start: Start, headers: Mapping[str, str]) -> None:
        """Take what an answer's headers say of the provider's limits."""
        now, heard = self._clock.monotonic(), self.pacer.heard
        if now >= heard.next_at:
            heard.tell(left_in(headers), start, self.pacer.starts, now)
            self._look(now)

    def settle(self, start: Start, used: float, written: float) -> None:
        """Correct the tokens that a call was given by those that it used."""
        if self.permits is not None:
            self.permits.settle(start.tokens, used, written)

    def timed_out(self, start: Start) -> None:
        """Cut, but by no more than half for calls that started before the last cut, and never below one
        call."""
        if start.at >= self._cut_at:
            self._cut_at, self._floor = self._clock.monotonic(), max(1.0, self.limit * WORST_CUT)
        self.limit = max(self._floor, self.limit - 1)

    def failed(self) -> None:
        """Stop growing for the next PAUSE successes."""
        self._pause = PAUSE

    def stop(self) -> None:
        """Let no further call start; those in flight go on."""
        self.stopped = True
        self._postpone(0.0)
        for pausing in self._pausing:
            pausing.cancel()
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    def _postpone(self, wait_s: float) -> None:
        """Send all away who wait for a slot."""
        self._hungry.set()
        while self._waiters:
            waiter, _ = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(Postponed(wait_s))

    async def hungry(self) -> None:
        """Wait until fewer than BACKLOG calls wait for a slot: more work can be had."""
        await self._hungry.wait()

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        await self._idle.wait()

    async def pause(self, seconds: float, clock: Clock) -> None:
        """Wait, but no longer than until no further call may start (see `stop`)."""
        if self.stopped:
            return
        pausing = asyncio.ensure_future(clock.sleep(seconds))
        self._pausing.add(pausing)
        try:
            await asyncio.wait((pausing,))
        finally:
            pausing.cancel()
            self._pausing.discard(pausing)


class ScoringLimits:
    """Bounds the evaluations in flight of one process: those of one judge together, whichever metrics and
    shards they are for.

    An evaluator's models are its attributes (`self.judge = get_model(…)`), also in a list or dict. A judge
    that is the model under test shares its slots: `max_concurrent_tasks` is what its provider bears.
    """

    def __init__(
        self,
        model: Model,
        calls: AdaptiveLimiter,
        *,
        clock: Clock,
        workers: int = 1,
        ledger: Records | None = None,
    ) -> None:
        """Bound the evaluations of a run; each of several workers has its share. By the ledger judges share
        their limits with all others that have the same."""
        self._clock, self._workers, self._ledger = clock, workers, ledger
        self._models = {_provider_key(model): calls}
        self._unknown = AdaptiveLimiter(max(1, EVALUATIONS // workers), clock=clock, fill=False)
        self._threads = AdaptiveLimiter(THREADS, clock=clock, fill=False)
        self._processes = AdaptiveLimiter(IN_PROCESSES, clock=clock, fill=False)

    @asynccontextmanager
    async def slots(self, evaluator: object, where: Where) -> AsyncIterator[None]:
        """Hold a slot of each of the evaluator's models; without any, one of the place where it runs.

        Raises:
            Postponed: no further evaluation may start.
        """
        models = sorted((_provider_key(model), model) for model in models_of(evaluator))
        places = {"loop": self._unknown, "threads": self._threads, "processes": self._processes}
        if not models:
            async with Slot(places[where]) as slot:
                await slot.acquire()
                yield
            return
        holder, held = Holder(_provider_key), list[Slot]()
        try:
            for key, model in models:  # all in the same order: two evaluations never wait for each other
                limiter = self._of(key, model)
                held.append(slot := Slot(limiter))
                await slot.acquire()
                holder.add(key, limiter, slot.start)
            token = TELLS.set(holder)
            try:
                yield
            finally:
                TELLS.reset(token)
        finally:
            for slot in held:
                slot.release()

    def limiter_of(self, model: Model) -> AdaptiveLimiter:
        """The limiter of the calls of one model, which all share that call it."""
        return self._of(_provider_key(model), model)

    def _of(self, key: tuple[str, ...], model: Model) -> AdaptiveLimiter:
        if key not in self._models:
            share = max(1, model.max_concurrent_tasks // self._workers)
            self._models[key] = limiter = AdaptiveLimiter(share, clock=self._clock)
            if self._ledger is not None:
                limiter.share(permits_for(model, self._ledger, self._clock))
        return self._models[key]

    def stop(self) -> None:
        """Let no further evaluation start; those in flight go on."""
        for limiter in (*self._models.values(), self._unknown, self._threads, self._processes):
            limiter.stop()

    async def idle(self, grace_s: float) -> None:
        """Wait until nothing is in flight, but no longer than `grace_s` seconds, and THREADS_GRACE_S for what
        has no model."""

        async def each(limiters: Iterable[AdaptiveLimiter], seconds: float) -> None:
            with suppress(TimeoutError):
                async with awake.timeout(seconds):
                    for limiter in limiters:
                        await limiter.idle()

        await asyncio.gather(
            each((*self._models.values(), self._unknown), grace_s),
            each((self._threads, self._processes), min(grace_s, THREADS_GRACE_S)),
        )


def models_of(evaluator: object) -> Collection[Model]:
    """Return the models that an evaluator holds, each once."""
    if not type(evaluator).__module__.startswith("promptlab.evaluators."):
        return _models_in(evaluator)  # code of a user may get its models at any time
    found = _of_ours.get(evaluator)
    if found is None:
        found = _of_ours[evaluator] = _models_in(evaluator)
    return found


_of_ours: weakref.WeakKeyDictionary[object, Collection[Model]] = weakref.WeakKeyDictionary()
"""The models of metrics of our own, which stay the same once a metric has them: each case asks twice."""


def _models_in(evaluator: object) -> Collection[Model]:
    found: dict[tuple[str, ...], Model] = {}
    for value in getattr(evaluator, "__dict__", {}).values():
        values: Iterable[Any] = ()
        if isinstance(value, Model):
            values = (value,)
        elif type(value) in (list, tuple):
            values = value[:MOST_MODELS]
        elif type(value) is dict:
            values = list(value.values())[:MOST_MODELS]
        for model in values:
            if isinstance(model, Model):
                found[_provider_key(model)] = model
    return list(found.values())


def _provider_key(model: Model) -> tuple[str, ...]:
    """Return the key that a provider counts by: the model's name at its endpoint; a user's own
    object is one of its own."""
    if model.runs_user_code:
        return (model.name, str(id(model)))
    return (model.name, str(model.config.endpoint or ""))


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a worker must stop starting calls. Without one it never must."""

    clock: Clock
    at: float | None = None
    """On the clock's monotonic scale, seconds."""

    def left_s(self) -> float | None:
        """Seconds left, or None for no deadline."""
        return None if self.at is None else self.at - self.clock.monotonic()

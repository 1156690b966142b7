"""Limits that the user knows, `requests_per_minute` and `tokens_per_minute`: shared by all who work on the
same ledger, whichever run and process they are of.

Each second has its permits. Who has calls to start leases some of them, with one atomic addition to a counter
of the ledger, and so much ahead as that takes; what is not used within the second is lost, and so is what a
process that was killed had: the next second is everybody's.
docs/decisions/0081-permits-are-leased-by-the-second.md has the reasons,
0156-permits-are-asked-for-ahead.md what was measured.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from promptlab.domain.tokens import Needed
from promptlab.errors import PromptLabError
from promptlab.models.base import Model
from promptlab.ports import Clock, Records

PERMITS = "PERMITS"
"""The kind of counter that a second's permits are."""
GRACE_S = 0.25
"""Seconds after its own in which a permit may still be used."""
REQUESTS, TOKENS = "requests", "tokens"
MOST_LAG_S = 30.0
"""How long before its window permits are asked for at most."""
ASKS = 2
"""How often permits of a window are asked for, where the part of one process does not use them up."""
A_PROCESS = 2**48
"""What a process adds to a window's counter with its first question: above the permits that were asked for is
how many ask."""
KEPT_S = 60.0
"""Seconds for which a counter is kept."""
FIRST_WRITTEN = 500.0
"""Tokens that a call is taken to write until some are answered."""
CONTENDED = 10
"""Windows for which a process leases a part only, after it saw that others lease, too."""

logger = logging.getLogger(__name__)


class _Window:
    """What this process has of a window's permits."""

    __slots__ = ("asked", "closed", "left")

    def __init__(self) -> None:
        self.left, self.asked, self.closed = 0.0, 0, False
        """What is left, for how many it asked, and whether the window has no more."""


class _Pool:
    """The permits of one kind, as this process has them."""

    def __init__(self, name: str, per_window: float) -> None:
        self.name, self.per_window = name, per_window
        self.kept = 0.0
        """Permits of no window: what a call did not use of those that it was given, or, below 0, owes; and
        what is gathered for one that needs more than this process gets of a window."""
        self.gathered_for = 0.0
        """What the call needs that waits."""
        self._windows: dict[int, _Window] = {}
        self._processes: dict[int, int] = {}
        """How many processes had asked for permits of the last windows, this one included."""

    def allowance(self, window: int) -> int:
        """The whole permits of a window: on average `per_window`."""
        return math.floor(self.per_window * (window + 1)) - math.floor(self.per_window * window)

    def of(self, window: int) -> _Window:
        """Return what it has of a window."""
        return self._windows.setdefault(window, _Window())

    def saw(self, window: int, processes: int) -> None:
        """Take note of how many processes ask for a window's permits."""
        self._processes[window] = processes
        for old in [old for old in self._processes if old <= window - CONTENDED]:
            del self._processes[old]

    def peers(self) -> int:
        """How many processes share the limit."""
        return max(self._processes.values(), default=1)

    def part(self, window: int, last: int, need: float, calls: int) -> int:
        """Return what one of several processes asks for of a window, for so many calls: its part, in whole
        calls, for what is too little for one would be gathered."""
        part = max(1, math.ceil(self.allowance(window) / self.peers() / need)) if need else 0
        has = max(self.of(window).left, self.available(last))
        return min(math.ceil(need * min(calls, part) - min(has, 0.0)), math.ceil(need * calls - has))

    def available(self, last: int) -> float:
        """The permits that may be used while a window is the last one that has begun."""
        return self.kept + sum(one.left for window, one in self._windows.items() if window <= last)

    def use(self, need: float, last: int) -> None:
        """Use some of those that are available, the oldest first, and pay what is owed."""
        if self.kept < 0:
            need, self.kept = need - self.kept, 0.0
        for window in sorted(self._windows):
            if window <= last:
                used = min(need, self._windows[window].left)
                self._windows[window].left -= used
                need -= used
        self.kept -= need

    def expire(self, before: int) -> None:
        """Drop what windows had that are over, but for what a call of many tokens gathers: nobody hoards."""
        for window in [window for window in self._windows if window < before]:
            left = self._windows.pop(window).left
            if self.name == TOKENS:
                self.kept = min(self.kept + left, self.gathered_for)


class Permits:
    """The starts of the calls of one model with one key, as this process may make them."""

    def __init__(
        self,
        ledger: Records,
        clock: Clock,
        key: str,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Share permits with all that have the same ledger and key.

        Args:
            key: what the provider counts by, without anything secret.
            wall: the time of day, in seconds since 1970: all processes' are about the same.
        """
        self._ledger, self._clock, self._key, self._wall = ledger, clock, key, wall
        limits = {REQUESTS: requests_per_minute, TOKENS: tokens_per_minute}
        # A lone run writes once a second at most, also with two limits.
        self.window_s = float(sum(limit is not None for limit in limits.values()))
        # Any 60 s touch windows of so many seconds at most, with GRACE_S, and clocks that differ by a second;
        # one permit is for what rounding adds.
        touched_s = 61 + 2 * self.window_s
        self._pools = {
            name: _Pool(name, max(limit - 1, limit * 0.8) * self.window_s / touched_s)
            for name, limit in limits.items()
            if limit is not None
        }
        self.counts_tokens = tokens_per_minute is not None
        self._most_tokens = tokens_per_minute or 0
        self._written, self._answered = FIRST_WRITTEN, 0
        self._leasing: dict[int, asyncio.Task[None]] = {}
        self._lag_s = 0.0
        """How long a write took of late: so much earlier permits are asked for."""
        self.on_lease: Callable[[], None] = lambda: None

    def take(self, tokens: float) -> bool:
        """Take what one call needs, if it is there."""
        last, needs = self._begun(), self._needs(tokens)
        if any(pool.available(last) < needs[pool.name] for pool in self._pools.values()):
            for pool in self._pools.values():
                pool.gathered_for = needs[pool.name]
            return False
        for pool in self._pools.values():
            pool.use(needs[pool.name], last)
        return True

    def estimate(self, needed: Needed | None) -> float:
        """Estimate the tokens of a call that is about to start: those that it reads, and as many as calls
        wrote of late."""
        if needed is None:
            return 0.0
        most = needed.most_written
        return needed.read + (self._written if most is None else min(self._written, most))

    def settle(self, reserved: float, used: float, written: float) -> None:
        """Correct what was taken for a call by the tokens that it used; too few are owed by later calls."""
        if self.counts_tokens:
            self._answered += 1
            self._written += (written - self._written) / min(self._answered, 10)
            self._pools[TOKENS].kept += min(reserved, self._most_tokens) - used

    def lease(self, calls: int, tokens: float) -> float:
        """Ask the ledger for more, for so many calls of so many tokens each.

        Returns:
            The seconds until it makes sense to look again; sooner, `on_lease` is called.
        """
        now, lag_s = self._wall(), ASKS * len(self._pools) * self._lag_s
        # Of a window that is over when its permits come nobody has anything.
        first = math.floor(max(now, now + lag_s - self.window_s - GRACE_S) / self.window_s)
        last = math.floor((now + lag_s) / self.window_s)
        for window in range(first, last + 1):
            if window not in self._leasing and self._is_worth_asking(window):
                self._leasing[window] = asyncio.create_task(self._lease(window, calls, tokens))
        begins = (math.floor(now / self.window_s) + 1) * self.window_s
        to_ask = (last + 1) * self.window_s - lag_s
        return max(0.005, min(begins, to_ask) - now)

    def pace(self, tokens: float) -> float:
        """Return how many calls of so many tokens this process may start a second: its part of the limits."""
        needs = self._needs(tokens)
        return min(
            pool.per_window / self.window_s / pool.peers() / max(1.0, needs[pool.name])
            for pool in self._pools.values()
        )

    def _needs(self, tokens: float) -> dict[str, float]:
        # A call of more tokens than a minute has would wait for ever.
        return {REQUESTS: 1.0, TOKENS: min(tokens, self._most_tokens)}

    def _begun(self) -> int:
        """Drop the permits of windows that are over, and return the one that has begun."""
        now = self._wall()
        for pool in self._pools.values():
            pool.expire(math.ceil((now - GRACE_S) / self.window_s) - 1)
        return math.floor(now / self.window_s)

    async def _lease(self, window: int, calls: int, tokens: float) -> None:
        got = 0
        try:
            needs = self._needs(tokens)
            for pool in self._pools.values():
                got += await self._ask(pool, window, needs[pool.name], calls)
                if pool.name == REQUESTS:  # tokens for more calls than may start would be lost
                    calls = min(calls, self._may_start(window))
        except (OSError, PromptLabError) as error:
            # The run itself fails where its ledger does; a look that failed is made again.
            logger.debug("permits of %s could not be leased: %s", self._key, error)
            await self._clock.sleep(self.window_s)
        finally:
            del self._leasing[window]
        if got:
            self.on_lease()

    def _may_start(self, window: int) -> int:
        """Return how many calls may start in a window by the limit of requests."""
        requests = self._pools[REQUESTS]
        return math.floor(max(requests.of(window).left, requests.available(self._begun())))

    def _is_worth_asking(self, window: int) -> bool:
        if all(pool.of(window).closed for pool in self._pools.values()):
            return False
        return (
            len(self._pools) == 1
            or not self._pools[REQUESTS].of(window).closed
            or self._may_start(window) > 0
        )

    async def _ask(self, pool: _Pool, window: int, need: float, calls: int) -> int:
        """Lease some of a window's permits, and return how many."""
        mine, allowed = pool.of(window), pool.allowance(window)
        if allowed <= 0:
            mine.closed = True
        if mine.closed:
            return 0
        peers = pool.peers()
        # Alone it takes all at once: that is one write a second.
        wanted = allowed if peers == 1 else pool.part(window, self._begun(), need, calls)
        if wanted <= 0:
            return 0
        got, others = await self._add(pool, window, wanted)
        if mine.closed and got == 0 and others:
            # Whoever is late every time asks ahead, once: then it is its turn.
            ahead = pool.part(window + 1, self._begun(), need, calls)
            if not pool.of(window + 1).asked and ahead > 0:
                got, _ = await self._add(pool, window + 1, ahead)
        return got

    async def _add(self, pool: _Pool, window: int, wanted: int) -> tuple[int, int]:
        """Ask for some of a window's permits.

        Returns:
            How many were granted, and how many others had asked for before.
        """
        mine, allowed, started = pool.of(window), pool.allowance(window), self._clock.monotonic()
        key = f"{self._key}#{pool.name}#{window}"
        ends = (window + 1) * self.window_s + KEPT_S
        by = wanted if mine.asked else wanted + A_PROCESS
        total, _ = await self._ledger.count_up(PERMITS, key, by=by, expires_at=ends)
        processes, asked = divmod(total, A_PROCESS)
        pool.saw(window, processes)
        before = asked - wanted
        got, others = max(0, min(wanted, allowed - before)), before - mine.asked
        mine.asked += wanted
        mine.left += got
        mine.closed = asked >= allowed
        took_s = self._clock.monotonic() - started
        self._lag_s = min(MOST_LAG_S, max(took_s, self._lag_s + (took_s - self._lag_s) / 10))
        return got, others


def permits_for(model: Model, ledger: Records, clock: Clock) -> Permits | None:
    """Return the permits of a model whose configuration has limits; None for one without."""
    config = model.config
    if config.requests_per_minute is None and config.tokens_per_minute is None:
        return None
    return Permits(
        ledger,
        clock,
        model.counted_by,
        requests_per_minute=config.requests_per_minute,
        tokens_per_minute=config.tokens_per_minute,
    )

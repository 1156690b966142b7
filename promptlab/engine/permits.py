"""Limits that the user knows, `requests_per_minute` and `tokens_per_minute`: shared by all who work on the
same ledger, whichever run and process they are of.

Each second has its permits. Who has calls to start leases some of them, with one atomic addition to a counter
of the ledger; what is not used within the second is lost, and so is what a process that was killed had: the
next second is everybody's. docs/decisions/0081-permits-are-leased-by-the-second.md has the reasons.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from promptlab.errors import PromptLabError
from promptlab.models.base import Model
from promptlab.ports import Clock, Records

PERMITS = "PERMITS"
"""The kind of counter that a second's permits are."""
GRACE_S = 0.25
"""Seconds after its own in which a permit may still be used."""
KEPT_S = 60.0
"""Seconds for which a counter is kept."""
FIRST_WRITTEN = 500.0
"""Tokens that a call is taken to write until some are answered."""
CONTENDED = 10
"""Windows for which a process leases a part only, after it saw that others lease, too."""

logger = logging.getLogger(__name__)


class _Pool:
    """The permits of one kind, as this process has them."""

    def __init__(self, name: str, per_window: float) -> None:
        self.name, self.per_window = name, per_window
        self.balance = 0.0
        self.peers, self.contended = 1, 0
        self.window, self.asked, self.closed = -1, 0, False
        """The window that was asked last, for how many, and whether it has no more."""

    def allowance(self, window: int) -> int:
        """The whole permits of a window: on average `per_window`."""
        return math.floor(self.per_window * (window + 1)) - math.floor(self.per_window * window)


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
        limits = {"requests": requests_per_minute, "tokens": tokens_per_minute}
        # A lone run writes once a second at most, also with two limits.
        self.window_s = float(sum(limit is not None for limit in limits.values()))
        # Any 60 s touch so many windows; one permit is for what rounding adds.
        touched_s = 60 + 3 * self.window_s  # one of them leased ahead
        self._pools = {
            name: _Pool(name, max(limit - 1, limit * 0.8) * self.window_s / touched_s)
            for name, limit in limits.items()
            if limit is not None
        }
        self.counts_tokens = tokens_per_minute is not None
        self._most_tokens = tokens_per_minute or 0
        self._written = FIRST_WRITTEN
        self._leasing: asyncio.Task[None] | None = None
        self.on_lease: Callable[[], None] = lambda: None

    def take(self, tokens: float) -> bool:
        """Take what one call needs, if it is there."""
        self._expire()
        needs = self._needs(tokens)
        if any(pool.balance < needs[pool.name] for pool in self._pools.values()):
            return False
        for pool in self._pools.values():
            pool.balance -= needs[pool.name]
        return True

    def estimate(self, read: float, most_written: int | None) -> float:
        """Estimate the tokens of a call: those that it reads, and as many as calls wrote of late."""
        written = self._written if most_written is None else min(self._written, most_written)
        return read + written

    def settle(self, reserved: float, used: float, written: float) -> None:
        """Correct what was taken for a call by the tokens that it used; too few are owed by later calls."""
        if self.counts_tokens:
            self._written += (written - self._written) / 10
            self._pools["tokens"].balance += min(reserved, self._most_tokens) - used

    def lease(self, calls: int, tokens: float) -> float:
        """Ask the ledger for more, for so many calls of so many tokens each.

        Returns:
            The seconds until it makes sense to look again; sooner, `on_lease` is called.
        """
        now = self._wall()
        window = math.floor(now / self.window_s)
        open_pools = [
            pool
            for pool in self._pools.values()
            if pool.window < window or (pool.window == window and not pool.closed)
        ]
        if self._leasing is None and open_pools:
            self._leasing = asyncio.create_task(self._lease(window, calls, tokens))
        return max(0.005, (window + 1) * self.window_s - now)

    def pace(self, tokens: float) -> float:
        """Return how many calls of so many tokens this process may start a second: its part of the limits."""
        needs = self._needs(tokens)
        return min(
            pool.per_window / self.window_s / pool.peers / max(1.0, needs[pool.name])
            for pool in self._pools.values()
        )

    def _needs(self, tokens: float) -> dict[str, float]:
        # A call of more tokens than a minute has would wait for ever.
        return {"requests": 1.0, "tokens": min(tokens, self._most_tokens)}

    def _expire(self) -> None:
        """Drop the permits of windows that are over, but for those that a large call gathers."""
        now = self._wall()
        for pool in self._pools.values():
            if pool.window >= 0 and now > (pool.window + 1) * self.window_s + GRACE_S:
                # A call of many tokens gathers them over several windows; nobody else hoards.
                most = float(self._most_tokens) if pool.name == "tokens" else float(pool.per_window < 1)
                pool.balance = min(pool.balance, most)

    async def _lease(self, window: int, calls: int, tokens: float) -> None:
        before = sum(pool.balance for pool in self._pools.values())
        try:
            needs = self._needs(tokens)
            for pool in self._pools.values():
                await self._ask(pool, window, needs[pool.name], calls)
        except (OSError, PromptLabError) as error:
            # The run itself fails where its ledger does; a look that failed is made again.
            logger.debug("permits of %s could not be leased: %s", self._key, error)
            await self._clock.sleep(self.window_s)
        finally:
            self._leasing = None
        if sum(pool.balance for pool in self._pools.values()) > before:
            self.on_lease()

    async def _ask(self, pool: _Pool, window: int, need: float, calls: int) -> None:
        if pool.window > window or (pool.window == window and pool.closed):
            return
        if pool.window < window:
            self._expire()
            pool.window, pool.closed, pool.asked = window, False, 0
        allowed = pool.allowance(window)
        # Alone it takes all at once: that is one write a second.
        missing, wanted = need * calls - pool.balance, allowed
        if pool.peers > 1:
            wanted = min(math.ceil(missing), math.ceil(allowed / pool.peers))
        if allowed <= 0:
            pool.closed = True
            return
        if wanted <= 0:
            return
        got, before = await self._add(pool, window, allowed, wanted)
        others = before - pool.asked
        pool.asked += wanted
        pool.balance += got
        if others:
            pool.peers = max(2, min(32, round(others / wanted) + 1))
            pool.contended = CONTENDED
        elif pool.contended:
            pool.contended -= 1
            if not pool.contended:
                pool.peers = 1
        if before + wanted >= allowed:
            pool.closed = True
            if got == 0 and others:
                # Whoever is late every time asks ahead, once: then it is its turn.
                ahead = pool.allowance(window + 1)
                part = min(ahead, math.ceil(missing), math.ceil(ahead / pool.peers))
                if part > 0:
                    got, _ = await self._add(pool, window + 1, ahead, part)
                    pool.balance += got
                    pool.window, pool.closed, pool.asked = window + 1, got == 0, part

    async def _add(self, pool: _Pool, window: int, allowed: int, wanted: int) -> tuple[int, int]:
        """Return how many were granted, and how many had been asked for before."""
        key = f"{self._key}#{pool.name}#{window}"
        ends = (window + 1) * self.window_s + KEPT_S
        total, _ = await self._ledger.count_up(PERMITS, key, by=wanted, expires_at=ends)
        before = total - wanted
        return max(0, min(wanted, allowed - before)), before


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

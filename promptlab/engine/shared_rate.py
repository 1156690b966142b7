"""A rate that one process learned from answers 429, known to all who work on the same ledger with the same
model and key: whoever begins starts at its part of it, and who is left takes over what another one had.

The ledger has one record for each model, endpoint and key: what was learned in all, and who works with which
rate. Each process that has learned a rate renews its own part every few seconds. A process that was killed is
forgotten after FORGOTTEN_S. docs/decisions/0079-a-learned-rate-is-shared.md has the reasons.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from promptlab.domain.records import RATE, Swap
from promptlab.engine.pacing import Pacer
from promptlab.errors import PromptLabError
from promptlab.ports import Clock, Records

EVERY_S = 2.0
"""How often a process that has learned a rate renews its part: half a write a second."""
FORGOTTEN_S = 8.0
"""How old the part of a process gets that counts."""
KEPT_S = 600.0
"""For how long a rate is remembered with which nobody works any more."""
MOST_PARTS = 200
"""Processes that a record has at most; beyond these the oldest go."""
STARVED = 0.5
"""The share of its fair part below which a process takes more."""
TRIES = 3
MOST_CHANGE, LEAST_CHANGE = 10.0, 0.03
"""By what a rate is changed at most, and at least, where others came or went."""

logger = logging.getLogger(__name__)


class SharedRate:
    """The rate of one model's calls with one key, as this process shares it."""

    def __init__(
        self,
        ledger: Records,
        clock: Clock,
        key: str,
        pacer: Pacer,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Share what a pacer learns.

        Args:
            ledger: where it is shared.
            clock: the time.
            key: what the provider counts by, without anything secret.
            pacer: whose rate it is.
            wall: the time of day, in seconds since 1970: all processes' are about the same.
        """
        self._ledger, self._clock, self._key, self._pacer, self._wall = ledger, clock, key, pacer, wall
        self._me, self._known = uuid.uuid4().hex[:12], set[str]()
        self._told, self._is_in = 0.0, False

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """In the block, what others learned is known, and what this process learns is told."""
        await self._look(self._begin)
        telling = asyncio.create_task(self._tell())
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            if self._is_in or self._pacer.rate is not None:
                await self._look(self._leave)

    async def _tell(self) -> None:
        while True:
            await self._clock.sleep(EVERY_S)
            if self._is_in or self._pacer.rate is not None:
                await self._look(self._renew)

    async def _look(self, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
        """Read the record, and write what it shall be; None: it stays."""
        try:
            for _ in range(TRIES):
                was = await self._ledger.get_record(RATE, self._key)
                now = change(self._fresh(was or {}))
                if now is None:
                    return
                ends = self._wall() + KEPT_S
                if await self._ledger.swap_records([Swap(RATE, self._key, was, now, ends)]):
                    return
        except (OSError, PromptLabError) as error:
            # The run itself fails where its ledger does; without this it learns alone.
            logger.debug("the rate of %s could not be shared: %s", self._key, error)

    def _fresh(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The record, without the parts of those who are gone."""
        since = self._wall() - FORGOTTEN_S
        parts = {name: part for name, part in dict(record.get("parts", {})).items() if part[1] >= since}
        newest = sorted(parts.items(), key=lambda item: item[1][1])[-MOST_PARTS:]
        return {"rate": float(record.get("rate", 0.0)), "parts": dict(newest)}

    def _begin(self, found: dict[str, Any]) -> dict[str, Any] | None:
        """Start at this process's part of what is known."""
        self._known = set(found["parts"])
        if found["rate"] <= 0 or self._pacer.rate is not None:
            return None
        self._told = found["rate"] / (len(self._known) + 1)
        self._pacer.begin_at(self._told, self._clock.monotonic())
        self._is_in = True
        return self._with_mine(found)

    def _renew(self, found: dict[str, Any]) -> dict[str, Any]:
        """Tell what was learned since, make room for those who came, take over what those had who went."""
        found["parts"].pop(self._me, None)
        others, rate = {name: part[0] for name, part in found["parts"].items()}, self._pacer.rate
        was_in, self._is_in = self._is_in, rate is not None
        if rate is None:  # what was learned turned out to be chance
            return found
        # Who learned a rate without knowing of others has learned what they left of it.
        found["rate"] = (
            max(rate, found["rate"] + rate - self._told) if was_in else sum(others.values()) + rate
        )
        came = set(others) - self._known
        if was_in and set(others) != self._known:
            new = sum(others[name] for name in came)
            old = rate + sum(others.values()) - new
            change = min(MOST_CHANGE, max(1 / MOST_CHANGE, (found["rate"] - new) / old))
            if abs(change - 1) > LEAST_CHANGE:
                rate *= change
                self._pacer.begin_at(rate, self._clock.monotonic())
        fair = found["rate"] / (len(others) + 1)
        if rate < STARVED * fair:  # by chance the others were always there first
            rate = (rate + fair) / 2
            self._pacer.begin_at(rate, self._clock.monotonic())
        self._known, self._told = set(others), rate
        return self._with_mine(found)

    def _leave(self, found: dict[str, Any]) -> dict[str, Any]:
        """Take the own part out; what was learned stays."""
        if self._pacer.rate is not None:
            found = self._renew(found)
        found["parts"].pop(self._me, None)
        return found

    def _with_mine(self, found: dict[str, Any]) -> dict[str, Any]:
        mine = [round(self._told, 4), round(self._wall(), 2)]
        return {"rate": round(found["rate"], 4), "parts": {**found["parts"], self._me: mine}}

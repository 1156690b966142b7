"""Removes a run: rows, scores, shards, files with their older versions, what workers noted of it, and it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from promptlab.deleting.journal import Journal
from promptlab.domain.records import BATCH, GATE, LEASE, SO_FAR, TRIED, WEBHOOK
from promptlab.domain.results import DONE, RunRecord
from promptlab.errors import StoreDamagedError
from promptlab.labels import CaseLabels
from promptlab.ports import Blobs, Clock, Ledger
from promptlab.run_labels import RunLabels

SHARDS_AT_ONCE = 50
"""Shards of one step: 2,500 rows and scores, a second or two."""
BLOBS_AT_ONCE = 1_000
SETTLE_S = 10.0
"""For how long after the mark a worker in the cloud may still record what it was told: it looks every 5
seconds whether its run is there."""
LEASE_PAUSE_S = 3.0


class RunDeleting:
    """Removes runs of one store. A run that is marked is in no list and cannot be read; it goes last."""

    def __init__(self, ledger: Ledger, blobs: Blobs, clock: Clock, journal: Journal) -> None:
        self._ledger, self._blobs, self._clock, self._journal = ledger, blobs, clock, journal

    async def mark(self, run: RunRecord, by: str) -> None:
        """Take a run out of everybody's sight: from here on only the rest of it is removed."""
        deletion = await self._journal.begin("run", run.run_id, by)
        # A record that cannot be read cannot be changed either; no page shows what it had.
        with suppress(StoreDamagedError):
            await self._ledger.update_run(run.run_id, {"deleting_since": deletion.at})

    async def remove(self, run_id: str, until: float | None = None) -> bool:
        """Remove what is left of a marked run.

        Args:
            run_id: the run.
            until: the moment (of the clock's `monotonic`) after which no further step begins.

        Returns:
            Whether nothing is left.
        """
        run, deletion = await self._ledger.get_run(run_id), await self._journal.pending("run", run_id)
        if run is not None and not await self._settled(run, until):
            return False
        generations = range((run.generation if run else 0) + 1)
        while numbers := await self._ledger.shard_numbers(run_id, limit=SHARDS_AT_ONCE):
            if self._is_late(until) or not await self._free(run_id, numbers, until):
                return False
            await self._forget_workers(run_id, numbers, generations)
            await self._ledger.clear_shards(run_id, numbers)
        while await self._blobs.erase(f"runs/{run_id}/", limit=BLOBS_AT_ONCE) == BLOBS_AT_ONCE:
            if self._is_late(until):
                return False
        number = 0
        while await self._ledger.get_record(BATCH, f"{run_id}#{number}"):
            number += 1
        for last in reversed(range(number)):  # so that what an interruption leaves is found again
            await self._ledger.delete_record(BATCH, f"{run_id}#{last}")
        for kind in (SO_FAR, WEBHOOK, BATCH, GATE):
            await self._ledger.delete_record(kind, run_id)
        await CaseLabels(self._ledger).forget(run_id)
        if run is not None:
            await RunLabels(self._ledger).forget(run.name, run_id)
        await self._ledger.delete_run(run_id)
        if deletion is not None:
            await self._journal.end(deletion)
        return True

    def _is_late(self, until: float | None) -> bool:
        return until is not None and self._clock.monotonic() >= until

    async def _settled(self, run: RunRecord, until: float | None) -> bool:
        """Wait until no worker in the cloud records anything more; False where time is short."""
        # Workers of one machine hold the run itself, which its deletion holds now.
        if run.beat_at is None or run.deleting_since is None or run.status in DONE:
            return True
        marked, now = (datetime.fromisoformat(at) for at in (run.deleting_since, self._clock.now()))
        left_s = SETTLE_S - (now - marked).total_seconds()
        return left_s <= 0 or await self._wait(left_s, until)

    async def _free(self, run_id: str, numbers: Sequence[int], until: float | None) -> bool:
        """Wait until no worker holds one of the shards; False where time is short."""
        held = [f"{run_id}#{number}" for number in numbers]
        while any(await asyncio.gather(*(self._ledger.get_record(LEASE, name) for name in held))):
            if not await self._wait(LEASE_PAUSE_S, until):
                return False
        return True

    async def _wait(self, seconds: float, until: float | None) -> bool:
        if until is not None and self._clock.monotonic() + seconds >= until:
            return False
        await self._clock.sleep(seconds)
        return True

    async def _forget_workers(self, run_id: str, numbers: Sequence[int], generations: range) -> None:
        gone = [(LEASE, f"{run_id}#{number}") for number in numbers]
        shared = ("probe", "outage")
        gone += [(LEASE, f"{run_id}#{pass_}#{what}") for pass_ in generations for what in shared]
        gone += [(TRIED, f"{run_id}#{pass_}#{number}") for number in numbers for pass_ in generations]
        await asyncio.gather(*(self._ledger.delete_record(kind, key) for kind, key in gone))

"""Removes a project with all that it has, and runs that are older than their project keeps them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from promptlab.deleting.journal import Journal
from promptlab.deleting.runs import BLOBS_AT_ONCE, RunDeleting
from promptlab.domain.records import CASE_LABEL, CERTIFICATE, LISTED, SWEEP, SWEEP_CELL
from promptlab.domain.results import FINAL, RunRecord
from promptlab.domain.versioned import KINDS
from promptlab.ports import Blobs, Clock, Ledger, Records
from promptlab.run_labels import RunLabels

RETENTION = "retention"
"""Who deletes what is older than its project keeps it."""
TIDIED = "TIDIED"
"""The kind of record that says that something was done today."""
DAY_S = 23 * 3600.0
PAGE = 100


class ProjectDeleting:
    """Removes what one project has, by its own ledger and blobs."""

    def __init__(self, ledger: Ledger, blobs: Blobs, clock: Clock) -> None:
        self._ledger, self._blobs, self._clock = ledger, blobs, clock
        self._runs = RunDeleting(ledger, blobs, clock, Journal(ledger, clock))

    async def remove(self, by: str, until: float | None = None) -> bool:
        """Remove runs, assets, records and files, in this order.

        Args:
            by: who asked for it.
            until: the moment (of the clock's `monotonic`) after which no further step begins.

        Returns:
            Whether nothing is left.
        """
        while runs := (await self._ledger.list_runs(limit=PAGE))[0]:
            for run in runs:
                if self._is_late(until):
                    return False
                if not run.deleting_since:
                    await self._runs.mark(run, by)
                if not await self._runs.remove(run.run_id, until):
                    return False
        for kind in KINDS:
            for asset in await self._ledger.list_assets(kind):
                for version in await self._ledger.list_versions(kind, asset.name):
                    if self._is_late(until):
                        return False
                    await self._ledger.delete_asset(kind, asset.name, version.version)
        return await self._erase(until)

    async def _erase(self, until: float | None) -> bool:
        while await self._blobs.erase("", limit=BLOBS_AT_ONCE) == BLOBS_AT_ONCE:
            if self._is_late(until):
                return False
        for kind in ("DELETING", "DELETED", "GONE", SWEEP, SWEEP_CELL, CASE_LABEL, CERTIFICATE):
            assert kind in LISTED
            while page := await self._ledger.list_records(kind, limit=PAGE):
                for key, _ in page:
                    await self._ledger.delete_record(kind, key)
        return True

    def _is_late(self, until: float | None) -> bool:
        return until is not None and self._clock.monotonic() >= until


class Retention:
    """Deletes runs of one project that ended longer ago than it keeps them."""

    def __init__(self, ledger: Ledger, blobs: Blobs, clock: Clock) -> None:
        self._ledger, self._clock = ledger, clock
        self._labels: dict[str, dict[str, str]] = {}
        self._runs = RunDeleting(ledger, blobs, clock, Journal(ledger, clock))

    async def mark(self, days: int, until: float | None = None) -> int | None:
        """Mark the runs that are too old; give their number, or None where time was short.

        Archived runs are kept, and so are those that have not ended, and those that a label points at.
        """
        before = (
            datetime.fromisoformat(self._clock.now()).astimezone(UTC) - timedelta(days=days)
        ).isoformat()
        marked = 0
        async for run in self._ended_before(before):
            if until is not None and self._clock.monotonic() >= until:
                return None
            await self._runs.mark(run, RETENTION)
            marked += 1
        return marked

    async def _is_labelled(self, run: RunRecord) -> bool:
        if run.name not in self._labels:
            self._labels[run.name] = await RunLabels(self._ledger).of(run.name)
        return run.run_id in self._labels[run.name].values()

    async def _ended_before(self, moment: str) -> AsyncIterator[RunRecord]:
        limit, cursor = datetime.fromisoformat(moment), None
        while True:
            runs, cursor = await self._ledger.list_runs(limit=500, cursor=cursor)
            for run in runs:
                ended = run.finished_at or run.created_at
                kept = run.archived or run.deleting_since or run.unreadable or run.status not in FINAL
                if not kept and datetime.fromisoformat(ended) < limit and not await self._is_labelled(run):
                    yield run
            if cursor is None:
                return


async def once_a_day(records: Records, what: str) -> bool:
    """Whether something was not begun within the last day, as of now; it is noted as begun."""
    return await records.put_record(TIDIED, what, {}, expires_at=time.time() + DAY_S, only_if_absent=True)


async def again_soon(records: Records, what: str) -> None:
    """Note that something was not done to its end."""
    await records.delete_record(TIDIED, what)

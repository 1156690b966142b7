"""Indexes of what is answered so far of runs that have no results yet, so that these can be filtered too."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path

from promptlab.domain.results import FINAL, RunRecord
from promptlab.duck import parquet, with_room
from promptlab.ports import Ledger
from promptlab.queries.matches import Matches
from promptlab.queries.opened import StoredRun
from promptlab.queries.pool import DuckDBPool
from promptlab.results.files import MIN_OBJECT_BYTES, AnsweredParts, answered_parts
from promptlab.results.index import NARROW, TEXTS, IndexParts, write_index
from promptlab.results.run_table import RunTable
from promptlab.results.table import Columns

FRESH_S = 2.0
"""Seconds for which a snapshot serves; those that took long to make serve ten times as long as that, so that
at most a tenth of the time goes into them."""
MOST = 8
"""Runs of which a snapshot is kept."""
_Pass = tuple[str, int, str, str | None]


class _Kept:
    """A snapshot that is made, or being made."""

    def __init__(self, of: _Pass, done: int, task: asyncio.Task[StoredRun]) -> None:
        self.of, self.done, self.task = of, done, task
        self.until = float("inf")
        begun = time.monotonic()
        task.add_done_callback(lambda _: self._made(begun))

    def _made(self, begun: float) -> None:
        now = time.monotonic()
        self.until = now + max(FRESH_S, 10 * (now - begun))


class Snapshots:
    """The newest snapshot of each run that is asked for; used on one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    async def of(self, table: RunTable, pool: DuckDBPool, matches: Matches, folder: Path) -> StoredRun:
        """The cases of a run that are answered, as they were a moment ago.

        Args:
            table: the run.
            pool: where its index is asked.
            matches: the searches that are kept.
            folder: a scratch folder that the pool reaches.
        """
        run = table.run
        now = (run.created_at, run.generation, run.status, run.finished_at)
        kept = self._kept.get(run.run_id)
        if kept is None or kept.of != now or not await self._holds(kept, run):
            done = (await self._ledger.progress(run.run_id)).done
            task = asyncio.create_task(_snapshot(table, pool, matches, folder))
            kept = self._kept[run.run_id] = _Kept(now, done, task)
        self._kept.move_to_end(run.run_id)
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)
        try:
            return await asyncio.shield(kept.task)
        finally:
            # One that could not be made is made anew when it is asked for again.
            failed = kept.task.done() and (kept.task.cancelled() or kept.task.exception() is not None)
            if failed and self._kept.get(run.run_id) is kept:
                del self._kept[run.run_id]

    async def _holds(self, kept: _Kept, run: RunRecord) -> bool:
        if time.monotonic() < kept.until:
            return True
        return run.status in FINAL and (await self._ledger.progress(run.run_id)).done == kept.done

    def forget(self, run_id: str) -> None:
        """Drop the snapshot of a run."""
        if kept := self._kept.pop(run_id, None):
            kept.task.cancel()

    async def close(self) -> None:
        """Stop what is still being made."""
        tasks = [kept.task for kept in self._kept.values()]
        self._kept.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _OwnFiles:
    """Parts whose keys are the paths of their files."""

    async def files(self, keys: Sequence[str], folder: Path) -> list[Path]:
        return [Path(key) for key in keys]


async def _snapshot(table: RunTable, pool: DuckDBPool, matches: Matches, folder: Path) -> StoredRun:
    own = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=folder))
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, own, ignore_errors=True)
        answered = await answered_parts(table, own)
        index, search = await asyncio.to_thread(_indexed, answered, own, table.columns)
        undo.pop_all()  # it is whole, and stays
    found = StoredRun(
        table.run,
        table.columns,
        table.metrics,
        parquet(index),
        parquet(search),
        IndexParts([str(path) for path in answered.paths], list(accumulate(answered.rows))),
        _OwnFiles(),
        pool,
        matches,
        own,
    )
    # Who still reads an older snapshot holds it, and with it its files.
    weakref.finalize(found, shutil.rmtree, own, ignore_errors=True)
    return found


def _indexed(answered: AnsweredParts, folder: Path, shape: Columns) -> tuple[Path, Path]:
    """Write the index and the search texts of what is answered."""
    results = folder / "results.parquet"
    answered.write(results, shape.types)
    large = answered.largest_row_bytes > MIN_OBJECT_BYTES
    with_room(lambda con: write_index(con, results, shape), folder, large=large)
    results.unlink()
    return folder / NARROW, folder / TEXTS

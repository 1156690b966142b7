"""Pages, searches, histograms and counts of a run's results.

    queries = QueryEngine(ledger, blobs)                 # one for a process
    results = await queries.results(run)                 # a RunRecord
    amber = Filter(text="amber", status="ok")            # a choice of cases
    page = await results.page(amber, sort="score.f1", descending=True, offset=50, limit=50)
    there = await results.neighbours(case=17, filter=amber, sort="score.f1")

A finished run is SQL over its index (`results/index.py`), and the rows of a page come from the run's parts
(`queries/finished.py`); one that goes on is read from the ledger (`queries/unfinished.py`), or, filtered,
from an index of what is answered so far (`queries/snapshots.py`). Column names are
those of the results table (`results.columns.types`); an unknown one raises UnknownNameError.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

from promptlab.domain.results import CaseKey, RunRecord
from promptlab.domain.sweeps import Sweep
from promptlab.duck import connect, given, parquet
from promptlab.errors import RunError, UnknownNameError
from promptlab.gates.config import Gates
from promptlab.gates.judging import GateInputs
from promptlab.ports import Blobs, Ledger
from promptlab.queries.answers import CaseRows, Facets, MetricFacet, Neighbours, ResultsQuery
from promptlab.queries.compare import ComparePage, compare
from promptlab.queries.compared import Compared
from promptlab.queries.filters import Filter, Range
from promptlab.queries.finished import StoredResults
from promptlab.queries.gated import measured
from promptlab.queries.gated_scores import gated_scores
from promptlab.queries.histograms import Bin, Histogram
from promptlab.queries.matches import Matches
from promptlab.queries.opened import StoredRun
from promptlab.queries.pool import DuckDBPool
from promptlab.queries.ranking import Ranking, cells_of, metrics_of, ranked
from promptlab.queries.run_level import RunComparisons
from promptlab.queries.same_answers import same_answers
from promptlab.queries.slices import Slices, slices
from promptlab.queries.snapshots import Snapshots
from promptlab.queries.sql import SqlAnswer, ask
from promptlab.queries.summaries import Summaries
from promptlab.queries.unfinished import LiveResults
from promptlab.results.files import results_file
from promptlab.results.index import IndexParts, forget_old_indexes, index_again, index_keys
from promptlab.results.run_table import RunTable
from promptlab.scratch import ScratchFolder

__all__ = [
    "Bin",
    "CaseRows",
    "ComparePage",
    "Compared",
    "Facets",
    "Filter",
    "Histogram",
    "MetricFacet",
    "Neighbours",
    "QueryEngine",
    "Range",
    "ResultsQuery",
]

MAX_OPEN = 8
"""Runs that are remembered: of each the list of its parts, and a copy of its index
where blobs are not files."""


class QueryEngine:
    """Answers questions about runs. One for a process, used on one event loop; it makes its threads and its
    DuckDB on use."""

    def __init__(self, ledger: Ledger, blobs: Blobs) -> None:
        self._ledger, self._blobs = ledger, blobs
        self.summaries = Summaries(ledger)
        self._snapshots = Snapshots(ledger)
        self._whole = RunComparisons(blobs)
        self._folder = Path()
        self._store: Path | None = None
        self._made: ScratchFolder | None = None
        self._pool: DuckDBPool | None = None
        self._matches: Matches | None = None
        self._opened: OrderedDict[str, asyncio.Task[StoredRun]] = OrderedDict()
        self._rankings: OrderedDict[tuple[str | None, ...], Ranking] = OrderedDict()

    async def warm(self) -> None:
        """Load DuckDB now, so that the first question does not wait for it (some 200 ms)."""
        self._threads()
        await asyncio.to_thread(lambda: connect(self._folder).close())

    async def results(self, run: RunRecord) -> ResultsQuery:
        """The results of a run, as it is now.

        Raises:
            AssetNotFoundError: its dataset is gone.
            BlobNotFoundError: its files are gone.
        """
        if run.results is None:
            table = await RunTable.open(self._ledger, self._blobs, run)
            return LiveResults(table, lambda: self._so_far(table))
        return StoredResults(await self._stored(run), self._threads())

    async def _so_far(self, table: RunTable) -> StoredResults:
        return StoredResults(await self._snapshot(table), self._threads())

    async def _snapshot(self, table: RunTable) -> StoredRun:
        pool = self._threads()
        assert self._matches is not None
        return await self._snapshots.of(table, pool, self._matches, self._folder)

    async def slices(self, runs: Sequence[RunRecord], column: str, margins: Mapping[str, float]) -> Slices:
        """A run, and others against it, by a dataset column; see `queries.slices.slices`.

        Raises:
            RunError: a run goes on, or there are more than three others.
            UnknownNameError: the base's dataset has no such column.
        """
        stored = [await self._over(run) for run in runs]
        return await slices(self._threads(), self._blobs, stored, column, margins)

    async def compare(
        self,
        base: RunRecord,
        others: Sequence[RunRecord],
        selected: Compared = Compared(),  # noqa: B008 - frozen
        *,
        sort: str = "case",
        descending: bool = False,
        offset: int = 0,
        limit: int = 25,
        text_chars: int = 600,
        at: CaseKey | None = None,
    ) -> ComparePage:
        """One page of a comparison of two to four runs; see `queries.compare.compare`.

        Raises:
            RunError: a run goes on, or there are not one to three others.
            UnknownNameError: `selected` names a metric that the base does not share with another run.
        """
        runs = [await self._over(run) for run in (base, *others)]
        return await compare(
            self._threads(),
            runs,
            selected,
            sort=sort,
            descending=descending,
            offset=offset,
            limit=limit,
            text_chars=text_chars,
            at=at,
            whole=await self._whole.compare((base, *others)),
        )

    async def sql(self, run: RunRecord, sql: str) -> SqlAnswer:
        """Answer a question in SQL about a run that is over, or what was done of it; see `queries.sql`.

        Raises:
            RunError: the run goes on.
            SqlError: the question is wrong, or asks for too much.
            BlobNotFoundError: its results file is gone.
        """
        if run.results is None:
            table = await RunTable.open(self._ledger, self._blobs, _over(run))
            async with results_file(table) as results:
                return await ask(results, results.parent, sql)
        with ScratchFolder("sql") as folder:
            (results,) = await self._blobs.files([run.results], folder)
            return await ask(results, folder, sql)

    async def same_answers(self, base: RunRecord, other: RunRecord, metric: str) -> list[tuple[float, float]]:
        """The scores of a metric in two runs where their answers are the same; see `queries.same_answers`.

        Raises:
            RunError: a run has no results yet.
            UnknownNameError: a run has no such metric.
        """
        runs = [await self._stored(_summed_up(run)) for run in (base, other)]
        with ScratchFolder("same") as folder:
            files = await self._blobs.files([str(run.run.results) for run in runs], folder)
            return await same_answers(runs, files, metric, folder)

    async def gated(self, run: RunRecord, base: RunRecord | None, gates: Gates) -> GateInputs:
        """Measure what a gate looks at; see `queries.gated.measured`.

        Raises:
            RunError: a run has no results yet.
            ConfigError: a column to slice by is none.
        """
        for one in (run, base):
            if one is not None and one.results is None:
                raise RunError(
                    f"Run {one.run_id} is {one.status} and has no results yet: it can be judged once it has "
                    "ended."
                )
        opened = await self._stored(base) if base is not None else None
        compared = await self._whole.compare((base, run)) if base is not None and gates.compares else ()
        pool, stored = self._threads(), await self._stored(run)
        scores = await gated_scores(pool, self._blobs, stored, opened, gates, compared)
        return await measured(pool, stored, opened, gates, scores)

    async def rank(
        self, sweep: Sweep, runs: Sequence[RunRecord], metric: str | None, margins: Mapping[str, float]
    ) -> Ranking:
        """Rank the runs of a sweep that have begun; see `queries.ranking.ranked`.

        Raises:
            UnknownNameError: the runs have no such metric.
        """
        names, first = metrics_of(runs)
        if metric is not None and metric not in names:
            raise UnknownNameError("metric of this sweep", metric, names)
        metric = metric or first
        cells = cells_of(sweep, {run.run_id: run for run in runs}, metric)
        there = {cell.run_id for cell in cells if cell.unranked is None}
        kept = [run for run in runs if run.run_id in there]
        key = (metric, *(index_keys(run).narrow for run in kept), *map(str, sorted(margins.items())))
        if metric is None or not kept:
            return Ranking(sweep=sweep, metric=metric, metrics=tuple(names), cells=tuple(cells))
        places = self._rankings.get(key)
        if places is None:
            pool = self._threads()
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                stored = {run.run_id: await self._narrow(run, Path(folder)) for run in kept}
                places = await ranked(pool, sweep, cells, stored, metric, margins)
            self._rankings[key] = places
            while len(self._rankings) > MAX_OPEN:
                self._rankings.popitem(last=False)
        return places.over(sweep, cells, names)

    async def _narrow(self, run: RunRecord, folder: Path) -> StoredRun:
        """A run without its texts: of a bucket only its index is copied."""
        assert self._matches is not None
        keys, table = index_keys(run), await RunTable.open(self._ledger, self._blobs, run)
        own = folder / _name(keys.narrow)
        await asyncio.to_thread(own.mkdir)
        if not await self._blobs.exists(keys.search):
            await self._index(table, own)
        index, parts = await self._blobs.files([keys.narrow, keys.parts], own)
        listed = IndexParts.load(await asyncio.to_thread(parts.read_bytes))
        source = self._source(index)
        return StoredRun(
            run,
            table.columns,
            table.metrics,
            source,
            source,
            listed,
            self._blobs,
            self._threads(),
            self._matches,
            own,
        )

    def _threads(self) -> DuckDBPool:
        if self._pool is None:
            self._made = ScratchFolder("query")
            self._folder = self._made.path
            # The files of a store on this machine are where they are; those of a bucket are copied.
            if self._blobs.folder is not None:
                self._store = given(self._blobs.folder, self._folder)
            self._pool = DuckDBPool(self._folder)
            self._matches = Matches(self._pool)
        return self._pool

    async def _over(self, run: RunRecord) -> StoredRun:
        """A run that is over; of one that was stopped before it was summed up, what was done of it.

        Raises:
            RunError: it goes on.
        """
        if run.results is not None:
            return await self._stored(run)
        return await self._snapshot(await RunTable.open(self._ledger, self._blobs, _over(run)))

    async def _stored(self, run: RunRecord) -> StoredRun:
        """The run, opened once however many ask at the same time."""
        key = index_keys(run).narrow
        task = self._opened.get(key)
        if task is None:
            task = self._opened[key] = asyncio.create_task(self._open(run))
        self._opened.move_to_end(key)
        try:
            return await asyncio.shield(task)
        except Exception:
            self._opened.pop(key, None)
            raise
        finally:
            while len(self._opened) > MAX_OPEN:
                await self._forget()

    async def forget(self, run_id: str) -> None:
        """Remove what is kept of a run: it is deleted."""
        self.summaries.forget(run_id)
        self._snapshots.forget(run_id)
        for key in [key for key in self._opened if key.startswith(f"runs/{run_id}/")]:
            self._opened.move_to_end(key, last=False)
            await self._forget()

    async def _forget(self) -> None:
        key, task = self._opened.popitem(last=False)
        await asyncio.wait([task])
        await asyncio.to_thread(shutil.rmtree, self._folder / _name(key), ignore_errors=True)

    async def _open(self, run: RunRecord) -> StoredRun:
        pool, keys = self._threads(), index_keys(run)
        assert self._matches is not None
        folder = self._folder / _name(keys.narrow)
        table = await RunTable.open(self._ledger, self._blobs, run)
        await asyncio.to_thread(folder.mkdir, exist_ok=True)
        if not await self._blobs.exists(keys.search):  # a run of a version that wrote none
            await self._index(table, folder)
        index, search, parts = await self._blobs.files(keys, folder)
        listed = IndexParts.load(await asyncio.to_thread(parts.read_bytes))
        return StoredRun(
            run,
            table.columns,
            table.metrics,
            self._source(index),
            self._source(search),
            listed,
            self._blobs,
            pool,
            self._matches,
            self._folder,
        )

    def _source(self, path: Path) -> str:
        """A file of a blob as an SQL source that the pool can reach."""
        stored = self._blobs.folder
        if stored is not None and self._store is not None and path.is_relative_to(stored):
            path = self._store / path.relative_to(stored)
        return parquet(path)

    async def _index(self, table: RunTable, folder: Path) -> None:
        """Make the index of a run that has none."""
        run = table.run
        assert run.results is not None
        (results,) = await self._blobs.files([run.results], folder)
        shards = [shard async for shard in self._ledger.shards(run.run_id)]
        parts = [(shard.part, int(shard.summary["cases"])) for shard in shards]
        largest = max((shard.largest_row_bytes for shard in shards), default=0)
        await index_again(self._blobs, run, results, table.columns, parts, largest)
        await forget_old_indexes(self._blobs, run)

    async def close(self) -> None:
        """Stop, and remove what was copied. Closing twice is fine."""
        for task in self._opened.values():
            task.cancel()
        await asyncio.gather(*self._opened.values(), return_exceptions=True)
        self._opened.clear()
        await self.summaries.close()
        await self._snapshots.close()
        if self._pool is not None:
            await self._pool.close()
            self._pool = None
        if self._made is not None:
            try:
                await asyncio.to_thread(self._made.close)
            except RuntimeError:  # the interpreter ends, and starts no thread any more
                self._made.close()
            self._made = None


def _name(key: str) -> str:
    return key.replace("/", "-")


def _over(run: RunRecord) -> RunRecord:
    if run.results is None and not run.is_over:
        raise RunError(
            f"Run {run.run_id} is {run.status} and has no results yet: it can be compared, sliced and "
            "asked in SQL once it has ended."
        )
    return run


def _summed_up(run: RunRecord) -> RunRecord:
    if run.results is None:
        raise RunError(
            f"Run {run.run_id} is {run.status} and has no results yet: its answers cannot be held "
            "against others."
        )
    return run

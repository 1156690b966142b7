"""Questions about the runs of a store: sums, cases, comparisons, slices, SQL, gates."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.domain.records import GATE, SWEEP
from promptlab.domain.results import CaseKey, Progress, RunRecord
from promptlab.domain.summary import Summary
from promptlab.domain.sweeps import Sweep
from promptlab.errors import RunError, RunNotFoundError, StoreDamagedError, SweepNotFoundError
from promptlab.gates import Gates
from promptlab.queries.compared import MAX_COMPARED, Compared
from promptlab.results.formats import MAX_ROWS, PLAIN_CSV, CsvStyle, ExportFormat
from promptlab.store_lab.labels import Labels
from promptlab.store_lab.runs import Runs

if TYPE_CHECKING:
    from promptlab.gates.judging import GateInputs
    from promptlab.gates.outcome import GateOutcome
    from promptlab.queries.compare import ComparePage
    from promptlab.queries.query_engine import ResultsQuery
    from promptlab.queries.ranking import Ranking
    from promptlab.queries.slices import Slices
    from promptlab.queries.sql import SqlAnswer


MOST_SWEEPS = 1_000
"""Sweeps that are looked at for a list of them."""
logger = logging.getLogger(__name__)


class Questions(Runs, Labels):
    """What is asked of runs."""

    async def summary(self, run_id: str) -> Summary:
        """The run's summary; of one that goes on or was stopped, that of its finished shards.

        Raises:
            RunNotFoundError: there is no such run.
        """
        run = await self._get(run_id)
        if run.summary:
            return Summary.from_json(run.summary)
        # One that was cancelled is worked on until what was in flight is recorded.
        active = await self._parts.runner.is_active(run)
        return await (await self._queries.get()).summaries.of(run, active=active)

    async def so_far(self, run: RunRecord) -> tuple[Progress | None, Summary | None]:
        """Return what `report.brief` needs besides a run that is not summarized: its progress, and the sum
        of its finished shards."""
        if run.summary:
            return None, None
        progress = await self.progress(run.run_id)
        try:
            return progress, await self.summary(run.run_id)
        except StoreDamagedError as error:
            logger.warning("The shards of run %s cannot be summed: %s", run.run_id, error)
            return progress, None

    async def results(self, run_id: str) -> AsyncIterator[dict[str, Any]]:
        """A run's results, one row a case (see docs/concepts.md), in order; of an
        unfinished run what there is.

        Raises:
            RunNotFoundError: there is no such run.
        """
        from promptlab.results.files import read_results  # here and below: a run does not need them to begin
        from promptlab.results.run_table import RunTable

        run = await self._get(run_id)
        async for row in read_results(await RunTable.open(self.ledger, self.blobs, run)):
            yield row

    async def cases(
        self, run_id: str, *, after: CaseKey | None = None, limit: int = MAX_ROWS
    ) -> tuple[list[dict[str, Any]], CaseKey | None]:
        """A page of a run's results, behind a case; and where the next page goes on, or
        None. See `engine.case_pages`.

        Raises:
            RunNotFoundError: there is no such run.
        """
        from promptlab.results.pages import cases_page
        from promptlab.results.run_table import RunTable

        run = await self._get(run_id)
        table = await RunTable.open(self.ledger, self.blobs, run)
        return await cases_page(table, after=after, limit=limit)

    async def export(
        self, run_id: str, path: Path, format: ExportFormat, style: CsvStyle = PLAIN_CSV
    ) -> None:
        """Write a run's results to a file, whole or not at all.

        Raises:
            RunNotFoundError: there is no such run.
        """
        from promptlab.results.export import export_results
        from promptlab.results.run_table import RunTable

        run = await self._get(run_id)
        await export_results(await RunTable.open(self.ledger, self.blobs, run), path, format, style)

    async def results_of(self, run: RunRecord) -> ResultsQuery:
        """Open the results of a run, as it is now, for pages, searches, histograms and counts.

        Raises:
            AssetNotFoundError: its dataset is gone.
            BlobNotFoundError: its files are gone.
        """
        return await (await self._queries.get()).results(run)

    async def compare(
        self,
        run_ids: Sequence[str],
        selected: Compared = Compared(),  # noqa: B008 - frozen
        *,
        sort: str = "case",
        descending: bool = False,
        offset: int = 0,
        limit: int = 25,
        text_chars: int = 600,
        at: CaseKey | None = None,
    ) -> ComparePage:
        """Compare a run, the base, with one to three others, case by case; one page of the pairs.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: a run goes on, or there are not one to three others.
            UnknownNameError: `selected` names a metric that the base does not share with another run.
        """
        if not 2 <= len(run_ids) <= MAX_COMPARED:
            raise RunError(f"A comparison is of 2 to {MAX_COMPARED} runs, not of {len(run_ids)}.")
        base, *others = [await self.get_run(run_id) for run_id in run_ids]
        page = await (await self._queries.get()).compare(
            base,
            others,
            selected,
            sort=sort,
            descending=descending,
            offset=offset,
            limit=limit,
            text_chars=text_chars,
            at=at,
        )
        return page.corrected_by(await self.labels.corrected_differences(run_ids))

    async def slices(self, run_ids: Sequence[str], column: str, margins: Mapping[str, float]) -> Slices:
        """A run, and others against it, by a dataset column.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: a run goes on, or there are none or more than three others.
            UnknownNameError: the base's dataset has no such column.
        """
        if not 1 <= len(run_ids) <= MAX_COMPARED:
            raise RunError(f"Slices are of 1 to {MAX_COMPARED} runs, not of {len(run_ids)}.")
        runs = [await self.get_run(run_id) for run_id in run_ids]
        return await (await self._queries.get()).slices(runs, column, margins)

    async def rank(
        self, sweep_id: str, *, metric: str | None = None, margins: Mapping[str, float] | None = None
    ) -> Ranking:
        """Rank the runs of a sweep.

        Raises:
            SweepNotFoundError: there is no such sweep.
            UnknownNameError: its runs have no such metric.
        """
        sweep = await self.get_sweep(sweep_id)
        runs = []
        for run_id in sweep.run_ids:
            with suppress(RunNotFoundError):
                runs.append(await self.get_run(run_id))
        return await (await self._queries.get()).rank(sweep, runs, metric, margins or {})

    async def get_sweep(self, sweep_id: str) -> Sweep:
        """Read a sweep.

        Raises:
            SweepNotFoundError: there is no such sweep.
        """
        record = await self.ledger.get_record(SWEEP, sweep_id)
        if record is None:
            raise SweepNotFoundError(sweep_id)
        return Sweep.from_json(record)

    async def list_sweeps(self, *, limit: int = 50) -> Sequence[Sweep]:
        """Read the sweeps, newest first, `limit` at most; of a store with more than 1,000, of some 1,000."""
        found = [Sweep.from_json(one) for _, one in await self.ledger.list_records(SWEEP, limit=MOST_SWEEPS)]
        return sorted(found, key=lambda sweep: sweep.created_at, reverse=True)[:limit]

    async def sql(self, run_id: str, sql: str) -> SqlAnswer:
        """Answer a question in SQL about a run's results, which are the table `cases`.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: it goes on.
            SqlError: the question is wrong, or asks for too much.
        """
        return await (await self._queries.get()).sql(await self.get_run(run_id), sql)

    async def gate(
        self, run_id: str, *, baseline: str | None = None, gates: Gates | None = None
    ) -> GateOutcome:
        """Judge whether a run keeps to its gates, and record what came of it; see `promptlab.gating`.

        Raises:
            RunNotFoundError: there is no such run, or no such baseline.
            LabelNotFoundError: the experiment has no such label.
            RunError: a run has not ended, or has no results.
            ConfigError: a check needs a baseline and none is named, or names what there is not.
        """
        from promptlab.gating import gate  # its statistics are a part of a start that a run does not need

        return await gate(self, await self.get_run(run_id), baseline, gates)

    async def gate_of(self, run_id: str) -> GateOutcome | None:
        """Read what came of a run's newest gate; None where it was not judged.

        Raises:
            RunNotFoundError: there is no such run.
        """
        await self._get(run_id)
        record = await self.ledger.get_record(GATE, run_id)
        if record is None:
            return None
        from promptlab.gates.outcome import GateOutcome

        return GateOutcome.from_json(record)

    async def gated(self, run: RunRecord, base: RunRecord | None, gates: Gates) -> GateInputs:
        """Measure what the checks of a gate look at, and say which rows were in quarantine."""
        return await (await self._queries.get()).gated(run, base, gates)

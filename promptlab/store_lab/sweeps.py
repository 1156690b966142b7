"""Sweeps of a store: the cells of a matrix, each a run, begun once however often they are asked for."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from promptlab.assets.store import AssetDraft
from promptlab.domain.assets import content_hash
from promptlab.domain.choice import checked_tags
from promptlab.domain.experiment import Experiment
from promptlab.domain.masking import traceback_of
from promptlab.domain.records import SWEEP, SWEEP_CELL, Swap
from promptlab.domain.results import RunRecord
from promptlab.domain.stopping import StopConfig
from promptlab.domain.sweeps import PREFIX, Sweep, SweepCell
from promptlab.errors import ConfigError, PromptLabError, RunBusyError, StoreBusyError
from promptlab.experiments.config import ExperimentConfig
from promptlab.experiments.matrix import SweepConfig, said
from promptlab.experiments.trust import code_of, vouch
from promptlab.gates import gates_of
from promptlab.store_lab.going_on import GoingOn
from promptlab.store_lab.questions import Questions
from promptlab.store_lab.starting import BoundExperiment, OnProgress, OnStart, new_run_id, said_of

OnSweep = Callable[[Sweep], None]
OpenCell = Callable[[], AbstractAsyncContextManager[tuple[RunRecord, BoundExperiment | None]]]
"""Opens the run of a cell, claimed and ready; without work where it is complete."""
logger = logging.getLogger(__name__)
_UNLIKE = ("prices", "hash", "warnings", "slices")
"""What of an experiment may change while it is the same cell: a newer table of prices, say."""
_TRIES = 20


class Sweeping(GoingOn, Questions):
    """Sweeps, which are runs of one experiment with several prompts, models or parameters."""

    async def sweep(
        self,
        config: SweepConfig | Mapping[str, Any],
        *,
        folder: Path | None = None,
        on_sweep: OnSweep | None = None,
        on_start: OnStart | None = None,
        on_progress: OnProgress | None = None,
        leave: bool = False,
    ) -> Sweep:
        """Check all cells of a matrix, then run them, one after the other, to their ends.

        What is done already is not done again: the same experiment has the same id, wherever it was stopped.
        A cell that cannot go on says why in its `error`, and the others go on; what a budget for all of them
        leaves is not begun.

        Args:
            config: an experiment with a `matrix`, or with several models or prompts.
            folder: what relative paths to code count from; the working folder by default.
            on_sweep: called once it is recorded, before the first call.
            on_start, on_progress, leave: as in `run`, of each run.

        Raises:
            PromptLabError: a cell is wrong (nothing is stored then).
            asyncio.CancelledError: it was stopped; the same call goes on with it.
        """
        parsed = SweepConfig.parse(config)
        sweep, works = await self._swept(parsed, folder)
        if on_sweep:
            on_sweep(sweep)

        cells = self._cells(parsed, folder, sweep, works, on_start)
        return await self._each_to_its_end(sweep.sweep_id, cells, on_progress, leave)

    async def resume_sweep(
        self,
        sweep_id: str,
        *,
        max_cost_usd: float | None = None,
        on_sweep: OnSweep | None = None,
        on_start: OnStart | None = None,
        on_progress: OnProgress | None = None,
        leave: bool = False,
    ) -> Sweep:
        """Go on with a sweep from what is recorded of it, and work on it until its runs have ended.

        Args:
            sweep_id: the sweep.
            max_cost_usd: as in `continue_sweep`.
            on_sweep, on_start, on_progress, leave: as in `sweep`.

        Raises:
            SweepNotFoundError: there is no such sweep.
            ConfigError: the budget is no sum of dollars above 0.
            asyncio.CancelledError: it was stopped; the same call goes on with it.
        """
        sweep = await self._wanted_again(sweep_id, max_cost_usd)
        if on_sweep:
            on_sweep(sweep)
        cells = [partial(self._cell_again, sweep, place, None, on_start) for place in range(len(sweep.cells))]
        return await self._each_to_its_end(sweep_id, cells, on_progress, leave)

    async def _each_to_its_end(
        self, sweep_id: str, cells: Sequence[OpenCell], on_progress: OnProgress | None, leave: bool
    ) -> Sweep:
        async def work_on(run: RunRecord, work: BoundExperiment) -> RunRecord:
            return await self._parts.runner.run(run, work, on_progress, leave=leave)

        await self._each(sweep_id, cells, work_on)
        return await self.get_sweep(sweep_id)

    async def start_sweep(
        self,
        config: SweepConfig | Mapping[str, Any],
        *,
        folder: Path | None = None,
        by: str | None = None,
    ) -> Sweep:
        """As `sweep`, but returns once it is recorded and begun: in the cloud with all of its runs, on this
        machine with the first one. `by` is who starts its runs, as `RunRecord.started_by`.

        Raises:
            PromptLabError: as in `sweep`.
        """
        parsed = SweepConfig.parse(config)
        sweep, works = await self._swept(parsed, folder)
        return await self._begin_each(sweep.sweep_id, self._cells(parsed, folder, sweep, works, by=by))

    async def continue_sweep(
        self, sweep_id: str, *, max_cost_usd: float | None = None, by: str | None = None
    ) -> Sweep:
        """Go on with a sweep from what is recorded of it: what its runs are missing, and those that have not
        begun. Returns as `start_sweep` does.

        Args:
            sweep_id: the sweep.
            max_cost_usd: another budget for all of its runs together; by default the one that it has.
            by: who starts its runs.

        Raises:
            SweepNotFoundError: there is no such sweep.
            ConfigError: the budget is no sum of dollars above 0.
        """
        sweep = await self._wanted_again(sweep_id, max_cost_usd)
        cells = [partial(self._cell_again, sweep, place, by) for place in range(len(sweep.cells))]
        return await self._begin_each(sweep_id, cells)

    async def _wanted_again(self, sweep_id: str, max_cost_usd: float | None) -> Sweep:
        """The sweep, recorded as one that goes on within a budget."""
        if max_cost_usd is not None and not 0 < max_cost_usd < math.inf:
            raise ConfigError(f"A sweep's budget is a sum of dollars above 0, not {max_cost_usd}.")
        for _ in range(_TRIES):
            was = await self.get_sweep(sweep_id)
            usd = was.max_cost_usd if max_cost_usd is None else max_cost_usd
            sweep = replace(was, cancelled=False, max_cost_usd=usd)
            if sweep == was or await self._swap_sweep(was.to_json(), sweep):
                return sweep
        raise _written_by_too_many(sweep_id)

    async def _begin_each(self, sweep_id: str, cells: Sequence[OpenCell]) -> Sweep:
        """Work on the cells in a task of its own, unless one does; return once the first run is begun."""
        if (going := self._sweeps.get(sweep_id)) is not None and not going.done():
            return await self.get_sweep(sweep_id)
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._worked_through(sweep_id, cells, begun))
        self._sweeps[sweep_id] = task
        task.add_done_callback(lambda done: self._sweep_ended(sweep_id, done))
        await asyncio.wait([task, begun], return_when=asyncio.FIRST_COMPLETED)
        if not begun.done():
            begun.cancel()
            await task
        return await self.get_sweep(sweep_id)

    async def _worked_through(
        self, sweep_id: str, cells: Sequence[OpenCell], begun: asyncio.Future[None]
    ) -> None:
        async def work_on(run: RunRecord, work: BoundExperiment) -> RunRecord:
            if await self._parts.runner.hand_over(run):
                return run
            if not begun.done():
                begun.set_result(None)
            ended = await self._parts.runner.run(run, work)
            self._tell_ended(ended)
            return ended

        await self._each(sweep_id, cells, work_on)

    def _sweep_ended(self, sweep_id: str, task: asyncio.Task[None]) -> None:
        if self._sweeps.get(sweep_id) is task:
            del self._sweeps[sweep_id]
        if not task.cancelled() and (error := task.exception()):
            logger.error("sweep %s could not be worked on\n%s", sweep_id, traceback_of(error))

    async def _swept(self, config: SweepConfig, folder: Path | None) -> tuple[Sweep, list[BoundExperiment]]:
        """Check all cells, store the assets of them that are new, and record the sweep."""
        async with AsyncExitStack() as stack:
            given = config.cells[0].config.dataset
            rows = await stack.enter_async_context(self.assets.draft(given, "dataset"))
            prepared = []
            for cell in config.cells:
                try:
                    checked = await stack.enter_async_context(self._checked(cell.config, folder, rows))
                except ConfigError as error:
                    error.args = (f"{said(cell.choices)}: {error}",)
                    raise
                prepared.append(checked)
            rows = AssetDraft(await self.assets.commit(rows), stored=True)
            for one in prepared:
                one.dataset = rows
            works = [await one.commit(self.assets) for one in prepared]
        for cell, (experiment, bindings) in zip(config.cells, works, strict=True):
            if cell.config.gates:
                columns = [column.name for column in bindings.content.columns]
                gates_of(cell.config.gates.to_json()).check_slices(
                    columns, experiment.own_scores_of_run, experiment.slices
                )
        experiments = [experiment for experiment, _ in works]
        sweep = await self._recorded_sweep(config, experiments)
        for place, (cell, experiment) in enumerate(zip(config.cells, experiments, strict=True)):
            await vouch(code_of(experiment), self.ledger, self._parts.seals)
            fields = _said(sweep, cell.config, None)
            fields["stop"] = fields["stop"] and fields["stop"].model_dump(mode="json")
            recorded = {"experiment": experiment.to_json(), "said": fields}
            await self.ledger.put_record(SWEEP_CELL, _cell_key(sweep, place), recorded)
        return sweep, works

    async def _recorded_sweep(self, config: SweepConfig, experiments: Sequence[Experiment]) -> Sweep:
        """The sweep of these cells, as it is recorded; of two that begin it at once, both have the same."""
        choices = [dict(cell.choices) for cell in config.cells]
        same = [_same(experiment) for experiment in experiments]
        sweep_id = f"{PREFIX}{content_hash({'name': config.name, 'cells': same})[:12]}"
        usd = config.cells[0].config.max_cost_usd
        for _ in range(_TRIES):
            record = await self.ledger.get_record(SWEEP, sweep_id)
            if record is None:
                now = self.clock.now()
                cells = tuple(SweepCell(run_id=new_run_id(now), choices=one) for one in choices)
                sweep = Sweep(
                    sweep_id=sweep_id, name=config.name, created_at=now, cells=cells, max_cost_usd=usd
                )
            else:
                sweep = replace(Sweep.from_json(record), cancelled=False)
                sweep = sweep if usd is None else replace(sweep, max_cost_usd=usd)
            if sweep.to_json() == record or await self._swap_sweep(record, sweep):
                return sweep
        raise _written_by_too_many(sweep_id)

    async def _swap_sweep(self, record: Mapping[str, Any] | None, sweep: Sweep) -> bool:
        return await self.ledger.swap_records([Swap(SWEEP, sweep.sweep_id, record, sweep.to_json())])

    async def _each(
        self,
        sweep_id: str,
        cells: Sequence[OpenCell],
        work_on: Callable[[RunRecord, BoundExperiment], Awaitable[RunRecord]],
    ) -> None:
        """Work on the runs that are not complete, one after the other; a cell that cannot go on is passed
        over, and its error recorded."""
        for place, opened in enumerate(cells):
            if (await self.get_sweep(sweep_id)).cancelled:
                return
            error = None
            try:
                async with opened() as (run, left):
                    if left is not None:
                        run = await work_on(run, left)
                if run.status == "budget_reached":
                    return
            except RunBusyError:
                continue  # somebody else works on it, and records what comes of it
            except PromptLabError as found:
                error = str(found)
            await self._note(sweep_id, place, error)

    def _cells(
        self,
        config: SweepConfig,
        folder: Path | None,
        sweep: Sweep,
        works: Sequence[BoundExperiment],
        on_start: OnStart | None = None,
        by: str | None = None,
    ) -> list[OpenCell]:
        """The cells as somebody gives them now."""
        return [
            partial(self._cell, sweep, place, cell.config, folder, work, on_start, by)
            for place, (cell, work) in enumerate(zip(config.cells, works, strict=True))
        ]

    @asynccontextmanager
    async def _cell(
        self,
        sweep: Sweep,
        place: int,
        config: ExperimentConfig,
        folder: Path | None,
        work: BoundExperiment,
        on_start: OnStart | None,
        by: str | None,
    ) -> AsyncIterator[tuple[RunRecord, BoundExperiment | None]]:
        """The run of a cell, claimed and ready: new, or for what it is missing."""
        run_id, usd = sweep.cells[place].run_id, sweep.max_cost_usd
        if await self.ledger.get_run(run_id) is None:

            async def make() -> BoundExperiment:
                return work

            async with self._recorded(make, _said(sweep, config, by), run_id, on_start=on_start) as new:
                yield new
            return
        again = None if self.stack is not None else config
        async with self._continued(run_id, False, (), again, folder, max_cost_usd=usd) as (run, left):
            if left is not None and on_start:
                on_start(run)
            yield run, left

    @asynccontextmanager
    async def _cell_again(
        self, sweep: Sweep, place: int, by: str | None, on_start: OnStart | None = None
    ) -> AsyncIterator[tuple[RunRecord, BoundExperiment | None]]:
        """The same, from what is recorded of the cell."""
        run_id, usd = sweep.cells[place].run_id, sweep.max_cost_usd
        if await self.ledger.get_run(run_id) is not None:
            async with self._continued(run_id, False, (), max_cost_usd=usd) as (run, left):
                if left is not None and on_start:
                    on_start(run)
                yield run, left
            return
        record = await self.ledger.get_record(SWEEP_CELL, _cell_key(sweep, place))
        if record is None:
            raise ConfigError(
                "What this run is to do was not recorded by the version that began its sweep: run the same "
                "experiment again."
            )
        fields = {**record["said"], "max_cost_usd": usd}
        fields["stop"] = StopConfig.model_validate(fields["stop"]) if fields["stop"] else None
        fields |= {"tags": tuple(fields["tags"]), "started_by": by or fields["started_by"]}
        make = partial(self._bound, Experiment.model_validate(record["experiment"]), usd)
        async with self._recorded(make, fields, run_id, on_start=on_start) as new:
            yield new

    async def _note(self, sweep_id: str, place: int, error: str | None) -> None:
        """Record why a cell cannot go on, or that it does."""
        for _ in range(_TRIES):
            record = await self.ledger.get_record(SWEEP, sweep_id)
            if record is None:
                return
            sweep = Sweep.from_json(record)
            if sweep.cells[place].error == error:
                return
            cells = list(sweep.cells)
            cells[place] = replace(cells[place], error=error and error[:2_000])
            if await self._swap_sweep(record, replace(sweep, cells=tuple(cells))):
                return

    async def cancel_sweep(self, sweep_id: str) -> Sweep:
        """Stop a sweep: no further run of it begins, and those under way are cancelled. What was answered is
        kept, and the same experiment goes on with it.

        Raises:
            SweepNotFoundError: there is no such sweep.
        """
        for _ in range(_TRIES):
            sweep = await self.get_sweep(sweep_id)
            if sweep.cancelled or await self._swap_sweep(sweep.to_json(), replace(sweep, cancelled=True)):
                break
        for run_id in sweep.run_ids:
            if await self.ledger.get_run(run_id) is not None:
                await self.cancel(run_id)
        return await self.get_sweep(sweep_id)

    async def _end_work(self) -> None:
        for task in (going := list(self._sweeps.values())):
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)
        await super()._end_work()


def _said(sweep: Sweep, config: ExperimentConfig, by: str | None) -> dict[str, Any]:
    """Return what is said of a run of a sweep."""
    tags = checked_tags((*config.tags, sweep.sweep_id))
    return said_of(config, by) | {"tags": tags, "sweep": sweep.sweep_id, "max_cost_usd": sweep.max_cost_usd}


def _cell_key(sweep: Sweep, place: int) -> str:
    return f"{sweep.sweep_id}/{place:02}"


def _written_by_too_many(sweep_id: str) -> StoreBusyError:
    return StoreBusyError(f"The record of sweep {sweep_id} is written by too many at once.")


def _same(experiment: Experiment) -> dict[str, Any]:
    """Return what makes a cell this one: contents and parameters, and no number of a version."""
    found = {name: value for name, value in experiment.to_json().items() if name not in _UNLIKE}
    for name in ("dataset", "prompt_template"):
        if found.get(name):
            found[name] = found[name]["hash"]
    return found

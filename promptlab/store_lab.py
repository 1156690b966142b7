"""The lab over a store: SQLite and files on a laptop, DynamoDB and S3 in the cloud."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.assets.store import AssetStore
from promptlab.deleting.journal import Deletion, Journal, user_name
from promptlab.deleting.projects import ProjectDeleting, Retention, again_soon, once_a_day
from promptlab.deleting.runs import RunDeleting
from promptlab.deleting.versions import VersionDeleting
from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.domain.choice import Chosen, checked_tags
from promptlab.domain.experiment import Experiment
from promptlab.domain.masking import traceback_of
from promptlab.domain.projects import DEFAULT_PROJECT, checked_project
from promptlab.domain.records import GATE
from promptlab.domain.results import FINAL, CaseKey, Progress, RunRecord, waits_for
from promptlab.domain.run_checks import checked
from promptlab.domain.summary import Summary
from promptlab.engine.batching import batched
from promptlab.engine.budget import check_budgeted, check_more, month_key, seed_month, spent_usd
from promptlab.engine.cache import check_cached, clear, size
from promptlab.engine.job import Bindings
from promptlab.errors import (
    ConfigError,
    CursorError,
    RunBusyError,
    RunChangedError,
    RunError,
    RunInUseError,
    RunNotFoundError,
    StoreDamagedError,
)
from promptlab.experiments.binding import Live, bind
from promptlab.experiments.config import ExperimentConfig
from promptlab.experiments.differences import check_unchanged
from promptlab.experiments.judges import steps_made
from promptlab.experiments.portable import check_portable
from promptlab.experiments.prepare import check_models, prepare, unlock, with_dataset, with_metrics
from promptlab.experiments.rescoring import Metrics, check_scorable, scoring_config
from promptlab.experiments.stored import look_up
from promptlab.experiments.subset import Selected, subset
from promptlab.experiments.trust import check_trusted, code_of, vouch
from promptlab.gates import GateOutcome, Gates, gates_of
from promptlab.loops import PerLoop
from promptlab.models.base import Model
from promptlab.named_files import working_folder
from promptlab.ports import Records, Sandbox
from promptlab.projects import Projects
from promptlab.queries.compared import MAX_COMPARED, Compared
from promptlab.results.export import PLAIN_CSV, CsvStyle, ExportFormat, export_results
from promptlab.results.files import read_results
from promptlab.results.pages import MAX_ROWS, cases_page
from promptlab.results.run_table import RunTable
from promptlab.run_labels import ANY, RunLabels, labels_at
from promptlab.wiring import Parts, open_parts

if TYPE_CHECKING:
    from promptlab.gates.judging import GatedMetric
    from promptlab.queries.compare import ComparePage
    from promptlab.queries.query_engine import QueryEngine, ResultsQuery
    from promptlab.queries.slices import Slices
    from promptlab.queries.sql import SqlAnswer

OnProgress = Callable[[Progress], None]
Work = tuple[Experiment, Bindings]

MAX_LOOKED_AT = 1_000
"""Runs that a filtered list looks at for one page."""
IDLE_S = 300.0
"""After so long without a question, what is kept for a project's is closed."""
LOOK_S = 1.0
"""Seconds between two looks at a run that another process works on."""
logger = logging.getLogger(__name__)
OnStart = Callable[[RunRecord], None]


class StoreLab:
    """Assets, runs and questions of one store; the contract is `promptlab.lab.Lab`."""

    goes_on = False
    """Whether a run goes on when its starter stops waiting."""

    def __init__(self, parts: Parts, *, of: StoreLab | None = None, project: str = DEFAULT_PROJECT) -> None:
        self._parts, self.project, self._whole = parts, project, of or self
        self._of_projects: dict[str, tuple[float, StoreLab]] = {}
        self.ledger, self.blobs, self.clock = parts.ledger, parts.blobs, parts.clock
        self.assets = AssetStore(parts.ledger, parts.blobs, parts.clock, parts.tidier)
        self.where, self.stack = parts.where, parts.stack
        self.journal = Journal(parts.ledger, parts.clock)
        self._deleting = RunDeleting(parts.ledger, parts.blobs, parts.clock, self.journal)
        self._started: dict[str, asyncio.Task[RunRecord]] = {}
        self.outbound = parts.outbound
        self.on_ended: Callable[[RunRecord], Awaitable[object]] | None = None
        """Told of each run that was started here (`start`, `start_resume`) when it has ended."""
        self._telling: set[asyncio.Task[object]] = set()
        self._queries = _queries(parts)
        self._closing: set[asyncio.Future[None]] = set()

    def for_project(self, name: str) -> StoreLab:
        """The lab of one project: it sees its own runs, assets, keys and cost only. Cheap, over the same
        connections; whether there is such a project is the caller's to know.

        Raises:
            ConfigError: it is no project's name, or this store has one project only.
        """
        if name == self.project:
            return self
        if self._whole is not self:
            return self._whole.for_project(name)
        if checked_project(name) == DEFAULT_PROJECT:
            return self
        if self._parts.part_of is None:
            raise ConfigError(
                f"This store has one project, {DEFAULT_PROJECT!r}: projects are of hosted labs."
            )
        self._forget_idle()
        _, lab = self._of_projects.get(name) or (
            0.0,
            StoreLab(self._parts.part_of(self._parts, name), of=self, project=name),
        )
        self._of_projects[name] = self.clock.monotonic(), lab
        return lab

    def _forget_idle(self) -> None:
        """Close what is kept for projects that nobody asked of for a while: copies of their indexes."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        now = self.clock.monotonic()
        for name, (asked_at, lab) in list(self._of_projects.items()):
            if now - asked_at > IDLE_S and not lab._started:
                del self._of_projects[name]
                closing = asyncio.ensure_future(lab._queries.aclose())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    async def of_each_project(self) -> Sequence[StoreLab]:
        """The labs of all projects of this store, the default one's first; a laptop's store has that one."""
        if self._whole._parts.part_of is None:
            return [self._whole]
        return [self._whole.for_project(project.name) for project in await self.projects.list()]

    @property
    def projects(self) -> Projects:
        """The projects of the lab."""
        return Projects(self._whole.ledger, self.clock)

    @classmethod
    def open(cls, config: Mapping[str, Any] | None = None) -> StoreLab:
        """Open the lab of a store configuration; see `wiring.open_parts`.

        Raises:
            ConfigError: the configuration is wrong.
        """
        return cls(open_parts(config))

    @property
    def sandbox_or_none(self) -> Sandbox | None:
        """What runs code that the lab keeps, if anything does."""
        return self._parts.sandbox

    def sandbox(self) -> Sandbox:
        """What runs code that the lab keeps.

        Raises:
            ConfigError: nothing does, here.
        """
        if self._parts.sandbox is None:
            raise ConfigError(self._parts.no_code)
        return self._parts.sandbox

    async def run(
        self,
        config: ExperimentConfig | Mapping[str, Any],
        *,
        folder: Path | None = None,
        on_start: OnStart | None = None,
        on_progress: OnProgress | None = None,
        leave: bool = False,
    ) -> RunRecord:
        """Check an experiment, then run it to its end.

        Args:
            config: what to run.
            folder: what relative paths to code count from; the working folder by default.
            on_start: called once the run is recorded, before the first call.
            on_progress: called whenever cases are done.
            leave: of a run in batch mode, return once all of it is submitted; `resume` collects it.

        Raises:
            PromptLabError: the experiment is wrong (nothing is stored then).
            asyncio.CancelledError: it was stopped; see `resume`.
        """
        parsed = ExperimentConfig.parse(config)
        make = partial(self._committed, parsed, folder)
        recorded = self._recorded(make, _said_of(parsed), on_start=on_start)
        async with recorded as (run, work):
            return await self._parts.runner.run(run, work, on_progress, leave=leave)

    async def start(
        self,
        config: ExperimentConfig | Mapping[str, Any],
        *,
        run_id: str | None = None,
        folder: Path | None = None,
    ) -> RunRecord:
        """As `run`, but returns once the run is recorded and begun.

        Args:
            config: what to run.
            run_id: the id to give it.
            folder: as in `run`.

        Raises:
            PromptLabError: as in `run`.
            RunExistsError: there is a run with this id.
        """
        parsed = ExperimentConfig.parse(config)
        make = partial(self._committed, parsed, folder)
        return await self._begin(self._recorded(make, _said_of(parsed), run_id))

    async def start_selected(self, run_id: str, rows: Sequence[int], *, said: str = "") -> RunRecord:
        """Start a new run of a run's experiment over some rows of its dataset; return once it is begun.

        Args:
            run_id: the run.
            rows: the numbers of the rows, rising.
            said: why these, for the description of the dataset that they become.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: one of the experiment's objects cannot be made again.
        """
        run = await self._get(run_id)
        make = partial(self._selected, run, rows, said)
        return await self._begin(self._recorded(make, {name: getattr(run, name) for name in _SAID}))

    async def _begin(self, recorded: AbstractAsyncContextManager[tuple[RunRecord, Work | None]]) -> RunRecord:
        """Leave a recorded run to whoever works elsewhere, or to a task of its own."""
        begun: asyncio.Future[RunRecord] = asyncio.get_running_loop().create_future()

        async def work_on() -> RunRecord:
            async with recorded as (run, work):
                if work is None or await self._parts.runner.hand_over(run):
                    return run
                begun.set_result(run)
                return await self._parts.runner.run(run, work)

        task = asyncio.create_task(work_on())
        await asyncio.wait([task, begun], return_when=asyncio.FIRST_COMPLETED)
        if not begun.done():
            begun.cancel()
            return await task  # handed over, or wrong
        run = begun.result()
        self._started[run.run_id] = task
        task.add_done_callback(lambda done: self._ended(run.run_id, done))
        return run

    def _ended(self, run_id: str, task: asyncio.Task[RunRecord]) -> None:
        self._started.pop(run_id, None)
        if self.on_ended and not task.cancelled() and not task.exception():
            # A task of its own: the run has ended, whatever becomes of telling so.
            telling = asyncio.ensure_future(self.on_ended(task.result()))
            self._telling.add(telling)
            telling.add_done_callback(self._told)
        if not task.cancelled() and (error := task.exception()):
            logger.error("run %s could not be worked on\n%s", run_id, traceback_of(error))

    def _told(self, telling: asyncio.Task[object]) -> None:
        self._telling.discard(telling)
        if not telling.cancelled() and (error := telling.exception()):
            logger.error("the end of a run could not be told\n%s", traceback_of(error))

    async def _committed(self, config: ExperimentConfig, folder: Path | None) -> Work:
        """Check a configuration, and store the assets of it that are new."""
        if self.stack is not None:
            check_portable(config)
        stored = await look_up(config, self.assets, self._parts.sandbox, self._parts.no_code)
        async with prepare(config, self.assets, folder or working_folder() or Path(), stored) as prepared:
            live = prepared.live
            models = live.given_models
            await self._check_budget(config.max_cost_usd, live.called, live.evaluators.values())
            if prepared.live.model is not None:
                check_cached(prepared.live.model, config.cache_days)
            await unlock(models, self._parts.secrets, self._parts.outbound)
            await check_models(models)
            prepared.metrics = await steps_made(prepared.metrics, live.evaluators, live.judges)
            return await prepared.commit(self.assets)

    async def _selected(self, run: RunRecord, rows: Sequence[int], said: str) -> Work:
        """Store some rows of a run's dataset as one of its own, for the run's experiment over it."""
        experiment = Experiment.model_validate(run.experiment)
        bindings = await self.bindings(experiment)  # what cannot work is found before anything is stored
        scorers = [evaluator for _, evaluator in bindings.evaluators]
        await self._check_budget(run.max_cost_usd, bindings.called, scorers)
        await check_models(bindings.models)
        whole = f"{experiment.dataset.name}@{experiment.dataset.version}"
        async with subset(self.assets, whole, Selected(rows), said=said) as part:
            dataset = await self.assets.create(part)
        assert isinstance(dataset, Dataset)
        experiment = with_dataset(experiment, dataset)
        return experiment, await self.bindings(experiment)

    @asynccontextmanager
    async def _recorded(
        self,
        make: Callable[[], Awaitable[Work]],
        said: Mapping[str, Any],
        run_id: str | None = None,
        *,
        on_start: OnStart | None = None,
    ) -> AsyncIterator[tuple[RunRecord, Work]]:
        """A new run, recorded and claimed; `said` are the fields of `_SAID`."""
        experiment, bindings = await make()
        if said["gates"]:
            gates_of(said["gates"]).check_columns([column.name for column in bindings.content.columns])
        now = self.clock.now()
        run = RunRecord(
            run_id=run_id or new_run_id(now),
            name=experiment.name,
            status="running",
            experiment=experiment.to_json(),
            cases=bindings.content.rows * experiment.trials,
            created_at=now,
            started_at=now,
            **said,
        )
        if run_id is not None:
            await self.ledger.add_run(run)  # of two requests with one id, one must hear that the run exists
        # Else claimed before it is recorded: who sees it running must see that somebody works on it.
        async with self._parts.runner.claimed(run.run_id):
            if run_id is None:
                await self.ledger.add_run(run)
            # As it is read again: what was given may have been written in another way.
            recorded = Experiment.model_validate(run.experiment)
            await vouch(code_of(recorded), self.ledger, self._parts.seals)
            if on_start:
                on_start(run)
            yield run, (experiment, bindings)

    async def _check_budget(
        self, usd: float | None, called: Sequence[Model | None], evaluators: Iterable[object]
    ) -> None:
        """Find out whether a run's budget, or that of the month, can be kept.

        Raises:
            ConfigError: a price is not known.
        """
        model, embedding, *others = called
        if model is not None and (usd is not None or await self.month_usd() is not None):
            check_budgeted(model, embedding, evaluators, [one for one in others if one is not None])

    async def month_usd(self) -> float | None:
        """What this project's runs may cost in a month; None: as much as they do."""
        project = await self.projects.find(self.project)
        return project.max_cost_usd_a_month if project else None

    async def clear_cache(self) -> None:
        """Forget all answers that are kept for equal requests."""
        await clear(self.ledger)

    async def cached_answers(self) -> int:
        """About how many answers are kept for equal requests."""
        return await size(self.ledger)

    async def set_month_usd(self, usd: float | None) -> None:
        """Set what this project's runs may cost in a month; None: as much as they do.

        Raises:
            ConfigError: it is no sum that makes sense.
        """
        await self.projects.edit(self.project, max_cost_usd_a_month=usd)

    async def spent_this_month(self) -> float | None:
        """What of the month's budget is spent; None where there is none."""
        if await self.month_usd() is None:
            return None
        await seed_month(self.ledger, self.clock.now())
        return await spent_usd(self.ledger, month_key(self.clock.now()))

    async def resume(
        self,
        run_id: str,
        *,
        failed: bool = False,
        errors: Sequence[str] = (),
        max_cost_usd: float | None = None,
        config: ExperimentConfig | Mapping[str, Any] | None = None,
        folder: Path | None = None,
        trust_code: bool = False,
        on_start: OnStart | None = None,
        on_progress: OnProgress | None = None,
        leave: bool = False,
    ) -> RunRecord:
        """Do what a run is missing; with `failed`, its failed cases again too. A whole run is left as it is.

        Args:
            run_id: the run.
            failed: do failed cases again, too.
            errors: do those again that failed with one of these types of error, and no others.
            max_cost_usd: another budget for the run, over all of its passes; by default the one that it has.
            config: the run's configuration, where it has objects that cannot be made from their names.
            folder: as in `run`.
            trust_code: run the code that the run names, also where it was recorded elsewhere.
            on_start: as in `run`.
            on_progress: as in `run`.
            leave: as in `run`.

        Raises:
            RunNotFoundError: there is no such run.
            RunBusyError: another process is working on it.
            UntrustedCodeError: it names code that was not recorded here by this user.
            ConfigError: one of its objects cannot be had again, or `config` differs
                in more than keys and code.
        """
        continued = self._continued(
            run_id, failed, errors, config, folder, trust_code, max_cost_usd=max_cost_usd
        )
        async with continued as (run, work):
            if work is None:
                return run
            if on_start:
                on_start(run)
            return await self._parts.runner.run(run, work, on_progress, leave=leave)

    async def start_resume(
        self,
        run_id: str,
        *,
        failed: bool = False,
        errors: Sequence[str] = (),
        max_cost_usd: float | None = None,
    ) -> RunRecord:
        """Do as `resume`, but return once the run is begun.

        Args:
            run_id: the run.
            failed: do failed cases again, too.
            errors: as in `resume`.
            max_cost_usd: as in `resume`.

        Raises:
            PromptLabError: as in `resume`.
        """
        return await self._begin(self._continued(run_id, failed, errors, max_cost_usd=max_cost_usd))

    @asynccontextmanager
    async def _continued(
        self,
        run_id: str,
        failed: bool,
        errors: Sequence[str],
        config: ExperimentConfig | Mapping[str, Any] | None = None,
        folder: Path | None = None,
        trust_code: bool = False,
        *,
        max_cost_usd: float | None = None,
    ) -> AsyncIterator[tuple[RunRecord, Work | None]]:
        """A run, claimed and ready for a further pass; without work when there is nothing to do."""
        async with self._parts.runner.claimed((await self._get(run_id)).run_id):
            run = await self._get(run_id)
            if run.unreadable:
                raise StoreDamagedError(f"Run {run_id} cannot go on. {run.unreadable}")
            experiment = Experiment.model_validate(run.experiment)
            # Of a whole run, too: who gives another experiment would take these results for its own.
            live = Live() if config is None else await self._live(run_id, experiment, config, folder)
            whole = run.status == "completed" and run.results and await self.blobs.exists(run.results)
            again = failed or bool(errors)
            open_failures = run.summary and Summary.from_json(run.summary).has_failures_of(errors)
            if whole and not (again and open_failures):
                yield run, None
                return
            if trust_code:
                await vouch(code_of(experiment, live), self.ledger, self._parts.seals)
            bindings = await self.bindings(experiment, live, trust_code=trust_code)
            usd = run.max_cost_usd if max_cost_usd is None else max_cost_usd
            scorers = [evaluator for _, evaluator in bindings.evaluators]
            await self._check_budget(usd, bindings.called, scorers)
            await check_more(self.ledger, run, usd)
            # What cannot be read would be asked, and paid for, again.
            await self.ledger.check()
            await check_models(bindings.models)
            changes: dict[str, Any] = {
                "status": "running",
                "generation": run.generation + 1,
                "started_at": self.clock.now(),
                "max_cost_usd": usd,
            }
            changes |= {"outage": None, "finished_at": None, "error": None, "summary": None, "results": None}
            if again:
                # What stopped the run is done again in any case.
                mine = run.redo_errors if run.status == "stopped" and errors else ()
                kinds = tuple(dict.fromkeys((*errors, *mine)))
                changes |= {"redo_before": run.generation + 1, "redo_errors": kinds}
            if experiment.max_failures is not None:
                changes["failed_before"] = (await self.ledger.progress(run_id)).failed
            await self.ledger.update_run(run_id, changes)
            yield await self._get(run_id), (experiment, bindings)

    async def score(
        self,
        run_id: str,
        evaluation: Metrics,
        *,
        only: Sequence[str] = (),
        max_cost_usd: float | None = None,
        folder: Path | None = None,
        on_start: OnStart | None = None,
        on_progress: OnProgress | None = None,
        leave: bool = False,
    ) -> RunRecord:
        """Score a completed run by further or other metrics, without asking its model again.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: a metric is wrong, or the run is not completed.
        """
        async with self._scored_again(run_id, evaluation, only, max_cost_usd, folder) as (run, work):
            if work is None:
                return run
            if on_start:
                on_start(run)
            return await self._parts.runner.run(run, work, on_progress)

    async def start_score(
        self,
        run_id: str,
        evaluation: Metrics,
        *,
        only: Sequence[str] = (),
        max_cost_usd: float | None = None,
    ) -> RunRecord:
        """Do as `score`, but return once the pass is begun.

        Raises:
            PromptLabError: as in `score`.
        """
        return await self._begin(self._scored_again(run_id, evaluation, only, max_cost_usd, None))

    @asynccontextmanager
    async def _scored_again(
        self,
        run_id: str,
        evaluation: Metrics,
        only: Sequence[str],
        max_cost_usd: float | None,
        folder: Path | None,
    ) -> AsyncIterator[tuple[RunRecord, Work | None]]:
        """A completed run, claimed and ready for a pass that scores it; without work where all is there."""
        async with self._parts.runner.claimed((await self._get(run_id)).run_id):
            run = await self._get(run_id)
            check_scorable(run)
            before = Experiment.model_validate(run.experiment)
            config = scoring_config(before, evaluation, only)
            if self.stack is not None:
                check_portable(config)
            stored = await look_up(config, self.assets, self._parts.sandbox, self._parts.no_code)
            async with prepare(config, self.assets, folder or working_folder() or Path(), stored) as prepared:
                live = prepared.live
                judges = [judge for pairs in live.judges.values() for _, judge in pairs]
                await unlock(judges, self._parts.secrets, self._parts.outbound)
                await check_models(judges)
                metrics = await steps_made(prepared.metrics, live.evaluators, live.judges)
            generation = run.generation + 1
            live.model = None  # as it was recorded; nobody asks it
            experiment = with_metrics(before, metrics, generation, judges)
            if experiment.evaluation == before.evaluation:
                yield run, None
                return
            # What is not new is made again from what is recorded.
            await check_trusted(code_of(before), self.ledger, self._parts.seals)
            live.codes.clear()
            bindings = await self.bindings(experiment, live, trust_code=True)
            usd = run.max_cost_usd if max_cost_usd is None else max_cost_usd
            scorers = [evaluator for _, evaluator in bindings.evaluators]
            await self._check_budget(usd, bindings.called, scorers)
            await check_more(self.ledger, run, usd)
            await self.ledger.check()
            await vouch(code_of(experiment), self.ledger, self._parts.seals)
            changes: dict[str, Any] = {
                "experiment": experiment.to_json(),
                "status": "running",
                "generation": generation,
                "score_before": generation,
                "started_at": self.clock.now(),
                "max_cost_usd": usd,
            }
            changes |= {"outage": None, "finished_at": None, "error": None, "summary": None, "results": None}
            await self.ledger.update_run(run_id, changes)
            yield await self._get(run_id), (experiment, bindings)

    async def watch(self, run: RunRecord, on_progress: OnProgress | None = None) -> RunRecord:
        """Wait for the end of a run, whichever process works on it; `on_progress` is
        called with each look at it.

        Raises:
            RunNotFoundError: there is no such run.
            asyncio.CancelledError: the caller stopped waiting; the run goes on.
        """
        while True:
            found = await self.get_run(run.run_id)
            if on_progress:
                on_progress(await self.progress(run.run_id))
            if found.status in FINAL:
                return found
            await self.clock.sleep(LOOK_S)

    async def cancel(self, run_id: str) -> RunRecord:
        """Stop a run; what was answered is kept and `resume` can go on with it. One that has ended stays as
        it is.

        Raises:
            RunNotFoundError: there is no such run.
        """
        run = await self._get(run_id)
        if await self.ledger.update_run(
            run_id,
            {"status": "cancelled", "finished_at": self.clock.now()},
            if_status={"running", "interrupted"},
        ) or (run.status == "cancelled" and await self.is_worked_on(run)):
            await self._parts.runner.cancel(run)
        return await self._get(run_id)

    async def begin_again(self, run: RunRecord) -> None:
        """Give a run that was recorded to whoever works elsewhere once more: the first time may have failed.

        Where this process does the work, or the run has ended, nothing happens.
        """
        if run.status not in FINAL:
            await self._parts.runner.hand_over(run)

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

    async def _live(
        self,
        run_id: str,
        experiment: Experiment,
        config: ExperimentConfig | Mapping[str, Any],
        folder: Path | None,
    ) -> Live:
        """Make the objects of a configuration that is a recorded experiment's."""
        parsed = ExperimentConfig.parse(config)
        stored = await look_up(parsed, self.assets, self._parts.sandbox, self._parts.no_code)
        async with prepare(parsed, self.assets, folder or working_folder() or Path(), stored) as prepared:
            check_unchanged(run_id, experiment, prepared)
            return prepared.live

    async def bindings(
        self, experiment: Experiment, live: Live | None = None, *, trust_code: bool = False
    ) -> Bindings:
        """The live objects of a recorded experiment.

        Raises:
            UntrustedCodeError: it names code that was not recorded here by this user.
            AssetNotFoundError: an asset of it is gone.
            ConfigError: one of its objects cannot be had again.
            MissingKeyError: the secret that holds its key is gone.
        """
        if not trust_code:
            await check_trusted(code_of(experiment, live), self.ledger, self._parts.seals)
        prompt = experiment.prompt_template and await self.assets.get(
            experiment.prompt_template.name,
            version=experiment.prompt_template.version,
            kind="prompt_template",
        )
        dataset = await self.assets.get(
            experiment.dataset.name, version=experiment.dataset.version, kind="dataset"
        )
        assert isinstance(dataset, Dataset)
        assert prompt is None or isinstance(prompt, PromptTemplate)
        bound = await bind(experiment, prompt, dataset, live or Live())
        await unlock(bound.models, self._parts.secrets, self._parts.outbound)
        return bound

    async def _get(self, run_id: str) -> RunRecord:
        run = await self.ledger.get_run(run_id)
        if run is None or run.deleting_since:
            raise RunNotFoundError(run_id)
        return checked(run)

    async def get_run(self, run_id: str) -> RunRecord:
        """One run, as it is now.

        Raises:
            RunNotFoundError: there is no such run.
        """
        return (await self.with_labels([await self._seen(await self._get(run_id))]))[0]

    async def with_labels(self, runs: Sequence[RunRecord]) -> list[RunRecord]:
        """Give the runs with the labels that point at them."""
        names = list({run.name for run in runs})
        found = await asyncio.gather(*(RunLabels(self.ledger).of(name) for name in names))
        known = dict(zip(names, found, strict=True))
        return [
            replace(run, labels=labels) if (labels := labels_at(known[run.name], run.run_id)) else run
            for run in runs
        ]

    async def label_run(self, run_id: str, label: str, *, was: str | None = ANY) -> RunRecord:
        """Point a label of the run's experiment at the run; it leaves the run that it pointed at before.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: the label cannot be used.
            LabelMovedError: it points at another run than `was`.
        """
        run = await self._get(run_id)
        await RunLabels(self.ledger).move(run.name, label, run_id, was=was)
        return await self.get_run(run_id)

    async def unlabel_run(self, run_id: str, label: str) -> RunRecord:
        """Take a label from the run.

        Raises:
            RunNotFoundError: there is no such run.
            LabelNotFoundError: its experiment has no such label.
            LabelMovedError: the label points at another run.
        """
        run = await self._get(run_id)
        await RunLabels(self.ledger).remove(run.name, label, was=run_id)
        return await self.get_run(run_id)

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
        return None if record is None else GateOutcome.from_json(record)

    async def gated(
        self, run: RunRecord, base: RunRecord | None, gates: Gates
    ) -> tuple[Sequence[GatedMetric], tuple[str, ...]]:
        """Measure what the checks of a gate look at, and say which rows were in quarantine."""
        return await (await self._queries.get()).gated(run, base, gates)

    async def run_labels(self, name: str) -> Mapping[str, str]:
        """Read the labels of an experiment's runs, each with the id of its run."""
        return await RunLabels(self.ledger).of(name)

    async def _seen(self, run: RunRecord) -> RunRecord:
        """A run that says it is running while nobody works on it was killed."""
        if run.status in FINAL or await self._parts.runner.is_active(run):
            return run
        # It may have ended between the two looks.
        run = await self._get(run.run_id)
        return run if run.status in FINAL else replace(run, status="interrupted")

    async def is_worked_on(self, run: RunRecord) -> bool:
        """Whether somebody still works on a run: one that is cancelled records what was in flight."""
        return await self._parts.runner.is_active(run)

    async def list_runs(
        self,
        *,
        name: str | None = None,
        chosen: Chosen = Chosen(),  # noqa: B008 - frozen
        limit: int = 100,
        cursor: str | None = None,
    ) -> tuple[list[RunRecord], str | None]:
        """Read a page of the runs that match, newest first, and the cursor of the next page or None.

        At most MAX_LOOKED_AT runs are looked at: a page may hold fewer than `limit` while there are more.

        Raises:
            CursorError: no list ended there.
        """
        found, looked_at = list[RunRecord](), 0
        while True:
            # Never more than fit: the ledger's cursor is at the end of what it gave.
            page, cursor = await self.ledger.list_runs(name=name, limit=limit - len(found), cursor=cursor)
            seen = [await self._seen(run) for run in map(checked, page) if chosen.may_match(run)]
            found += [run for run in seen if chosen.matches(run)]
            looked_at += max(len(page), 20)
            if page and chosen.is_before(page[-1].created_at):
                return await self.with_labels(found), None  # newest first: what follows is older still
            if cursor is None or len(found) >= limit or looked_at >= MAX_LOOKED_AT:
                return await self.with_labels(found), cursor

    async def edit_run(
        self,
        run_id: str,
        *,
        tags: Sequence[str] | None = None,
        archived: bool | None = None,
        was: RunRecord | None = None,
    ) -> RunRecord:
        """Replace a run's tags, or take it out of the lists and back; None leaves either as it is.

        Args:
            run_id: the run.
            tags: its tags from now on.
            archived: whether lists leave it out.
            was: the run as it was read: nothing is changed if it has other tags by now, or was archived.

        Raises:
            RunNotFoundError: there is no such run.
            RunChangedError: it is no longer what it `was`.
            ConfigError: a tag is empty or longer than 100 characters, or there are more than 50.
        """
        changes: dict[str, Any] = {}
        if tags is not None:
            changes["tags"] = checked_tags(tags)
        if archived is not None:
            changes["archived"] = archived
        await self._get(run_id)
        seen = None if was is None else {"tags": was.tags, "archived": was.archived}
        if not await self.ledger.update_run(run_id, changes, if_is=seen):
            raise RunChangedError(run_id)
        return await self.get_run(run_id)

    async def delete_run(
        self, run_id: str, *, by: str | None = None, within_s: float | None = None, one_of_many: bool = False
    ) -> bool:
        """Remove a run for good, with its answers, scores and results, and every older version of its files.

        It is out of everybody's sight first; after an interruption in the middle, the same call removes the
        rest, and so does `go_on_deleting`. Assets stay.

        Args:
            run_id: the run.
            by: who wants that, for the record of it; the user of this process by default.
            within_s: seconds to work on it at most.
            one_of_many: leave it to the caller to call `begin_to_tidy` once, after all of them.

        Returns:
            Whether all of it is gone; else the rest is left to `go_on_deleting`, as always in the cloud.

        Raises:
            RunNotFoundError: there is no such run.
            RunBusyError: somebody works on it: cancel it first.
            RunInUseError: a label points at it.
        """
        until = None if within_s is None else self.clock.monotonic() + within_s
        found = await self.ledger.get_run(run_id)
        if found is None and await self.journal.pending("run", run_id) is None:
            raise RunNotFoundError(run_id)
        if found is not None and not found.deleting_since:
            run = await self._seen(checked(found))
            if run.status not in FINAL or await self.is_worked_on(run):
                raise RunBusyError(f"Run {run_id} is {run.status}: cancel it first, then delete it.")
            if labels := labels_at(await self.run_labels(run.name), run_id):
                raise RunInUseError(
                    f"Run {run_id} is {' and '.join(labels)} of {run.name!r}: move or remove the label first "
                    f"(promptlab label {run_id} {labels[0]} --remove)."
                )
        async with self._parts.runner.claimed(run_id):
            if found is not None and not found.deleting_since:
                await self._deleting.mark(found, by or user_name())
            await (await self._queries.get()).forget(run_id)
            if self._parts.tidier is None:
                return await self._deleting.remove(run_id, until)
        if not one_of_many:
            await self.begin_to_tidy()
        return False

    async def deletions(
        self, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[Sequence[Deletion], str | None]:
        """Read a page of what was deleted in the last year, newest first, and the cursor of the next or None.

        Those that are under way come before the first page's, and are not counted in its `limit`.

        Raises:
            CursorError: no list ended there.
        """
        first = cursor is None
        if cursor is not None and (not cursor.isprintable() or not 0 < len(cursor) <= 500):
            raise CursorError(f"{cursor[:100]!r} is not where a list of deletions ended.")
        pending = [one async for one in self.journal.all_pending()] if first else []
        page = await self.journal.done(after=cursor or "", limit=limit, newest=True)
        # What it has of a person's name, and how far it is, is nobody's business.
        found = [replace(one, was=(), done_to="", hash=None, blobs=()) for one in pending]
        following = page[-1][0] if len(page) == limit else None
        return [*reversed(found), *(deletion for _, deletion in page)], following

    async def begin_to_tidy(self) -> None:
        """Have what was deleted removed soon, where another process does that."""
        if self._parts.tidier is not None:
            await self._parts.tidier.begin()

    async def go_on_deleting(self, within_s: float | None = None) -> int:
        """Remove what deletions left that were interrupted, or had too little time; give their number."""
        until = None if within_s is None else self.clock.monotonic() + within_s
        if self._whole is not self:
            return await self._gone_on(until)
        return sum([await lab._gone_on(until) for lab in await self.of_each_project()])

    async def _gone_on(self, until: float | None) -> int:
        done = 0
        while found := [deletion async for deletion in self.journal.all_pending()]:
            before = done
            for deletion in found:
                if until is not None and self.clock.monotonic() >= until:
                    return done
                done += await self._removed(deletion, until)
            if done == before:  # else there may be more by now
                break
        return done

    async def _removed(self, deletion: Deletion, until: float | None) -> bool:
        if deletion.what == "run":
            # Nobody begins a pass over a run that is marked, and two who remove it do no harm.
            return await self._deleting.remove(deletion.id, until)
        if deletion.what == "person":
            return False  # the Studio's, which alone has sessions, tokens and the audit
        if deletion.what == "project":
            return await self._project_removed(deletion, until)
        versions = VersionDeleting(self.ledger, self.blobs, self.clock, self.journal)
        await versions.finish(deletion)
        return True

    async def _project_removed(self, deletion: Deletion, until: float | None) -> bool:
        lab = self.for_project(deletion.id)
        if not await ProjectDeleting(lab.ledger, lab.blobs, self.clock).remove(deletion.by, until):
            return False
        await self.projects.forget(deletion.id)
        await self.journal.end(deletion)
        return True

    async def delete_project(self, name: str, *, by: str | None = None) -> bool:
        """Remove a project for good, with its runs, assets and files; its keys of providers stay.

        Nobody sees it from now on. After an interruption, the same call or `go_on_deleting` removes the rest.

        Returns:
            Whether all of it is gone; in the cloud it is gone within minutes.

        Raises:
            ProjectNotFoundError: there is no such project.
            RunBusyError: a run of it goes on: cancel it first.
            ConfigError: it is the default project.
        """
        whole = self._whole
        if name != DEFAULT_PROJECT and (await whole.projects.find(name)) is not None:
            going, _ = await whole.for_project(name).list_runs(
                chosen=Chosen("running", archived=None), limit=1
            )
            if going:
                raise RunBusyError(
                    f"Run {going[0].run_id} of the project {name!r} is running: cancel it first."
                )
        await whole.projects.mark(name)
        deletion = await whole.journal.begin("project", name, by or user_name())
        if whole._parts.tidier is None:
            return await whole._project_removed(deletion, None)
        await whole.begin_to_tidy()
        return False

    async def apply_retention(self, within_s: float | None = None) -> int:
        """Mark runs that ended longer ago than their project keeps them, once a day; give their number.

        `go_on_deleting` removes them.
        """
        until = None if within_s is None else self.clock.monotonic() + within_s
        marked = 0
        for project in await self.projects.list():
            if project.retention_days is None or not await once_a_day(self.ledger, project.name):
                continue
            lab = self.for_project(project.name)
            found = await Retention(lab.ledger, lab.blobs, self.clock).mark(project.retention_days, until)
            if found is None:
                await again_soon(self.ledger, project.name)
                break
            marked += found
        return marked

    async def run_ids(self) -> AsyncIterator[str]:
        """The ids of all runs, newest first."""
        cursor = None
        while True:
            # From the ledger itself: `list_runs` would look at the lock of every run.
            runs, cursor = await self.ledger.list_runs(limit=500, cursor=cursor)
            for run in runs:
                if not run.deleting_since:
                    yield run.run_id
            if cursor is None:
                return

    async def progress(self, run_id: str) -> Progress:
        """How far a run is.

        Raises:
            RunNotFoundError: there is no such run.
        """
        run: RunRecord | None = None
        with suppress(StoreDamagedError):  # its rows can be counted all the same
            run = await self._get(run_id)
        progress = await self.ledger.progress(run_id)
        if run is None:
            return progress
        if waiting := waits_for(run):
            progress = replace(progress, waiting=waiting)
        if run.status == "completed" or not in_batches(run):
            return progress
        return replace(progress, batched=await batched(self.ledger, run_id))

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
    ) -> ComparePage:
        """Compare a run, the base, with one to three others, case by case; one page of the pairs.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: a run has no results yet, or there are not one to three others.
            UnknownNameError: `selected` names a metric that the base does not share with another run.
        """
        if not 2 <= len(run_ids) <= MAX_COMPARED:
            raise RunError(f"A comparison is of 2 to {MAX_COMPARED} runs, not of {len(run_ids)}.")
        base, *others = [await self.get_run(run_id) for run_id in run_ids]
        return await (await self._queries.get()).compare(
            base,
            others,
            selected,
            sort=sort,
            descending=descending,
            offset=offset,
            limit=limit,
            text_chars=text_chars,
        )

    async def slices(self, run_ids: Sequence[str], column: str, margins: Mapping[str, float]) -> Slices:
        """A run, and others against it, by a dataset column.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: a run has no results yet, or there are none or more than three others.
            UnknownNameError: the base's dataset has no such column.
        """
        if not 1 <= len(run_ids) <= MAX_COMPARED:
            raise RunError(f"Slices are of 1 to {MAX_COMPARED} runs, not of {len(run_ids)}.")
        runs = [await self.get_run(run_id) for run_id in run_ids]
        return await (await self._queries.get()).slices(runs, column, margins)

    async def sql(self, run_id: str, sql: str) -> SqlAnswer:
        """Answer a question in SQL about a run's results, which are the table `cases`.

        Raises:
            RunNotFoundError: there is no such run.
            RunError: it has no results yet.
            SqlError: the question is wrong, or asks for too much.
        """
        return await (await self._queries.get()).sql(await self.get_run(run_id), sql)

    async def warm(self) -> None:
        """Load what the first question would wait for (DuckDB, some 200 ms)."""
        await (await self._queries.get()).warm()

    @property
    def code_refusal(self) -> str | None:
        """Why this lab takes no code of users, and what to do instead; None where it does."""
        return self._parts.no_code if self._parts.sandbox is None else None

    @property
    def records(self) -> Records:
        """Small JSON objects with an expiry: sessions, failed logins, idempotency keys. Those of the whole
        lab, whatever the project."""
        return self._whole.ledger

    def tell(self, on_job: object) -> None:
        """Tell nothing: what this lab does is done when its calls return."""

    def to_serve(self) -> StoreLab:
        """Give the lab that a Studio on this machine serves: this one."""
        return self

    async def close(self) -> None:
        """Stop what was started here, as on Ctrl-C, and close the store."""
        for _, lab in self._of_projects.values():
            await lab._end_work()
        await self._end_work()
        for part in (self._parts.runner, self._parts.secrets, self.ledger, self.blobs):
            await part.close()
        for other in (self._parts.tidier, self._parts.sandbox):
            if other is not None:
                await other.close()

    async def _end_work(self) -> None:
        for task in (started := [*self._started.values(), *self._telling]):
            task.cancel()
        await asyncio.gather(*started, return_exceptions=True)
        await self._queries.aclose()


_SAID = ("tags", "max_cost_usd", "cache_days", "commit", "gates")
"""What an experiment says of a run of it, and its resolved form does not have."""


def _said_of(config: ExperimentConfig) -> dict[str, Any]:
    said = {name: getattr(config, name) for name in _SAID}
    return said | {"gates": config.gates.to_json() if config.gates else None}


def in_batches(run: RunRecord) -> bool:
    """Whether a run is in batch mode."""
    model = run.experiment.get("model")
    return isinstance(model, Mapping) and model.get("batch") is True


def _queries(parts: Parts) -> PerLoop[QueryEngine]:
    """One query engine for each event loop, made on use."""

    async def opened() -> QueryEngine:
        # Here, for a run asks nothing: its SQL and statistics are 30 ms of a start.
        from promptlab.queries.query_engine import QueryEngine

        return QueryEngine(parts.ledger, parts.blobs)

    async def close(engine: QueryEngine) -> None:
        await engine.close()

    return PerLoop(opened, close)


def new_run_id(now: str) -> str:
    """An id that sorts by time: `20261123-091500-3f9a2c`."""
    return f"{now[:10].replace('-', '')}-{now[11:19].replace(':', '')}-{secrets.token_hex(3)}"

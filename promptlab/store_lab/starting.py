"""Runs of a store begun: checked, recorded, budgeted, worked on here or handed over."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from promptlab.assets.store import AssetDraft
from promptlab.deleting.journal import user_name
from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.domain.experiment import Experiment
from promptlab.domain.masking import traceback_of
from promptlab.domain.results import Progress, RunRecord
from promptlab.engine.budget import check_budgeted, month_key, seed_month, spent_usd
from promptlab.engine.cache import check_cached, clear, size
from promptlab.engine.job import Bindings
from promptlab.experiments.binding import Live, bind
from promptlab.experiments.config import ExperimentConfig
from promptlab.experiments.judges import steps_made
from promptlab.experiments.pinned import with_dataset
from promptlab.experiments.portable import check_portable, check_runs_answers
from promptlab.experiments.prepare import Prepared, check_models, prepare, unlock
from promptlab.experiments.stopping import stop_rule
from promptlab.experiments.stored import look_up
from promptlab.experiments.trust import check_trusted, code_of, vouch
from promptlab.gates import gates_of
from promptlab.models.base import Model
from promptlab.named_files import working_folder
from promptlab.store_lab.runs import Runs

OnProgress = Callable[[Progress], None]
OnStart = Callable[[RunRecord], None]
BoundExperiment = tuple[Experiment, Bindings]
logger = logging.getLogger(__name__)


class Starting(Runs):
    """New runs, and what they may spend."""

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
        recorded = self._recorded(make, said_of(parsed), on_start=on_start)
        async with recorded as (run, work):
            return await self._parts.runner.run(run, work, on_progress, leave=leave)

    async def start(
        self,
        config: ExperimentConfig | Mapping[str, Any],
        *,
        run_id: str | None = None,
        folder: Path | None = None,
        by: str | None = None,
    ) -> RunRecord:
        """As `run`, but returns once the run is recorded and begun.

        Args:
            config: what to run.
            run_id: the id to give it.
            folder: as in `run`.
            by: who starts it, as `RunRecord.started_by`; the user of this process by default.

        Raises:
            PromptLabError: as in `run`.
            RunExistsError: there is a run with this id.
        """
        parsed = ExperimentConfig.parse(config)
        make = partial(self._committed, parsed, folder)
        return await self._begin(self._recorded(make, said_of(parsed, by), run_id))

    async def start_selected(
        self, run_id: str, rows: Sequence[int], *, said: str = "", by: str | None = None
    ) -> RunRecord:
        """Start a new run of a run's experiment over some rows of its dataset; return once it is begun.

        Args:
            run_id: the run.
            rows: the numbers of the rows, rising.
            said: why these, for the description of the dataset that they become.
            by: as in `start`.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: one of the experiment's objects cannot be made again.
        """
        run = await self._get(run_id)
        make = partial(self._selected, run, rows, said)
        return await self._begin(
            self._recorded(make, {name: getattr(run, name) for name in _SAID} | {"started_by": by or _user()})
        )

    async def _begin(
        self, recorded: AbstractAsyncContextManager[tuple[RunRecord, BoundExperiment | None]]
    ) -> RunRecord:
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
        if not task.cancelled() and not task.exception():
            self._tell_ended(task.result())
        if not task.cancelled() and (error := task.exception()):
            logger.error("run %s could not be worked on\n%s", run_id, traceback_of(error))

    def _tell_ended(self, run: RunRecord) -> None:
        if self.on_ended:
            # A task of its own: the run has ended, whatever becomes of telling so.
            telling = asyncio.ensure_future(self.on_ended(run))
            self._telling.add(telling)
            telling.add_done_callback(self._told)

    def _told(self, telling: asyncio.Task[object]) -> None:
        self._telling.discard(telling)
        if not telling.cancelled() and (error := telling.exception()):
            logger.error("the end of a run could not be told\n%s", traceback_of(error))

    async def _committed(self, config: ExperimentConfig, folder: Path | None) -> BoundExperiment:
        """Check a configuration, and store the assets of it that are new."""
        async with self._checked(config, folder) as prepared:
            return await prepared.commit(self.assets)

    @asynccontextmanager
    async def _checked(
        self, config: ExperimentConfig, folder: Path | None, dataset: AssetDraft | None = None
    ) -> AsyncIterator[Prepared]:
        """Check a configuration; `dataset` are its rows, where they were read already. Nothing is stored."""
        if self.stack is not None:
            check_portable(config)
            check_runs_answers(config.evaluation, self.code_refusal)
        stored = await look_up(config, self.assets, self._parts.sandbox, self._parts.no_code)
        base = folder or working_folder() or Path()
        async with prepare(config, self.assets, base, stored, dataset, batches=self.batches) as prepared:
            live = prepared.live
            models = live.given_models
            await self._check_budget(config.max_cost_usd, live.called, live.evaluators.values())
            if prepared.live.model is not None:
                check_cached(prepared.live.model, config.cache_days)
            await unlock(models, self._parts.secrets, self._parts.outbound)
            await check_models(models)
            prepared.metrics = await steps_made(prepared.metrics, live.evaluators, live.judges)
            if config.stop is not None:  # before anything is stored
                await stop_rule(self.ledger, config.stop, prepared.unstored(), prepared.rows)
            yield prepared

    async def _selected(self, run: RunRecord, rows: Sequence[int], said: str) -> BoundExperiment:
        """Store some rows of a run's dataset as one of its own, for the run's experiment over it."""
        from promptlab.experiments.subset import Selected, subset

        experiment = Experiment.model_validate(run.experiment)
        await self._bound(experiment, run.max_cost_usd)  # what cannot work is found before anything is stored
        whole = f"{experiment.dataset.name}@{experiment.dataset.version}"
        async with subset(self.assets, whole, Selected(rows), said=said) as part:
            dataset = await self.assets.create(part)
        assert isinstance(dataset, Dataset)
        experiment = with_dataset(experiment, dataset)
        return experiment, await self.bindings(experiment)

    async def _bound(self, experiment: Experiment, usd: float | None) -> BoundExperiment:
        """A recorded experiment with its live objects, checked as for a new run with such a budget."""
        bindings = await self.bindings(experiment)
        await self._check_budget(usd, bindings.called, [evaluator for _, evaluator in bindings.evaluators])
        await check_models(bindings.models)
        return experiment, bindings

    @asynccontextmanager
    async def _recorded(
        self,
        make: Callable[[], Awaitable[BoundExperiment]],
        said: Mapping[str, Any],
        run_id: str | None = None,
        *,
        on_start: OnStart | None = None,
    ) -> AsyncIterator[tuple[RunRecord, BoundExperiment]]:
        """A new run, recorded and claimed; `said` are the fields of `_SAID`, and `stop` as it was given."""
        experiment, bindings = await make()
        if said["gates"]:
            columns = [column.name for column in bindings.content.columns]
            gates_of(said["gates"]).check_slices(columns, experiment.own_scores_of_run, experiment.slices)
        fields = dict(said)
        if stop := fields.pop("stop", None):
            rule = await stop_rule(self.ledger, stop, experiment, bindings.content.rows)
            fields["stop"] = rule.to_json()
        now = self.clock.now()
        run = RunRecord(
            run_id=run_id or new_run_id(now),
            name=experiment.name,
            status="running",
            experiment=experiment.to_json(),
            cases=bindings.content.rows * experiment.trials,
            created_at=now,
            started_at=now,
            **fields,
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

    async def month_usd(self) -> float | None:
        """Return what this project's runs may cost in a month; None: as much as they do."""
        project = await self.projects.find(self.project)
        return project.max_cost_usd_a_month if project else None

    async def set_month_usd(self, usd: float | None) -> None:
        """Set what this project's runs may cost in a month; None: as much as they do.

        Raises:
            ConfigError: it is no sum that makes sense.
        """
        await self.projects.edit(self.project, max_cost_usd_a_month=usd)

    async def spent_this_month(self) -> float | None:
        """Return what of the month's budget is spent; None where there is none."""
        if await self.month_usd() is None:
            return None
        await seed_month(self.ledger, self.clock.now())
        return await spent_usd(self.ledger, month_key(self.clock.now()))

    async def clear_cache(self) -> None:
        """Forget all answers that are kept for equal requests."""
        await clear(self.ledger)

    async def cached_answers(self) -> int:
        """About how many answers are kept for equal requests."""
        return await size(self.ledger)


_SAID = ("tags", "max_cost_usd", "cache_days", "commit", "gates")
"""What an experiment says of a run of it, and its resolved form does not have."""


def said_of(config: ExperimentConfig, by: str | None = None) -> dict[str, Any]:
    """Return what an experiment says of a run of it, and who starts it: `by`, or the user of this process."""
    said = {name: getattr(config, name) for name in _SAID}
    said |= {"gates": config.gates.to_json() if config.gates else None, "stop": config.stop}
    return said | {"started_by": by or _user()}


def _user() -> str:
    return f"user:{user_name()}"


def new_run_id(now: str) -> str:
    """An id that sorts by time: `20261123-091500-3f9a2c`."""
    return f"{now[:10].replace('-', '')}-{now[11:19].replace(':', '')}-{secrets.token_hex(3)}"

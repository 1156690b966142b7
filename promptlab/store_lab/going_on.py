"""Further passes over a run of a store: resumed, scored again, watched, cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from promptlab.domain.experiment import Experiment
from promptlab.domain.results import FINAL, RunRecord
from promptlab.domain.summary import Summary
from promptlab.engine.budget import check_more
from promptlab.errors import StoreDamagedError
from promptlab.experiments.binding import Live
from promptlab.experiments.config import ExperimentConfig
from promptlab.experiments.differences import check_unchanged
from promptlab.experiments.judges import steps_made
from promptlab.experiments.pinned import with_metrics
from promptlab.experiments.portable import check_portable, check_runs_answers
from promptlab.experiments.prepare import check_models, prepare, unlock
from promptlab.experiments.rescoring import Metrics, check_scorable, scoring_config
from promptlab.experiments.stored import look_up
from promptlab.experiments.trust import check_trusted, code_of, vouch
from promptlab.named_files import working_folder
from promptlab.store_lab.starting import BoundExperiment, OnProgress, OnStart, Starting

LOOK_S = 1.0
"""Seconds between two looks at a run that another process works on."""


class GoingOn(Starting):
    """Passes over runs that are recorded."""

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
    ) -> AsyncIterator[tuple[RunRecord, BoundExperiment | None]]:
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
            if run.status == "decided":
                # All other cases are done now; what was decided stays as it was.
                changes |= {"reach": None, "decided": {**(run.decided or {}), "went_on": run.generation + 1}}
            if again:
                # What stopped the run is done again in any case.
                mine = run.redo_errors if run.status == "stopped" and errors else ()
                kinds = tuple(dict.fromkeys((*errors, *mine)))
                changes |= {"redo_before": run.generation + 1, "redo_errors": kinds}
            if experiment.max_failures is not None:
                changes["failed_before"] = (await self.ledger.progress(run_id)).failed
            await self.ledger.update_run(run_id, changes)
            yield await self._get(run_id), (experiment, bindings)

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
        async with prepare(
            parsed, self.assets, folder or working_folder() or Path(), stored, batches=self.batches
        ) as prepared:
            check_unchanged(run_id, experiment, prepared)
            return prepared.live

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
    ) -> AsyncIterator[tuple[RunRecord, BoundExperiment | None]]:
        """A completed run, claimed and ready for a pass that scores it; without work where all is there."""
        async with self._parts.runner.claimed((await self._get(run_id)).run_id):
            run = await self._get(run_id)
            check_scorable(run)
            before = Experiment.model_validate(run.experiment)
            config = scoring_config(before, evaluation, only)
            if self.stack is not None:
                check_portable(config)
                check_runs_answers(config.evaluation, self.code_refusal)
            stored = await look_up(config, self.assets, self._parts.sandbox, self._parts.no_code)
            at, there = folder or working_folder() or Path(), before.evaluation
            async with prepare(
                config, self.assets, at, stored, known=there, batches=self.batches
            ) as prepared:
                live = prepared.live
                judges = [judge for pairs in live.judges.values() for _, judge in pairs]
                await unlock(judges, self._parts.secrets, self._parts.outbound)
                await check_models(judges)
                metrics = await steps_made(prepared.metrics, live.evaluators, live.judges)
            generation = run.generation + 1
            live.model = None  # as it was recorded; nobody asks it
            experiment = with_metrics(before, metrics, prepared.run_metrics, generation, judges)
            if (experiment.evaluation, experiment.run_evaluation) == (
                before.evaluation,
                before.run_evaluation,
            ):
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

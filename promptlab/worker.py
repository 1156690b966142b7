"""One step of a run in one short-lived worker: what each function of the state machine calls.

A worker keeps its connections and the runs it has seen between invocations, and nothing that a
later invocation depends on.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from math import ceil
from typing import Any

from promptlab.domain.assets import Dataset, DatasetContent, Shard
from promptlab.domain.experiment import Experiment
from promptlab.domain.masking import hide_text
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.records import LEASE
from promptlab.domain.results import HALTED, Completion, RunRecord
from promptlab.domain.summary import Summary
from promptlab.domain.tokens import ASCII_CHARS
from promptlab.engine.batching import Batching, is_through
from promptlab.engine.budget import Budget, ended_early, open_budget, reached
from promptlab.engine.cache import AnswerCache, open_cache
from promptlab.engine.evaluate import evaluate
from promptlab.engine.first_worker import PROBE_WAIT_S, FirstWorker
from promptlab.engine.halting import allowed_failures, ended, is_decided, too_many
from promptlab.engine.infer import MAX_PAUSE_S, infer
from promptlab.engine.job import Bindings, Job, Outcome
from promptlab.engine.judged_ahead import waves_of
from promptlab.engine.limited import AMinute
from promptlab.engine.limited_cloud import Together, limited_together
from promptlab.engine.limits import AdaptiveLimiter, Deadline
from promptlab.engine.outage import FIRST_PAUSE_S, Paused, outage_of
from promptlab.engine.plan import plan
from promptlab.engine.pledges import OWNER, Pledges
from promptlab.engine.processes import SANDBOX
from promptlab.engine.run_level import RunLevel
from promptlab.engine.sandboxed import SandboxPool
from promptlab.engine.stopping import Step, next_step, reach_of
from promptlab.engine.summarize import summarize
from promptlab.errors import RunNotFoundError
from promptlab.experiments.remaking import bind_run_metrics
from promptlab.experiments.stored import StoredModel
from promptlab.ports import DirectBlobs, Ledger
from promptlab.store_lab import StoreLab
from promptlab.wiring import StackSize

logger = logging.getLogger(__name__)

IN_FLIGHT = 50
"""Calls in flight in one worker at most: a shard has about as many cases."""
GATHER_S = 0.5
"""How long scores gather for one write: it rewrites all that its shard has, and is paid for by its size."""
KEPT = 8
"""Runs whose models and evaluators a worker keeps."""
LOOK_S = 5.0
"""How often a worker looks whether its run was cancelled (stopping the state machine does not reach a
function that is under way), and renews its lease."""
BEAT_S = (20.0, 30.0)
"""How old the mark that a run is worked on gets, before a worker that looks renews it."""
SLOW_ANSWER_S = 30.0
"""What an answer takes at most, as a rule: so many calls are in flight of a model whose requests a minute are
bounded as start in this time."""
LEASE_S = 15.0
"""For how long a shard belongs to a worker that does not renew it: one that was killed keeps others waiting
no longer than this."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The part of a plan that the state machine needs."""

    manifest: str
    """Its whole key, for the state machine."""
    map_prefix: str
    """Where the state machine writes what its map did."""
    shards: int
    max_concurrency: int
    """Shards to work on at once, so that all their calls in flight keep to the
    model's max_concurrent_tasks."""
    batch: bool = False
    """Whether providers' batches answer the cases, or judge their answers, first."""
    rows: int = 0
    """Of a run that is planned several times: the rows that this plan reaches."""
    more: bool = False
    """Whether there is to be another plan after it."""


@dataclass(slots=True)
class Tally:
    """The work of an invocation, for metrics."""

    cases: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    throttles: int = 0

    def count(self, completion: Completion) -> None:
        """Count one recorded completion."""
        self.cases += 1
        self.failures += completion.error is not None
        self.prompt_tokens += completion.prompt_tokens or 0
        self.completion_tokens += completion.completion_tokens or 0
        self.cost_usd += completion.cost_usd or 0.0


class Worker:
    """The steps, each for one invocation."""

    def __init__(
        self, lab: StoreLab, *, probe_wait_s: float = PROBE_WAIT_S, first_pause_s: float = FIRST_PAUSE_S
    ) -> None:
        """Work for a lab.

        Args:
            lab: the lab.
            probe_wait_s: how long the workers that a run begins with wait for the first answer to one of
                them.
            first_pause_s: how long nobody is asked where nothing answers, at first.
        """
        self._lab, self._probe_wait_s, self._first_pause_s = lab, probe_wait_s, first_pause_s
        self._max_concurrency = (lab.stack or StackSize()).max_concurrency
        self._bound: dict[str, tuple[Experiment, Bindings]] = {}
        self._months: dict[str, float | None] = {}
        self._telling = set[asyncio.Future[bool]]()
        self._first = FirstWorker(lab.ledger, lab.clock, probe_wait_s)

    def of(self, project: str) -> Worker:
        """The steps for one project, with this worker's connections and room for runs."""
        part = copy.copy(self)
        part._lab = lab = self._lab.for_project(project)
        part._first = FirstWorker(lab.ledger, lab.clock, self._probe_wait_s)
        return part

    async def close(self) -> None:
        """Close the connections to models and stores."""
        while self._bound:
            _, (_, bindings) = self._bound.popitem()
            await bindings.aclose()
        await self._lab.close()

    async def plan(self, run_id: str, generation: int, done: int = 0) -> Planned:
        """Write the manifest of the shards that have work left.

        Args:
            run_id: the run.
            generation: the pass.
            done: of a run that may end early: the rows of the plan that was just worked through.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: the run cannot be worked on here.
        """
        run = await self._run(run_id, generation)
        if _is_over(run, generation):
            return Planned("", "", 0, 1)
        await self._beat(run)
        experiment = Experiment.model_validate(run.experiment)
        content = await self._content(experiment)  # and no model, which would want its key
        ledger, blobs, model = self._lab.ledger, self._lab.blobs, experiment.model
        tokens = await tokens_of_a_call(ledger, run, content) if model.tokens_per_minute else None
        workers = at_once(model, self._max_concurrency, tokens)
        step = await next_step(ledger, blobs, run, experiment, content, done)
        ahead = experiment.judged_ahead and not experiment.model.batch
        if ahead:  # first all cases are answered, then judges are asked about them, then they are scored
            step = Step(more=not done)
        if not step.todo:
            return Planned("", "", 0, 1)
        todo = await plan(
            ledger, blobs, run, content, at_once=workers, trials=experiment.trials, reach=step.reach
        )
        manifest, prefix = todo.manifest, f"runs/{run_id}/map"
        if isinstance(blobs, DirectBlobs):
            manifest, prefix = (blobs.whole_key(key) if key else "" for key in (manifest, prefix))
        rows = step.reach.rows if step.reach else run.cases if ahead else 0
        batch = bool(experiment.model.batch or (ahead and done))
        return Planned(manifest, prefix, todo.shards, workers, batch, rows, step.more)

    async def infer(self, run_id: str, generation: int, shard: Shard, left_s: float) -> tuple[Outcome, Tally]:
        """Answer a shard's open cases, as far as `left_s` seconds allow.

        Raises:
            RunNotFoundError: there is no such run.
        """
        job, tally = await self._job(run_id, generation, left_s)
        if _is_over(job.run, generation):
            return Outcome(), tally
        async with self._held(job, shard.number) as mine:
            if not mine:
                return Outcome(remaining=shard.count, wait_s=job.time.shorten(LEASE_S)), tally
            if await self._is_late(job):
                return Outcome(), tally
            job.budget = await self._budget(job, shard)
            try:
                if (wait_s := await self._outage_wait_s(job)) > 0:
                    return Outcome(remaining=shard.count, wait_s=job.time.shorten(wait_s)), tally
                if not await self._first.may_call(job):
                    return Outcome(), tally
                job.cache = await self._cache(job)
                async with job.rate_shared():
                    with job.time.running():
                        outcome = await infer(job, shard)
                        await job.drain()
                if job.cache is not None:
                    await job.cache.close()
                if self._telling:
                    await asyncio.wait(self._telling)
                await self._look_at_failures(job)
                if job.budget is not None:
                    await job.budget.close(keep=not await self._is_early(job))
                    if job.out_of_budget:
                        outcome = Outcome()  # what was answered is scored
                if job.halted is not None:
                    await self._end(job.run, job.halted.changes(job.run))
                    outcome = Outcome()  # the state machine comes again for none of it
            finally:
                job.prospects.end()
                await job.scoring.isolation.close()
        tally.throttles = job.limiter.throttles
        return replace(outcome, wait_s=job.time.shorten(outcome.wait_s)), tally

    async def batch(self, run_id: str, generation: int, left_s: float) -> tuple[Outcome, Tally]:
        """Bring the batches of a run as far as they come within `left_s` seconds, without waiting for them.

        Raises:
            RunNotFoundError: there is no such run.
            ConfigError: the model has no batch mode here.
        """
        job, tally = await self._job(run_id, generation, left_s)
        if _is_over(job.run, generation):
            return Outcome(), tally
        assert job.run.manifest is not None
        batching = Batching(job, waves_of(job, self._lab.batches))
        async with self._held(job, "batch") as mine:
            if not mine:
                return Outcome(remaining=job.run.cases, wait_s=job.time.shorten(LEASE_S)), tally
            try:
                if await self._is_late(job):
                    return Outcome(), tally
                job.cache = await self._cache(job)
                money = await self._budget(job, owner=OWNER, recorded=batching.recorded)
                batching.pledges = None if money is None else Pledges(money)
                with job.time.running():
                    outcome = await batching.step(job.run.manifest)
                    await job.drain()
                if money is not None:
                    await money.close()
                await self._beat(job.run)
                if job.halted is not None:
                    await self._end(job.run, job.halted.changes(job.run))
                    outcome = Outcome()
            finally:
                await batching.aclose()
                await job.scoring.close()
        return replace(outcome, wait_s=job.time.shorten(outcome.wait_s)), tally

    async def evaluate(self, run_id: str, generation: int, shard: Shard, left_s: float) -> Outcome:
        """Score a shard's answers and sum the shard up.

        Raises:
            RunNotFoundError: there is no such run.
        """
        job, _ = await self._job(run_id, generation, left_s)
        if _is_over(job.run, generation):
            return Outcome()
        async with self._held(job, shard.number) as mine:
            if not mine:
                return Outcome(remaining=shard.count, wait_s=job.time.shorten(LEASE_S))
            if await self._is_late(job):
                return Outcome()
            if await self._is_early(job):
                return Outcome()
            if not await self._first.may_judge(job):
                return Outcome()
            job.budget = await self._budget(job, shard)
            job.cache = await self._cache(job)
            try:
                with job.time.running():
                    outcome = await evaluate(job, shard)
                if self._telling:
                    await asyncio.wait(self._telling)
                if job.scoring.refused.all_refused and not await self._first.is_judged(job.run):
                    job.scoring.refused.give_up()
                if job.cache is not None:
                    await job.cache.close()
                if job.budget is not None:
                    await job.budget.close(keep=bool(outcome.remaining))
                if job.halted is not None:
                    await self._end(job.run, job.halted.changes(job.run))
                    outcome = Outcome()
                return replace(outcome, wait_s=job.time.shorten(outcome.wait_s))
            finally:
                await job.scoring.close()

    async def summarize(self, run_id: str, generation: int) -> tuple[RunRecord, Summary]:
        """Sum the run up and give it its final status: failed when shards are missing.

        Raises:
            RunNotFoundError: there is no such run.
        """
        run = await self._run(run_id, generation)
        if _is_over(run, generation):
            return run, Summary()
        experiment = Experiment.model_validate(run.experiment)
        content = await self._content(experiment)
        bound, recipes = bind_run_metrics(experiment)
        pool = None
        if recipes:
            pool = SandboxPool(self._lab.sandbox(), self._lab.clock, Deadline(self._lab.clock))
        level = RunLevel(bound, recipes, sandbox=pool)
        try:
            summary = await summarize(
                self._lab.ledger, self._lab.blobs, run, content, experiment.evaluation, level
            )
        finally:
            if pool is not None:
                await pool.close()
        changes = dict(ended(run, summary))
        if why := await reached(self._lab.ledger, run):
            changes = ended_early(why).changes(run)
        elif (missing := run.cases - summary.cases) and not is_decided(run, summary):
            why = f" The last fault: {run.error}" if run.error else ""
            changes = {
                "status": "failed",
                "error": f"{missing:,} of {run.cases:,} cases are in shards that could not be finished; "
                f"resume the run once the cause is gone.{why}",
            }
        elif not experiment.model.batch:
            changes["limited_by"] = self._limited_by(run, experiment.model, summary)
        await self._end(run, changes)
        return await self._run(run_id, generation), summary

    def _limited_by(self, run: RunRecord, model: ModelConfig, summary: Summary) -> str | None:
        """Return what held the passes of a run back."""
        began = run.started_at or run.created_at
        tokens = (summary.prompt_tokens or 0) + (summary.completion_tokens or 0)
        workers = at_once(model, self._max_concurrency, tokens / max(1, summary.cases))
        return limited_together(
            Together(
                calls=summary.attempts,
                cases=summary.cases - summary.cached,
                answer_s=summary.latency_ms.mean * summary.latency_ms.n / 1000
                if summary.latency_ms.n
                else 0.0,
                wall_s=run.wall_s + max(0.0, _seconds(began, self._lab.clock.now())),
                workers=min(workers, ceil(run.cases / IN_FLIGHT)),
                in_flight=min(model.max_concurrent_tasks, IN_FLIGHT),
                maximum=model.max_concurrent_tasks,
                a_minute=AMinute(tokens, model.requests_per_minute, model.tokens_per_minute),
            )
        )

    async def fail(self, run_id: str, generation: int, reason: str, shard: int | None = None) -> None:
        """Record why a shard could not be finished, or why the run ended.

        Raises:
            RunNotFoundError: there is no such run.
        """
        run = await self._run(run_id, generation)
        if _is_over(run, generation):
            return
        if shard is not None:
            await self._lab.ledger.update_run(
                run_id, {"error": hide_text(f"shard {shard}: {reason}")}, if_status={"running"}
            )
        else:
            await self._end(run, {"status": "failed", "error": hide_text(reason)})

    async def ended(self, run_id: str, generation: int, status: str) -> None:
        """Record that the execution of a pass ended without a step of it saying so: it was stopped, timed out
        or broke."""
        run = await self._lab.ledger.get_run(run_id)
        if run is None:
            logger.warning("an execution of the unknown run %s ended with %s", run_id, status)
            return
        if run.generation > generation:
            return  # the news is late: the run has been resumed since
        words = {
            "ABORTED": ("cancelled", "the execution was stopped"),
            "TIMED_OUT": ("failed", "the execution took longer than it may"),
        }
        ended, error = words.get(status, ("failed", f"the execution ended with {status}"))
        await self._end(run, {"status": ended, "error": run.error or error})

    async def _is_early(self, job: Job) -> bool:
        """Whether judges are to be asked in batches first, before an answer is scored."""
        return job.experiment.judged_ahead and not await is_through(self._lab.ledger, job.run)

    async def _is_late(self, job: Job) -> bool:
        """Whether the time of the pass is over; then the run is ended."""
        if not job.time.is_over() or job.halted is None:
            return False
        await self._end(job.run, job.halted.changes(job.run))
        return True

    async def _outage_wait_s(self, job: Job) -> float:
        """How long to wait, in seconds, before the provider of a run is asked again, of which some worker
        found that nothing answers; 0 or less: no outage is known, or this worker is the one that asks now."""
        seen, run = job.run.outage, job.run
        if seen is None or job.outage is None:
            return 0.0
        wait_s = float(seen["ask_at"]) - time.time()
        if wait_s <= 0 and not await self._lease(
            f"{run.run_id}#{run.generation}#outage", "", only_if_absent=True
        ):
            wait_s = LOOK_S
        if wait_s <= 0:
            job.outage.go_on(_seconds(str(seen["since"]), self._lab.clock.now()), float(seen["pause_s"]))
        return wait_s

    def _record_outage(self, run: RunRecord, paused: Paused | None) -> None:
        """Tell the other workers, and whoever looks at the run, that nothing answers, or that all is well."""
        seen = paused and outage_of(paused, self._lab.clock.now())
        self._tell(run, {"outage": seen})

    def _tell(self, run: RunRecord, change: dict[str, Any]) -> None:
        """Record a change of the run while its calls go on."""
        self._keep(self._lab.ledger.update_run(run.run_id, change, if_status={"running"}))

    def _keep(self, writing: Awaitable[bool]) -> None:
        """Let something be written while the work goes on."""
        telling = asyncio.ensure_future(writing)
        self._telling.add(telling)
        telling.add_done_callback(self._told)

    async def _look_at_failures(self, job: Job) -> None:
        """Halt the run for what one worker alone cannot see: all of its calls were refused and none was
        answered before, or more cases failed in all shards together than may."""
        most, failed = job.experiment.max_failures, job.prospects.all_refused
        if job.halted is not None or not (failed or most is not None):
            return
        seen = await self._lab.ledger.progress(job.run.run_id)
        if failed and seen.done == seen.failed:
            job.prospects.give_up()
        in_pass = seen.failed - job.run.failed_before
        if most is not None and in_pass > (allowed := allowed_failures(most, job.run.cases)):
            job.halt(too_many(in_pass, job.run.cases, allowed))

    @asynccontextmanager
    async def _held(self, job: Job, part: int | str) -> AsyncIterator[bool]:
        """Whether a part of the run, a shard by its number, is this worker's alone while it works: an
        invocation that comes twice must not pay twice."""
        name, owner = f"{job.run.run_id}#{part}", uuid.uuid4().hex
        if not await self._lease(name, owner, only_if_absent=True):
            yield False
            return
        at_work = asyncio.current_task()
        assert at_work is not None
        watch = asyncio.create_task(self._watch(job, name, owner, at_work), name=f"watch {name}")
        try:
            yield True
        except asyncio.CancelledError:
            if not watch.done() or at_work.uncancel():
                raise
            # What was handed over is written first: it must not come after the deletion.
            await job.drain()
            await job.scoring.recorder.drain()
            raise RunNotFoundError(job.run.run_id) from None
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            if not job.limiter.stopped:
                await self._lab.ledger.delete_record(LEASE, name)

    async def _watch(self, job: Job, name: str, owner: str, at_work: asyncio.Task[Any]) -> None:
        """Renew the lease, until it is somebody else's or the run is over: then no further call starts.

        Where the run is being deleted, the work is given up as it is.
        """
        while True:
            await self._lab.clock.sleep(LOOK_S)
            run, lease = await asyncio.gather(
                self._lab.ledger.get_run(job.run.run_id), self._lab.ledger.get_record(LEASE, name)
            )
            if run is None or run.deleting_since:
                at_work.cancel()  # and nothing more is recorded: whoever deletes waits for this lease
                return
            if _is_over(run, job.run.generation) or (lease or {}).get("owner") != owner:
                job.limiter.stop()
                job.scoring.isolation.stop()
                return
            await self._lease(name, owner)
            await self._beat(run)

    async def _beat(self, run: RunRecord) -> None:
        """Record that the run is worked on, unless another of its workers did a moment ago.

        The workers' own chance keeps them from doing so all at once.
        """
        now = self._lab.clock.now()
        if run.beat_at is None or _seconds(run.beat_at, now) > random.uniform(*BEAT_S):
            await self._lab.ledger.update_run(run.run_id, {"beat_at": now}, if_status={"running"})

    async def _lease(self, name: str, owner: str, *, only_if_absent: bool = False) -> bool:
        return await self._lab.ledger.put_record(
            LEASE, name, {"owner": owner}, expires_at=time.time() + LEASE_S, only_if_absent=only_if_absent
        )

    async def _end(self, run: RunRecord, changes: dict[str, Any]) -> None:
        now = self._lab.clock.now()
        wall_s = run.wall_s + max(0.0, _seconds(run.started_at or run.created_at, now))
        await self._lab.ledger.update_run(
            run.run_id,
            {"outage": None, **changes, "finished_at": now, "wall_s": wall_s},
            if_status={"running"},
        )

    async def _run(self, run_id: str, generation: int) -> RunRecord:
        run = await self._lab.ledger.get_run(run_id)
        if run is None or run.generation < generation or run.deleting_since:
            raise RunNotFoundError(run_id)
        return run

    async def _content(self, experiment: Experiment) -> DatasetContent:
        dataset = await self._lab.assets.get(
            experiment.dataset.name, version=experiment.dataset.version, kind="dataset"
        )
        assert isinstance(dataset, Dataset) and dataset.content is not None
        return dataset.content

    async def _bindings(self, run: RunRecord) -> tuple[Experiment, Bindings]:
        # The hash is that of everything the run depends on; only keys come from elsewhere, and they may
        # change.
        key = f"{self._lab.project}#{run.run_id}#{run.generation}"
        if key not in self._bound:
            experiment = Experiment.model_validate(run.experiment)
            if len(self._bound) >= KEPT:
                _, old = self._bound.pop(next(iter(self._bound)))
                await old.aclose()
            self._bound[key] = experiment, await self._lab.bindings(experiment)
        return self._bound[key]

    async def _job(self, run_id: str, generation: int, left_s: float) -> tuple[Job, Tally]:
        run, tally = await self._run(run_id, generation), Tally()
        experiment, bindings = await self._bindings(run)
        clock = self._lab.clock
        in_flight = min(bindings.model.max_concurrent_tasks, IN_FLIGHT)
        limiter = AdaptiveLimiter(in_flight, clock=clock, max_pause_s=MAX_PAUSE_S)
        workers = at_once(experiment.model, self._max_concurrency)
        deadline = Deadline(clock, clock.monotonic() + left_s)
        job = Job.begin(
            self._lab.ledger,
            self._lab.blobs,
            clock,
            run=run,
            work=(experiment, bindings),
            limiter=limiter,
            deadline=deadline,
            on_record=tally.count,
            gather_s=GATHER_S,
            workers=workers,
            sandbox=self._sandbox(bindings, deadline),
            on_outage=partial(self._record_outage, run),
            first_pause_s=self._first_pause_s,
            on_proven=partial(self._record_proven, run) if workers > 1 else lambda: None,
            on_judged=lambda: self._keep(self._first.record_judged(run)),
        )
        job.reach = reach_of(run)
        return job, tally

    def _record_proven(self, run: RunRecord) -> None:
        """Record, while the calls go on, that one of this pass was answered."""
        self._tell(run, {"proven": run.generation})

    def _told(self, task: asyncio.Future[bool]) -> None:
        self._telling.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.warning("what the other workers of a run are to know was not recorded: %s", error)

    async def _cache(self, job: Job) -> AnswerCache | None:
        """Answers of before, of the run's project."""
        return await open_cache(self._lab.ledger, job.run, job.bindings.model, job.bindings.evaluators)

    async def _budget(self, job: Job, shard: Shard | None = None, **of: Any) -> Budget | None:
        """Return what the calls for a shard, or the batches of a run, may cost."""
        return await open_budget(
            self._lab.ledger,
            self._lab.clock,
            job.run,
            model=job.bindings.model,
            evaluators=job.bindings.evaluators,
            month_usd=await self._month_usd(job.run),
            shards=None if shard is None else [shard.number],
            limited=True,
            **of,
        )

    async def _month_usd(self, run: RunRecord) -> float | None:
        """Return what the project's runs may cost in a month, as it was when this worker first met the pass:
        a look for each shard is paid for."""
        key = f"{self._lab.project}/{run.run_id}/{run.generation}"
        if key not in self._months:
            while len(self._months) >= KEPT:
                del self._months[next(iter(self._months))]
            self._months[key] = await self._lab.month_usd()
        return self._months[key]

    def _sandbox(self, bindings: Bindings, deadline: Deadline) -> SandboxPool | None:
        """The sandbox, where a run has code of its users.

        Raises:
            ConfigError: there is none.
        """
        kept = any(recipe.function == SANDBOX for recipe in bindings.recipes.values())
        if not kept and not bindings.model.in_sandbox:
            return None
        pool = SandboxPool(self._lab.sandbox(), self._lab.clock, deadline)
        if isinstance(bindings.model, StoredModel):
            bindings.model.through(pool)
        return pool


def _is_over(run: RunRecord, generation: int) -> bool:
    """Whether a pass over a run has nothing to do any more."""
    return run.status in HALTED or run.generation > generation


def at_once(model: ModelConfig, max_concurrency: int, tokens: float | None = None) -> int:
    """Workers at once, so that all their calls in flight keep to the model's max_concurrent_tasks, and to the
    stack's bound; no more than its requests_per_minute and tokens_per_minute can keep busy, for a worker that
    waits for permits is paid for.

    Args:
        model: the model.
        max_concurrency: the stack's bound.
        tokens: tokens of a call, where some were answered before.
    """
    tasks = model.max_concurrent_tasks
    workers = min(max(1, tasks // min(tasks, IN_FLIGHT)), max_concurrency)
    calls: list[float] = [model.requests_per_minute] if model.requests_per_minute is not None else []
    if model.tokens_per_minute is not None and tokens:
        calls.append(model.tokens_per_minute / tokens)
    for a_minute in calls:
        busy = a_minute / 60 * SLOW_ANSWER_S / min(tasks, IN_FLIGHT)
        workers = min(workers, max(1, ceil(busy)))
    return workers


async def tokens_of_a_call(ledger: Ledger, run: RunRecord, content: DatasetContent) -> float:
    """About how many tokens a call has: those of what was answered of the run, else of its rows alone."""
    seen = await ledger.progress(run.run_id)
    if seen.done:
        return ((seen.prompt_tokens or 0) + (seen.completion_tokens or 0)) / seen.done
    return content.bytes / max(1, content.rows) / ASCII_CHARS


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()

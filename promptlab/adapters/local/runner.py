"""Runs the four steps in one asyncio process."""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from promptlab.adapters.local.descriptors import calls_that_fit
from promptlab.adapters.local.reserve import Reserve
from promptlab.adapters.local.run_locks import is_locked, take
from promptlab.adapters.local.run_progress import Counter, OnProgress, done_again
from promptlab.domain.assets import Shard
from promptlab.domain.experiment import Experiment
from promptlab.domain.masking import hide_text, traceback_of
from promptlab.domain.projects import DEFAULT_PROJECT, PROJECT, Project
from promptlab.domain.results import RunRecord, described, waits_for
from promptlab.domain.summary import Summary
from promptlab.engine.budget import Budget, open_budget
from promptlab.engine.cache import open_cache
from promptlab.engine.early import Early
from promptlab.engine.evaluate import evaluate
from promptlab.engine.halting import ended, is_decided
from promptlab.engine.infer import infer
from promptlab.engine.job import Bindings, Job
from promptlab.engine.limited import AMinute, Measured, limited_by
from promptlab.engine.limits import AdaptiveLimiter, Deadline
from promptlab.engine.outage import Paused, outage_of
from promptlab.engine.plan import plan, read_manifest
from promptlab.engine.process_child import is_child
from promptlab.engine.processes import Processes
from promptlab.engine.scoring import is_pure
from promptlab.engine.stopping import next_step
from promptlab.errors import ConfigError, PromptLabError, RunNotFoundError, StoreDamagedError
from promptlab.loading import setting_aside
from promptlab.models.base import THREADS
from promptlab.models.batches.registry import AS_DOCUMENTED, BatchModes
from promptlab.ports import Blobs, Clock, Ledger
from promptlab.results.parts import drop_broken_parts
from promptlab.results.so_far import SoFar
from promptlab.threads import Threads

if TYPE_CHECKING:
    from promptlab.engine.run_level import RunLevel

SHARD_TRIES = 3
"""How often a shard is tried before its fault is recorded with the run."""
OPEN_SHARDS = 100
"""Shards that may wait for stragglers at once: with 5% of answers 429 and Retry-After: 1, 40 are open."""
OPEN_BYTES = 64 << 20
"""Rows that may be in memory at once."""
GRACE_S = 30.0
"""After Ctrl-C: how long answers that are on their way, and will be billed, are waited for."""

logger = logging.getLogger(__name__)

CANCEL_EVERY_S = 1.0


@dataclass(slots=True)
class _Work:
    """One pass over a run: its open shards, and what went wrong."""

    job: Job
    counter: Counter
    so_far: SoFar
    open: dict[asyncio.Task[None], Shard] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    busy: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the first calls are on their way."""
    summary: Summary | None = None
    leave: bool = False
    """Whether to end once all that is open is in batches at the provider."""
    left: bool = False
    """Whether that is so."""
    scores_later: bool = False
    """Whether cases are answered now and scored later: once judges in batch mode were asked about them."""
    wall_s: float = 0.0
    """Seconds in which its shards were worked on."""
    cpu_s: float = 0.0
    """CPU seconds of this process meanwhile."""

    def run_level(self) -> RunLevel:
        """The metrics of the run as a whole, and where those of users run."""
        from promptlab.engine.run_level import RunLevel  # loaded while the first calls are answered

        of = self.job.bindings
        return RunLevel(of.of_run, of.run_recipes, self.job.scoring.isolation.processes)

    def limited_by(self) -> str | None:
        """Say what held the pass back."""
        counter, limiter, model = self.counter, self.job.limiter, self.job.experiment.model
        return limited_by(
            Measured(
                counter.calls,
                counter.answer_ms / 1000,
                self.wall_s,
                self.cpu_s,
                limiter.throttles,
                limiter.limit,
                limiter.maximum,
                limiter.pacer.heard.held,
                AMinute(counter.tokens, model.requests_per_minute, model.tokens_per_minute),
            )
        )

    async def room(self) -> None:
        """Wait until one more shard may be open, and is needed."""
        while len(self.open) >= OPEN_SHARDS or (
            self.open and sum(s.length for s in self.open.values()) >= OPEN_BYTES
        ):
            await asyncio.wait(self.open, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)  # for the callbacks of those that ended
        await self.job.limiter.hungry()


async def _settle(busy: asyncio.Event, set_aside: Callable[[], None]) -> None:
    """Load what the end of the run needs, while the first calls are answered, and set all that is loaded
    aside from the garbage collector, whose full collections held the event loop for 50 ms, ten times in
    100,000 cases.
    """
    await busy.wait()
    for module in ("duckdb", "promptlab.statistics", "promptlab.engine.summarize"):  # 130, 15 and 10 ms
        await asyncio.to_thread(importlib.import_module, module)
    await asyncio.to_thread(_open_duckdb)
    set_aside()


def _open_duckdb() -> None:
    """Open a first DuckDB, which takes twice as long as any other."""
    import duckdb

    duckdb.connect(config={"threads": 1}).close()


class LocalRunner:
    """Works on runs in this process; a lock file keeps every other process away from the same run."""

    def __init__(
        self,
        ledger: Ledger,
        blobs: Blobs,
        clock: Clock,
        locks: Path,
        batches: BatchModes = AS_DOCUMENTED,
        *,
        lock: type[FileLock] = FileLock,
    ) -> None:
        self._batch_modes, self._lock = batches, lock
        self._ledger, self._blobs, self._clock, self._locks = ledger, blobs, clock, locks
        self._working: dict[str, asyncio.Task[dict[str, object]]] = {}
        self._reserve = Reserve(locks / "reserve")
        self._telling = set[asyncio.Future[bool]]()

    async def is_active(self, run: RunRecord) -> bool:
        """Whether a process works on the run now. The system drops the lock of a killed process."""
        return await asyncio.to_thread(is_locked, self._locks / f"{run.run_id}.lock")

    async def cancel(self, run: RunRecord) -> None:
        """Stop the run if this process works on it. Any other looks every CANCEL_EVERY_S
        whether it was cancelled."""
        if task := self._working.get(run.run_id):
            task.get_loop().call_soon_threadsafe(task.cancel)

    @asynccontextmanager
    async def claimed(self, run_id: str) -> AsyncIterator[None]:
        """Hold the run for this process.

        Raises:
            RunBusyError: another process holds it.
            ConfigError: this process was started to evaluate.
            PromptLabError: the store's disk has no locks, or may not be written.
        """
        if is_child():
            raise ConfigError(
                "an evaluator's process starts no runs: put what the file does when it is loaded under "
                '`if __name__ == "__main__":`, or say isolated: false'
            )
        lock = take(self._locks, run_id, self._lock)
        try:
            await asyncio.to_thread(self._reserve.take)
            yield
        finally:
            lock.release()

    async def close(self) -> None:
        """Nothing is held between runs."""

    async def hand_over(self, run: RunRecord) -> bool:
        """False: this process does the work."""
        return False

    async def run(
        self,
        run: RunRecord,
        work: tuple[Experiment, Bindings],
        on_progress: OnProgress | None = None,
        *,
        leave: bool = False,
    ) -> RunRecord:
        """Work on a claimed run until its end. Whatever else stops it is recorded with it, as why it failed.

        Raises:
            asyncio.CancelledError: it was stopped; the run is recorded as interrupted,
                with all that was answered.
            PromptLabError: the store is gone, or cannot even take that record.
        """
        experiment, bindings = work
        started = time.monotonic()
        so_far = SoFar(self._ledger, run)
        task = asyncio.create_task(self._work(run, (experiment, bindings), on_progress, so_far, leave))
        watch = asyncio.create_task(self._watch(run, task, so_far))
        self._working[run.run_id] = task
        changes: dict[str, object] = {"status": "interrupted"}
        try:
            changes = await self._until_done(task)
        except Exception as error:  # noqa: BLE001 - recorded and logged
            changes = _failed(_said(error))
            logger.log(
                logging.WARNING if isinstance(error, (OSError, PromptLabError)) else logging.ERROR,
                "run %s failed\n%s",
                run.run_id,
                traceback_of(error),
            )
        finally:
            watch.cancel()
            del self._working[run.run_id]
            await bindings.aclose()
            await asyncio.shield(asyncio.create_task(self._end(run, changes, time.monotonic() - started)))
        ended = await self._ledger.get_run(run.run_id)
        assert ended is not None
        return ended

    async def _end(self, run: RunRecord, changes: dict[str, object], seconds: float) -> None:
        """Record how a pass ended, also where the disk has no room left.

        Raises:
            PromptLabError: the store is gone, or cannot be written at all.
        """
        try:
            await self._record_end(run, changes, seconds)
        except RunNotFoundError as error:
            raise PromptLabError(
                f"Run {run.run_id} is no longer in its store: the store was deleted or replaced while the "
                "run was "
                "worked on. No further calls were made; what was recorded before went with the store."
            ) from error
        except (OSError, PromptLabError):
            await asyncio.to_thread(self._reserve.release)
            await self._record_end(run, changes, seconds)

    async def _record_end(self, run: RunRecord, changes: dict[str, object], seconds: float) -> None:
        if self._telling:
            await asyncio.wait(self._telling)
        await self._ledger.update_run(
            run.run_id,
            {"finished_at": self._clock.now(), "wall_s": run.wall_s + seconds, "outage": None},
        )
        # Whoever cancelled the run meanwhile has the last word on its status.
        await self._ledger.update_run(run.run_id, changes, if_status={"running"})

    async def _watch(self, run: RunRecord, task: asyncio.Task[dict[str, object]], so_far: SoFar) -> None:
        """Stop the work when the run is cancelled, by whichever process, or is no longer in the store.

        Each look records how long the run has been worked on: a pass that is killed counts, too.
        """
        started = time.monotonic()
        while not task.done():
            await self._clock.sleep(CANCEL_EVERY_S)
            spent = {"wall_s": run.wall_s + time.monotonic() - started}
            try:
                goes_on = await self._ledger.update_run(run.run_id, spent, if_status={"running"})
                if goes_on:
                    await so_far.record()
            except RunNotFoundError:
                goes_on = False
            except (OSError, PromptLabError) as error:
                # Writing answers will fail, too, if it has to: what a look cannot tell must not end the
                # watch.
                logger.debug("run %s cannot be looked at: %s", run.run_id, error)
                continue
            if not goes_on:
                task.cancel()
                return

    async def _until_done(self, task: asyncio.Task[dict[str, object]]) -> dict[str, object]:
        """The result of the work; none when it was cancelled through the ledger. It gets to tidy up when we
        are cancelled."""
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            while not task.done():
                task.cancel()  # a second time: it need not wait for the calls in flight any longer
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
            raise
        return {} if task.cancelled() else task.result()

    async def _work(
        self,
        run: RunRecord,
        bound: tuple[Experiment, Bindings],
        on_progress: OnProgress | None,
        so_far: SoFar,
        leave: bool,
    ) -> dict[str, object]:
        experiment, bindings = bound
        before = await self._ledger.progress(run.run_id)
        slow = not all(is_pure(evaluator) for _, evaluator in bindings.evaluators)
        before = replace(before, scored=0 if experiment.evaluation else None)
        again = await done_again(self._ledger, run, before)
        counter = Counter(before, again, on_progress, slow_metrics=slow)
        concurrency = calls_that_fit(bindings.model.max_concurrent_tasks)
        limiter = AdaptiveLimiter(concurrency, clock=self._clock)
        budget = await self._budget(run, bindings)
        job = Job.begin(
            self._ledger,
            self._blobs,
            self._clock,
            run=run,
            work=(experiment, bindings),
            limiter=limiter,
            deadline=Deadline(self._clock),
            on_record=counter.count,
            on_scored=counter.count_scored,
            processes=Processes(),
            on_finished=so_far.add,
            on_outage=partial(self._tell_outage, run, counter),
            budget=budget,
        )
        job.cache = await open_cache(self._ledger, run, bindings.model, bindings.evaluators)
        work = _Work(job, counter, so_far, leave=leave)
        threads = Threads("promptlab-model")
        THREADS.set(threads)  # for this task and those that it makes
        with setting_aside() as set_aside:
            loading = asyncio.create_task(_settle(work.busy, set_aside))
            try:
                await self._to_the_end(work, loading)
            finally:
                threads.close()
                await job.scoring.close()
                if budget is not None:
                    await budget.close()
                if job.cache is not None:
                    await job.cache.close()
                loading.cancel()
        if job.halted is not None:
            return job.halted.changes(run)
        if work.faults:
            many = f"{len(work.faults):,} shards" if len(work.faults) > 1 else "1 shard"
            return _failed(f"{many} could not be finished; the first: {work.faults[0]}")
        if work.left:
            return {"status": "interrupted", "error": None}
        assert work.summary is not None
        return {**ended(job.run, work.summary), "limited_by": work.limited_by()}

    def _tell_outage(self, run: RunRecord, counter: Counter, paused: Paused | None) -> None:
        """Say in the progress, and in the run's record for whoever looks from elsewhere, that nothing
        answers."""
        seen = outage_of(paused, self._clock.now()) if paused else None
        counter.wait_for(waits_for(replace(run, outage=seen)))
        telling = asyncio.ensure_future(self._ledger.update_run(run.run_id, {"outage": seen}))
        self._telling.add(telling)
        telling.add_done_callback(self._told)

    def _told(self, telling: asyncio.Future[bool]) -> None:
        self._telling.discard(telling)
        if not telling.cancelled() and (error := telling.exception()):
            logger.debug("an outage was not recorded: %s", error)

    async def _budget(self, run: RunRecord, bindings: Bindings, **of: Any) -> Budget | None:
        """Return what the run's calls may cost: its own budget, and that of this store for the month."""
        project = await self._ledger.get_record(PROJECT, DEFAULT_PROJECT)
        return await open_budget(
            self._ledger,
            self._clock,
            run,
            model=bindings.model,
            evaluators=bindings.evaluators,
            month_usd=Project.from_json(project).max_cost_usd_a_month if project else None,
            **of,
        )

    async def _to_the_end(self, work: _Work, loading: asyncio.Task[None]) -> None:
        """Finish the shards, then summarize; with a shard at fault not, for no results file may stand for a
        part of a run."""
        run, content, metrics = work.job.run, work.job.bindings.content, work.job.experiment.evaluation
        for again in (False, True):
            # What a pass of before left behind may have been lost since.
            old = again or run.generation > 0
            parts = set(await self._blobs.keys(f"runs/{run.run_id}/parts/")) if old else None
            if not await self._steps(work, parts):
                return
            work.busy.set()
            await loading
            import duckdb  # not before: these are loaded while the first calls are answered

            from promptlab.engine.summarize import summarize

            if work.faults or work.job.halted is not None:
                return
            if work.job.out_of_budget:
                # All that was answered is scored: the run is whole so far.
                work.job.halt(work.job.budget_halt())
                if not work.so_far.cases:
                    return
            try:
                work.summary = summary = await summarize(
                    self._ledger, self._blobs, run, content, metrics, work.run_level()
                )
            except (PromptLabError, duckdb.Error):
                if again or not await drop_broken_parts(self._ledger, self._blobs, run):
                    raise
                continue
            break
        if summary.cases < run.cases and not work.job.out_of_budget and not is_decided(work.job.run, summary):
            work.faults.append(f"{run.cases - summary.cases:,} cases are in no shard's summary")
            await self._ledger.update_run(run.run_id, {"summary": None, "results": None})

    async def _steps(self, work: _Work, parts: set[str] | None) -> bool:
        """Do the cases: in one step, or of a run that may end early in several, until it is decided. False
        where the run ends before they are done, with nothing to sum up."""
        job, content, done = work.job, work.job.bindings.content, 0
        while True:
            step = await next_step(self._ledger, self._blobs, job.run, job.experiment, content, done)
            if job.run.stop is not None:
                found = await self._ledger.get_run(job.run.run_id)
                assert found is not None
                job.run, job.reach = found, step.reach
            if not step.todo:
                return True
            work.so_far.begin()
            todo = await plan(
                self._ledger,
                self._blobs,
                job.run,
                content,
                trials=job.experiment.trials,
                parts=parts,
                on_finished=work.so_far.keep,
                reach=step.reach,
            )
            work.counter.begin_scoring(todo.answered)
            if not await self._pass(work, todo.manifest):
                return False
            if step.more:
                work.counter.tell()  # of the last scores: no further case tells them
            if not step.more or work.faults or job.halted is not None or job.out_of_budget:
                return True
            assert step.reach is not None
            done, parts = step.reach.rows, None

    async def _pass(self, work: _Work, manifest: str) -> bool:
        """Work through what was planned, and count the time that it took."""
        of = work.job.experiment
        with work.job.time.running():
            if of.judged_ahead and not of.model.batch:
                work.scores_later = True
                await self._shards(work, manifest)
                work.scores_later = False
            if (of.judged_ahead or of.model.batch) and not await self._batches(work, manifest):
                return False
            await self._shards(work, manifest)
        return True

    async def _batches(self, work: _Work, manifest: str) -> bool:
        """Have the providers' batches answer what is in batch mode, and wait for those; False where the run
        ends before they do."""
        from promptlab.engine.batching import Batching  # most runs have no use for it
        from promptlab.engine.judged_ahead import waves_of
        from promptlab.engine.pledges import OWNER, Pledges

        job = work.job
        if job.halted is not None or work.faults:
            return False
        batching = Batching(job, waves_of(job, self._batch_modes))
        if job.budget is not None:  # what scores need is for their batches, too
            await job.budget.give_back()
        money = await self._budget(job.run, job.bindings, owner=OWNER, recorded=batching.recorded)
        before = 0.0 if money is None else await batching.recorded(of_cases=True)
        batching.pledges = None if money is None else Pledges(money)
        try:
            while True:
                left = await batching.step(manifest)
                work.counter.set_batched(batching.state if left.remaining else None)
                if not left.remaining:
                    if job.budget is not None and money is not None:
                        job.budget.rebase(await batching.recorded(of_cases=True) - before)
                        if money.reached is not None:
                            job.budget.give_up(money.reached)
                    return True
                if work.leave and batching.is_submitted:
                    work.left = True
                    return False
                if job.limiter.stopped:
                    if job.halted is None:
                        work.faults.append("answers of a batch could not be written")
                    return False
                await job.limiter.pause(job.time.shorten(left.wait_s), self._clock)
        finally:
            await job.drain()
            await batching.aclose()
            if money is not None:
                await money.close()

    async def _shards(self, work: _Work, manifest: str) -> None:
        """Work through the shards, and count the time that it took."""
        begun, busy = time.monotonic(), time.process_time()
        if work.job.budget is not None:
            work.job.budget.scores_later = work.scores_later
        async with work.job.rate_shared():
            await self._open_all(work, manifest)
        work.wall_s += time.monotonic() - begun
        work.cpu_s += time.process_time() - busy

    async def _open_all(self, work: _Work, manifest: str) -> None:
        """Work through the shards. More are opened whenever calls could start, so that the stragglers of some
        hold up nobody."""
        job, of = work.job, work.job.experiment
        in_batches = of.model.batch or (of.judged_ahead and not work.scores_later)
        job.prospects.begin()
        try:
            async for shard in read_manifest(self._blobs, manifest):
                await work.room()
                # What came in batches waits to be scored, also where no further one may be paid for.
                if job.limiter.stopped or (job.out_of_budget and not in_batches):
                    break
                await self._open(work, shard)
            while work.open:
                await asyncio.wait(work.open)
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            job.limiter.stop()
            await job.scoring.stop(GRACE_S)
            raise
        finally:
            job.prospects.end()
            tasks = list(work.open)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await job.drain()
            await job.scoring.recorder.drain()

    async def _open(self, work: _Work, shard: Shard) -> None:
        """Begin a shard; return once its calls wait for their turn, or it is done."""
        queued = asyncio.Event()
        task = asyncio.create_task(self._finish(work, shard, queued.set))
        work.open[task] = shard
        task.add_done_callback(work.open.pop)
        task.add_done_callback(lambda done: queued.set())
        await queued.wait()
        work.busy.set()

    async def _finish(self, work: _Work, shard: Shard, on_queued: Callable[[], None]) -> None:
        """Do a shard, again where its store failed; record its fault if that does not help."""
        for attempt in range(1, SHARD_TRIES + 1):
            try:
                await self._shard(work, shard, on_queued)
                return
            except Exception as error:  # noqa: BLE001 - logged, and recorded once the tries are over
                logger.warning(
                    "run %s shard %d, try %d of %d", work.job.run.run_id, shard.number, attempt, SHARD_TRIES
                )
                logger.debug("the cause: %s", traceback_of(error))
                cause = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
                if isinstance(cause, StoreDamagedError):
                    # What cannot be read would be asked, and paid for, again: in this shard and in all
                    # others.
                    work.job.limiter.stop()
                if attempt == SHARD_TRIES or work.job.limiter.stopped:
                    work.faults.append(f"shard {shard.number}: {_said(cause)}")
                    return
            await self._clock.sleep(0.2 * 2**attempt)

    async def _shard(self, work: _Work, shard: Shard, on_queued: Callable[[], None]) -> None:
        job, read = work.job, -1
        while True:
            async with Early(job, shard) as early:
                left = await infer(job, shard, on_queued=on_queued, on_answered=early.answered)
            if work.scores_later:
                if not left.remaining or job.out_of_budget:
                    return
            elif not left.remaining or job.budget is not None:
                scored = await evaluate(job, shard)
                if not scored.remaining:
                    return
                if job.budget is None:
                    read = await self._read_back(job, shard, read)
            if job.limiter.stopped:
                return
            if job.budget is not None:
                await job.budget.change()
            await self._clock.sleep(left.wait_s)

    async def _read_back(self, job: Job, shard: Shard, before: int) -> int:
        """How many rows of a shard can be read, once all that were asked for are written.

        Raises:
            StoreDamagedError: answers are missing, or no row was added since there were `before`.
        """
        answers = len(await self._ledger.get_completions(job.run.run_id, shard.number))
        rows = answers + len(await self._ledger.get_scores(job.run.run_id, shard.number))
        expected = job.expected(shard)
        if job.limiter.stopped:
            return rows
        if answers < expected or rows <= before:
            raise StoreDamagedError(
                f"of {expected:,} answers that were written the store gives back {answers:,}: it is damaged. "
                "Check it with: promptlab doctor"
            )
        return rows


def _said(error: BaseException) -> str:
    """An error in words; our own are sentences already."""
    return hide_text(str(error)) if isinstance(error, PromptLabError) else described(error)


def _failed(reason: str) -> dict[str, object]:
    """The end of a run that failed."""
    return {
        "status": "failed",
        "error": f"{reason.rstrip('.')}. Resume the run once the cause is gone.",
        "summary": None,
        "results": None,
    }

"""The job that the steps of one run share in one process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from promptlab.domain.assets import DatasetContent, Shard
from promptlab.domain.chat import Prompt
from promptlab.domain.experiment import Experiment, Metric, RunMetricSpec
from promptlab.domain.results import Completion, Failure, RunRecord, ScoreSet, described
from promptlab.domain.stopping import Reach
from promptlab.domain.summary import Summary
from promptlab.domain.turns import Turn
from promptlab.engine.budget import Budget, ended_early
from promptlab.engine.cache import AnswerCache
from promptlab.engine.halting import Halt, Prospects
from promptlab.engine.isolation import Isolation
from promptlab.engine.limits import AdaptiveLimiter, Deadline, ScoringLimits, models_of
from promptlab.engine.outage import FIRST_PAUSE_S, OUTAGE_S, Outage, Paused
from promptlab.engine.pass_time import PassTime
from promptlab.engine.permits import permits_for
from promptlab.engine.processes import Processes, Recipe
from promptlab.engine.refused_scores import RefusedScores
from promptlab.engine.shared_rate import SharedRate
from promptlab.engine.side_loop import is_beside
from promptlab.engine.user_code import apart, in_time
from promptlab.evaluators.base import Evaluator
from promptlab.models.base import Model
from promptlab.models.media import MediaReader
from promptlab.ports import Blobs, Clock, Ledger
from promptlab.threads import Threads

if TYPE_CHECKING:
    from promptlab.engine.sandboxed import SandboxPool

Row = dict[str, Any]
logger = logging.getLogger(__name__)

R = TypeVar("R", Completion, ScoreSet, Turn)

CLOSE_S = 5.0
"""How long a model may take to close its connections."""
WRITE_PAUSES_S = (0.5, 2.0)
"""Before each further try to write what could not be written."""
MAX_BATCH = 25
"""Completions, or score sets, in one write: what DynamoDB takes, and so few that those who waited for it do
not all want the event loop at once."""


@dataclass(slots=True)
class Bindings:
    """The live objects that an experiment names."""

    model: Model
    """The model; for an agent, the agent as one."""
    messages: Callable[[Row], Awaitable[Prompt]]
    """A row's rendered prompt; for an agent, one message that stands for the row."""
    content: DatasetContent
    evaluators: Sequence[tuple[Metric, Evaluator]]
    embedding_model: Model | None = None
    simulated_user: Model | None = None
    """The model that says the user's part of conversations."""
    persona: Callable[[Row], Awaitable[Sequence[dict[str, str]]]] | None = None
    """A row's rendered system message for it."""
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    """How processes make the evaluators that were given by name, or are to be isolated; by metric."""
    judges: Sequence[Model] = ()
    """The models of the metrics' `judge`."""
    of_run: Sequence[tuple[RunMetricSpec, Evaluator]] = ()
    """The metrics of the run as a whole."""
    run_recipes: Mapping[str, Recipe] = field(default_factory=dict)
    """How processes make those of them that are a user's own, by metric."""
    parts: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    """The metrics that one evaluation gives the scores of, by evaluator: see `parts_of`."""

    @property
    def called(self) -> tuple[Model | None, ...]:
        """The models that the run itself calls; its metrics' are their own."""
        return (self.model, self.embedding_model, self.simulated_user)

    @property
    def models(self) -> list[Model]:
        """The models that the experiment names, each of which must be callable."""
        return [one for one in (*self.called, *self.judges) if one is not None]

    async def aclose(self) -> None:
        """Release the connections of the models, also of those that evaluators hold; what goes wrong with
        that is logged."""
        held = (model for _, evaluator in self.evaluators for model in models_of(evaluator))
        for model in {id(m): m for m in (*self.models, *held) if m is not None}.values():
            try:
                if not model.runs_user_code:
                    await in_time(model.aclose, CLOSE_S)
                if model.runs_user_code or is_beside():  # where code of users used it
                    await apart(model.aclose, CLOSE_S)
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError) and cancelled_from_outside():
                    raise
                logger.warning("the connections of %s could not be closed: %s", model.name, described(error))


@dataclass(slots=True)
class Job:
    """One run, in one process: what every step is given."""

    ledger: Ledger
    blobs: Blobs
    clock: Clock
    run: RunRecord
    experiment: Experiment
    bindings: Bindings
    limiter: AdaptiveLimiter
    recorder: Recorder[Completion]
    turns: Recorder[Turn]
    deadline: Deadline
    scoring: Scoring
    on_finished: Callable[[int, Summary], None]
    prospects: Prospects
    time: PassTime
    """How long the pass may take."""
    outage: Outage | None = None
    """Watches whether the provider is there; None for a user's own code, or where no outage is waited out."""
    workers: int = 1
    """How many workers work on the run at the same time."""
    halted: Halt | None = None
    """Why the run ends before all of its cases are done; None while it goes on."""

    budget: Budget | None = None
    """What the calls may cost; None where nobody bounds that."""
    cache: AnswerCache | None = None
    """Answers of before; None where the run has none."""
    reach: Reach | None = None
    """The cases that may be done by now, of a run that may end early; None for all."""
    _media: MediaReader | None = None

    @property
    def media(self) -> MediaReader:
        """Reads the media of calls."""
        if self._media is None:
            self._media = MediaReader(self.blobs)
        return self._media

    def wants(self, case: int) -> bool:
        """Whether a dataset row is to be done by now."""
        return self.reach is None or self.reach.holds(case)

    def expected(self, shard: Shard) -> int:
        """How many cases of a shard are to be done by now."""
        rows = shard.count if self.reach is None else self.reach.count(shard.first, shard.count)
        return rows * self.experiment.trials

    def budget_halt(self) -> Halt:
        """How a run ends whose budget is reached."""
        assert self.budget is not None and self.budget.reached is not None
        return ended_early(self.budget.reached)

    def halt(self, halt: Halt) -> None:
        """End the run early: no further call or evaluation starts, and those in flight end and are recorded.

        The first reason stays. Whoever runs the job records it with the run, which can be resumed.
        """
        if self.halted is None:
            self.halted = halt
            self.limiter.stop()
            self.scoring.limits.stop()
            self.scoring.isolation.stop()

    def rate_shared(self) -> AbstractAsyncContextManager[None]:
        """In the block, the rate that is learned of the model is shared with all who work on this ledger."""
        model = self.bindings.model
        if model.runs_user_code or model.in_sandbox:
            return nullcontext()
        return SharedRate(self.ledger, self.clock, model.counted_by, self.limiter.pacer).shared()

    async def drain(self) -> None:
        """Wait until all answers that were handed over are written, or their callers know why not."""
        await self.turns.drain()
        await self.recorder.drain()

    @property
    def out_of_budget(self) -> bool:
        """Whether no further call may be paid for."""
        return self.budget is not None and self.budget.reached is not None

    @classmethod
    def begin(
        cls,
        ledger: Ledger,
        blobs: Blobs,
        clock: Clock,
        *,
        run: RunRecord,
        work: tuple[Experiment, Bindings],
        limiter: AdaptiveLimiter,
        deadline: Deadline,
        on_record: Callable[[Completion], None],
        on_scored: Callable[[int, int], None] = lambda shard, cases: None,
        on_finished: Callable[[int, Summary], None] = lambda shard, summary: None,
        gather_s: float = 0.0,
        workers: int = 1,
        processes: Processes | None = None,
        sandbox: SandboxPool | None = None,
        on_proven: Callable[[], None] = lambda: None,
        on_judged: Callable[[], None] = lambda: None,
        on_outage: Callable[[Paused | None], None] = lambda paused: None,
        first_pause_s: float = FIRST_PAUSE_S,
        budget: Budget | None = None,
    ) -> Job:
        """Begin to work on a run in this process.

        Args:
            on_record: told of each completion once it is durable.
            on_scored: told a shard's number and how many of its cases are scored, whenever that grows.
            on_finished: told a shard's number and its summary, once that is recorded.
            gather_s: how long scores gather for one write, where a write costs money.
            workers: how many workers work on the run at the same time.
            processes: where evaluators run that can be sent there; without any, all run in this process.
            sandbox: where code runs that the lab keeps.
            on_proven: called when a call is known to be answered in this pass, unless that was known before.
            on_judged: called when a model of a metric has answered for the first time.
            on_outage: told while nothing answers, and when that is over (None).
            first_pause_s: between the first two askings of an outage, in seconds.
            budget: what the calls may cost.
        """
        experiment, bindings = work

        def halt(reason: Halt) -> None:
            job.halt(reason)

        limiter.share(permits_for(bindings.model, ledger, clock))
        limits = ScoringLimits(bindings.model, limiter, clock=clock, workers=workers, ledger=ledger)
        job = cls(
            ledger=ledger,
            blobs=blobs,
            clock=clock,
            run=run,
            experiment=experiment,
            bindings=bindings,
            limiter=limiter,
            recorder=Recorder(
                lambda batch: ledger.put_completions(run.run_id, batch), limiter, clock, on_record
            ),
            turns=Recorder(lambda batch: ledger.put_turns(run.run_id, batch), limiter, clock),
            deadline=deadline,
            scoring=Scoring(
                limits=limits,
                recorder=Recorder(
                    lambda batch: ledger.put_scores(run.run_id, batch), limiter, clock, gather_s=gather_s
                ),
                isolation=Isolation(bindings.recipes, processes, sandbox),
                tell=on_scored,
                refused=RefusedScores(halt, by_request=experiment.max_failures is None, on_proven=on_judged),
            ),
            on_finished=on_finished,
            workers=workers,
            prospects=Prospects(
                limiter,
                halt,
                clock,
                cases=run.cases,
                max_failures=experiment.max_failures,
                is_own=bindings.model.runs_user_code or bindings.model.in_sandbox,
                is_proven=run.proven == run.generation,
                on_proven=on_proven,
            ),
            time=PassTime(run, experiment.run_deadline_s, halt, clock),
            budget=budget,
        )
        model = bindings.model
        outage_s = OUTAGE_S if model.config.outage_s is None else model.config.outage_s
        if outage_s > 0 and not (model.runs_user_code or model.in_sandbox):
            job.outage = Outage(
                limiter,
                halt,
                clock,
                outage_s=outage_s,
                first_pause_s=first_pause_s,
                on_change=on_outage,
                before=job.prospects.open,
            )
        return job


@dataclass(slots=True)
class Scoring:
    """How the evaluations of one run are bounded and recorded: for all of its shards together."""

    limits: ScoringLimits
    recorder: Recorder[ScoreSet]
    isolation: Isolation
    tell: Callable[[int, int], None]
    refused: RefusedScores
    """Halts the run where models of its metrics refuse every call."""
    threads: Threads = field(default_factory=lambda: Threads("promptlab-evaluate"))
    one_batch: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held for a batch of built-in metrics: more threads would only take the interpreter from each other and
    the calls."""

    async def stop(self, grace_s: float) -> None:
        """Let no further evaluation start, and wait for those in flight: their
        judges' answers are paid for."""
        self.limits.stop()
        self.isolation.stop()
        await self.limits.idle(grace_s)

    async def close(self) -> None:
        """Wait for what is to be written, and end threads and processes."""
        await self.recorder.drain()
        self.threads.close()
        await self.isolation.close()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The work that a step has left."""

    remaining: int = 0
    """Cases not yet done, because time ran out or the provider asked for a long pause."""
    wait_s: float = 0.0
    """Seconds to wait before the step is worth another try."""


@dataclass(slots=True)
class Recorder(Generic[R]):
    """Group commit: one write at a time, and all that arrives meanwhile goes into the next.

    A batch is as large as the store is slow, so nothing waits for a timer. What cannot be written is
    tried again, for it was paid for; when that does not help, `limiter` lets no further call start.
    """

    write: Callable[[Sequence[R]], Awaitable[None]]
    limiter: AdaptiveLimiter
    clock: Clock
    on_record: Callable[[R], None] | None = None
    gather_s: float = 0.0
    """How long a batch gathers, in seconds: on AWS each write costs as much as all of the shard's scores."""
    _pending: list[tuple[R, asyncio.Future[None]]] = field(default_factory=list)
    _flusher: asyncio.Task[None] | None = None

    async def record(self, result: R) -> None:
        """Return when the result is durable. A cancelled caller does not take its result back."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((result, future))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())
        await future

    async def _flush(self) -> None:
        while self._pending:
            if self.gather_s and not self.limiter.stopped:
                await self.clock.sleep(self.gather_s)
            batch, self._pending = self._pending[:MAX_BATCH], self._pending[MAX_BATCH:]
            # A case whose judges answer together is there more than once: the last has all of its scores.
            error = await self._written(list({result.key: result for result, _ in batch}.values()))
            for result, future in batch:
                if error is None and self.on_record:
                    self.on_record(result)
                if future.done():
                    continue  # its caller was cancelled
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)
        self._flusher = None

    async def _written(self, batch: Sequence[R]) -> BaseException | None:
        """Write a batch, or say why that is not possible."""
        for pause_s in WRITE_PAUSES_S:
            (error,) = await asyncio.gather(self.write(batch), return_exceptions=True)
            if error is None:
                return None
            await self.clock.sleep(pause_s)
        (error,) = await asyncio.gather(self.write(batch), return_exceptions=True)
        if error is not None:
            self.limiter.stop()
        return error

    async def drain(self) -> None:
        """Wait until all that was handed over is written, or its callers know why not."""
        while self._flusher is not None:
            await asyncio.shield(self._flusher)


def redo(error: Failure | None, generation: int, run: RunRecord) -> bool:
    """Whether a recorded result is to be made again: it failed, in a pass before the
    one that asks for that."""
    if error is None or generation >= run.redo_before:
        return False
    return not run.redo_errors or error.type in run.redo_errors


def cancelled_from_outside() -> bool:
    """Whether the running task itself was asked to stop; else a CancelledError is one that
    a user's code let out."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

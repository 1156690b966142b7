"""Scores cases by their evaluators: built-in metrics in batches, the others one by one, each with a slot and
a time limit."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from time import monotonic, thread_time
from typing import Any, cast

from promptlab.awake import asleep_s
from promptlab.domain.chat import texts_of
from promptlab.domain.experiment import EVALUATION_TIMEOUT_S, PROMPT, Metric
from promptlab.domain.results import Score, Usage, described
from promptlab.engine.budget import Part
from promptlab.engine.cache import Trial
from promptlab.engine.extracted import Taken, taken
from promptlab.engine.infer import may_start
from promptlab.engine.isolation import is_async
from promptlab.engine.job import Job, cancelled_from_outside
from promptlab.engine.limits import Where, models_of
from promptlab.engine.processes import SANDBOX, CannotLoadError, MovedError, Recipe
from promptlab.engine.scored import Scored
from promptlab.engine.user_code import OverdueError, apart, in_time, said
from promptlab.engine.watchdog import watchdog
from promptlab.errors import TemplateError
from promptlab.evaluators.base import Evaluator, plain_verdict, to_score
from promptlab.evaluators.combined import Combined
from promptlab.evaluators.combining import combine, in_order
from promptlab.evaluators.outcomes import broken, failed, overdue
from promptlab.models.allowance import allowed, remembering
from promptlab.models.retry import Postponed
from promptlab.models.usage import counted
from promptlab.results.table import Case

LOOK_S = 1.0
"""How often a batch of built-in metrics is looked at."""
MARGIN_S = 3.0
"""With a deadline: what a worker needs to record its last scores."""


def is_pure(evaluator: Evaluator) -> bool:
    """Whether an evaluator is a built-in metric that only computes: fast, safe in one thread,
    and cheap to do again."""
    return (
        type(evaluator).__module__.startswith("promptlab.evaluators.")
        and not is_async(evaluator)
        and not evaluator.runs_code
        and not isinstance(evaluator, Combined)
    )


def is_single(evaluator: Evaluator) -> bool:
    """Whether an evaluator's cases are scored one by one."""
    return not is_pure(evaluator) and not isinstance(evaluator, Combined)


async def score(job: Job, cases: Sequence[Scored]) -> int:
    """Score what is open of cases. Scores of metrics that may call models are recorded as they come, the
    others at the end.

    Returns:
        How many evaluations are left, because the run is stopped or its time is over.

    Raises:
        Exception: whatever the ledger raises. An evaluator's error is a failed score.
    """
    await fill_prompts(job, cases)
    pure = [(m, e) for m, e in job.bindings.evaluators if is_pure(e)]
    others = [(m, e) for m, e in job.bindings.evaluators if is_single(e)]
    await _batch(job, [(scored, m, e) for scored in cases for m, e in scored.open(pure)])
    todo = [(scored, *bound) for scored in cases for bound in scored.open(others)] if others else []
    for scored, _, _ in todo:
        scored.left += 1
    told = Told(job, cases[0].case.completion.shard if cases else 0, sum(not one.left for one in cases))
    left: list[Postponed] = []
    async with asyncio.TaskGroup() as group:
        for scored, metric, evaluator in todo:
            group.create_task(score_one(job, scored, metric, evaluator, left, told))
    _combine(job, cases, [*pure, *others])
    if unwritten := [scored for scored in cases if len(scored.scores) > scored.recorded]:
        await job.ledger.put_scores(job.run.run_id, [scored.to_set(job) for scored in unwritten])
    return len(left)


def _combine(job: Job, cases: Sequence[Scored], parts: Sequence[tuple[Metric, Evaluator]]) -> None:
    """Make the scores that are made of others, of the cases that have all of these."""
    if ordered := in_order(job.bindings.evaluators):
        for scored in cases:
            if not scored.open(parts):
                combine(ordered, job.bindings.evaluators, scored.case.row, scored.scores)


async def fill_prompts(job: Job, cases: Sequence[Scored]) -> None:
    """Give the prompt to the cases of which a metric that is open judges it."""
    asking = [(m, e) for m, e in job.bindings.evaluators if PROMPT in m.column_mapping.values()]
    for scored in cases if asking else ():
        if scored.open(asking):
            scored.prompt = await _prompt(job, scored.case)


async def _prompt(job: Job, case: Case) -> str | TemplateError:
    """Fill the prompt once more: an answer is recorded without the text that it is the answer to."""
    try:
        return "\n\n".join(texts_of(await job.bindings.messages(case.row)))
    except TemplateError as error:
        return error


class Told:
    """Tells how many cases of a shard are scored."""

    def __init__(self, job: Job, shard: int, cases: int) -> None:
        self._budget, self._tell = job.budget, job.scoring.tell
        self._shard, self._cases = shard, cases
        self._tell(shard, cases)

    def one(self, scored: Scored) -> None:
        """Count one score of a case."""
        scored.left -= 1
        if not scored.left:
            self._cases += 1
            self._tell(self._shard, self._cases)
            if self._budget is not None:
                self._budget.scored(self._shard)


async def score_one(
    job: Job, scored: Scored, metric: Metric, evaluator: Evaluator, left: list[Postponed], told: Told
) -> None:
    """Score a case by one metric and record that; if it cannot start any more, append it to `left`."""
    isolation = job.scoring.isolation
    try:
        while metric.name not in scored.scores:
            recipe = isolation.recipe(metric, evaluator)
            where: Where = "processes" if recipe else "loop" if is_async(evaluator) else "threads"
            async with job.scoring.limits.slots(evaluator, where):
                if not may_start(job):
                    raise Postponed(0.0)
                if isolation.recipe(metric, evaluator) is not recipe:
                    continue  # it was moved meanwhile
                work = _isolated(job, scored, metric, evaluator, recipe) if recipe else None
                score = await (work or _evaluated(job, scored, metric, evaluator))
                if score is None:
                    continue
                scored.keep(metric, score, job.bindings.parts)
                # As with calls, the slot is held until the score is durable: no more judges' answers
                # than there are slots are ever paid for and not recorded.
                done = scored.to_set(job)
                await job.scoring.recorder.record(done)
                scored.recorded = max(scored.recorded, len(done.scores))
        told.one(scored)
    except Postponed as later:
        left.append(later)


async def _isolated(
    job: Job, scored: Scored, metric: Metric, evaluator: Evaluator, recipe: Recipe
) -> Score | None:
    """Evaluate a case in a process; None if the metric is no longer evaluated there."""
    isolation = job.scoring.isolation
    try:
        given = await inputs_of(job, scored, metric, evaluator)
    except (TemplateError, ValueError, TimeoutError) as error:
        return failed(metric.evaluator_name, described(error))
    if given.score is not None:
        return given.score
    try:
        score = given.marked(await isolation.place(recipe).call(recipe, given.data, _timeout_s(metric)))
    except MovedError:
        return None
    except CannotLoadError as error:
        why = f"it cannot be loaded in a process of its own: {error}"
        if metric.isolated or recipe.function == SANDBOX:
            return failed(metric.evaluator_name, why)
        isolation.stay(metric, why)
        return None
    job.scoring.refused.scored(metric.evaluator_name, evaluator, score, None)
    if score.usage is not None and job.budget is not None:
        # Its calls were made in another process, where nobody could ask first.
        _settle(job, metric, Part(job.budget), score.usage)
    if score.usage is not None and metric.isolated is None:
        # As many calls at once as its model bears, and not as many as there are processes.
        isolation.stay(metric)
    return score


async def _evaluated(job: Job, scored: Scored, metric: Metric, evaluator: Evaluator) -> Score:
    """Evaluate a case within the metric's time.

    Raises:
        Postponed: the worker's time is over before that.
    """
    timeout_s, left_s = _timeout_s(metric), job.deadline.left_s()
    limit_s = timeout_s if left_s is None else min(timeout_s, max(0.0, left_s - MARGIN_S))
    part = None if job.budget is None else Part(job.budget)
    trial = None if job.cache is None else Trial(job.cache, scored.case.completion.trial)
    raised: BaseException | None = None
    with (
        counted() as usage,
        nullcontext() if part is None else allowed(part),
        nullcontext() if trial is None else remembering(trial),
    ):
        try:
            with watchdog.watched(f"{metric.name} (row {scored.case.completion.case})", limit_s):
                score = await _verdict(job, scored, metric, evaluator, limit_s)
        except OverdueError as error:
            if limit_s < timeout_s or (part is not None and part.refused):
                raise Postponed(0.0) from error
            score = overdue(metric.evaluator_name, _timeout_s(metric))
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and cancelled_from_outside():
                raise
            score, raised = broken(metric.evaluator_name, error, await said(error)), error
    if part is not None:
        _settle(job, metric, part, usage)
    score = _with_usage(score, usage)
    job.scoring.refused.scored(metric.evaluator_name, evaluator, score, raised)
    return score


def _settle(job: Job, metric: Metric, part: Part, usage: Usage) -> None:
    """Count what an evaluation cost.

    Raises:
        Postponed: a call of it could not be paid for: what it made of that is no score.
    """
    assert job.budget is not None
    job.budget.saw_scores(metric.name, part.reserved)
    part.close(None if usage.unknown_cost else usage.cost_usd, f"the evaluator {metric.evaluator_name}")


async def inputs_of(job: Job, scored: Scored, metric: Metric, evaluator: Evaluator) -> Taken:
    """Take an evaluation's inputs; in a thread where steps take something out of the answer.

    Raises:
        Exception: what `taken` raises.
    """
    if not (metric.extract or metric.extract_reference):
        return taken(scored, metric, evaluator)
    found: Taken = await job.scoring.threads.call(lambda: taken(scored, metric, evaluator))
    return found


async def _verdict(job: Job, scored: Scored, metric: Metric, evaluator: Evaluator, limit_s: float) -> Score:
    given = await inputs_of(job, scored, metric, evaluator)
    score = given.score or await _evaluate(job, metric, evaluator, given.data, limit_s)
    return given.marked(score)


async def _evaluate(
    job: Job, metric: Metric, evaluator: Evaluator, data: dict[str, Any], limit_s: float
) -> Score:
    threads = job.scoring.threads
    if is_async(evaluator):
        call = cast("Callable[[], Awaitable[Any]]", lambda: evaluator.evaluate(data))
        verdict = await (apart if _runs_user_code(evaluator) else in_time)(call, limit_s)
    else:
        verdict, cpu_s = await in_time(
            lambda: threads.call(lambda: _in_thread(metric, evaluator, data)), limit_s
        )
        await job.scoring.isolation.measured(metric, evaluator, cpu_s, threads)
        if inspect.isawaitable(verdict):  # of a decorated or partial coroutine function
            verdict = await apart(lambda: verdict, limit_s)
    if plain_verdict(verdict):
        return to_score(verdict)
    # Objects of a user's own classes may do anything, and take any time, when they are read.
    return cast("Score", await in_time(lambda: threads.call(lambda: to_score(verdict)), limit_s))


def _runs_user_code(evaluator: Evaluator) -> bool:
    """Whether an evaluator is a user's own, or uses a model that is."""
    ours = type(evaluator).__module__.startswith("promptlab.evaluators.")
    return not ours or any(model.runs_user_code for model in models_of(evaluator))


def _in_thread(metric: Metric, evaluator: Evaluator, data: dict[str, Any]) -> tuple[Any, float]:
    """Evaluate a case, in a thread: give the score or what is to be awaited, and its processor time."""
    began = thread_time()
    try:
        verdict = evaluator.evaluate(data)
        found = verdict if inspect.isawaitable(verdict) else to_score(verdict)
    except BaseException as error:  # noqa: BLE001 - a user's code may raise anything; it costs its own score only
        found = broken(metric.evaluator_name, error, described(error))
    return found, thread_time() - began


@dataclass(slots=True)
class _Batch:
    """Evaluations by built-in metrics, done in one thread without a hand-over for each."""

    todo: Sequence[tuple[Scored, Metric, Evaluator]]
    found: dict[int, Score] = field(default_factory=dict)
    at: tuple[int, float] = (0, float("inf"))
    """The case that is being done, and since when."""
    given_up: bool = False

    def run(self, first: int) -> None:
        for number in range(first, len(self.todo)):
            if self.given_up:
                return
            scored, metric, evaluator = self.todo[number]
            self.at = number, monotonic()
            try:
                given = taken(scored, metric, evaluator)
                score = given.score or to_score(evaluator.evaluate(given.data))
                self.found[number] = given.marked(score)
            except BaseException as error:  # noqa: BLE001 - it costs its own score only
                self.found[number] = failed(metric.name, described(error))


async def _batch(job: Job, todo: Sequence[tuple[Scored, Metric, Evaluator]]) -> None:
    """Score by built-in metrics; one that takes longer than its time is left behind, and the rest goes on
    without it."""
    first = 0
    while first < len(todo):
        batch = _Batch(todo)
        async with job.scoring.one_batch:
            task = asyncio.ensure_future(job.scoring.threads.call(lambda: batch.run(first)))  # noqa: B023 - awaited below
            try:
                first = await _watched(batch, task)
            finally:
                batch.given_up = True
                task.cancel()
        for number, score in list(batch.found.items()):
            scored, metric, _ = todo[number]
            scored.keep(metric, score, job.bindings.parts)


async def _watched(batch: _Batch, task: asyncio.Future[Any]) -> int:
    """Wait for a batch; give the number of the evaluation that is to be the next."""
    with asleep_s() as asleep:
        seen, spent_s, looked, before_s = -1, 0.0, monotonic(), asleep()
        while not task.done():
            await asyncio.wait((task,), timeout=LOOK_S)
            number, since = batch.at
            now, now_s = monotonic(), asleep()
            # What the process slept between two looks is no evaluation's time.
            more_s = max(0.0, now - max(since, looked) - (now_s - before_s))
            spent_s = more_s if number != seen else spent_s + more_s
            seen, looked, before_s = number, now, now_s
            metric = batch.todo[number][1]
            if not task.done() and spent_s > _timeout_s(metric):
                batch.given_up = True
                batch.found[number] = overdue(metric.name, _timeout_s(metric))
                return number + 1
    task.result()
    return len(batch.todo)


def _timeout_s(metric: Metric) -> float:
    return EVALUATION_TIMEOUT_S if metric.timeout_s is None else metric.timeout_s


def _with_usage(score: Score, usage: Usage) -> Score:
    """The score with what its calls to models used: also of one that failed, for they were paid."""
    return replace(score, usage=usage) if usage.calls else score

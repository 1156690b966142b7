"""Scores cases by their evaluators: built-in metrics in batches, the others one by one, each with a slot and
a time limit."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, cast

from promptlab.awake import asleep_s
from promptlab.domain.experiment import EVALUATION_TIMEOUT_S, METADATA, PROMPT, RESPONSE, Metric
from promptlab.domain.results import Failure, Score, ScoreSet, Usage, described
from promptlab.engine.infer import may_start
from promptlab.engine.job import Job, cancelled_from_outside
from promptlab.engine.user_code import OverdueError, apart, in_time, said
from promptlab.errors import TemplateError
from promptlab.evaluators.base import Evaluator, plain_verdict, to_score
from promptlab.models.retry import Postponed
from promptlab.models.usage import counted
from promptlab.results.table import Case

LOOK_S = 1.0
"""How often a batch of built-in metrics is looked at."""
MARGIN_S = 3.0
"""With a deadline: what a worker needs to record its last scores."""

Bound = tuple[Metric, Evaluator]


@dataclass(slots=True)
class Scored:
    """A case and the scores that it has so far."""

    case: Case
    scores: dict[str, Score]
    recorded: int
    """How many of the scores are durable."""
    left: int = 0
    """How many are to be made one by one."""
    prompt: str | TemplateError | None = None
    """The text that was sent to the model, where a metric is given it; or why it cannot be made again."""

    def to_set(self, job: Job) -> ScoreSet:
        """The scores so far, in the order of the metrics."""
        done = self.case.completion
        names = (metric.name for metric, _ in job.bindings.evaluators)
        return ScoreSet(
            shard=done.shard,
            case=done.case,
            trial=done.trial,
            generation=job.run.generation,
            scores={name: self.scores[name] for name in names if name in self.scores},
        )

    def open(self, evaluators: Sequence[Bound]) -> list[Bound]:
        """The metrics that apply to the case and have no score yet."""
        row = self.case.row
        return [
            (m, e)
            for m, e in evaluators
            if m.name not in self.scores and m.applies_to(row) and m.is_labelled(row)
        ]


def is_pure(evaluator: Evaluator) -> bool:
    """Whether an evaluator is a built-in metric that only computes: fast, safe in one thread,
    and cheap to do again."""
    return type(evaluator).__module__.startswith("promptlab.evaluators.") and not _is_async(evaluator)


def _is_async(evaluator: Evaluator) -> bool:
    return inspect.iscoroutinefunction(evaluator.evaluate)


async def score(job: Job, cases: Sequence[Scored]) -> int:
    """Score what is open of cases. Scores of metrics that may call models are recorded as they come, the
    others at the end.

    Returns:
        How many evaluations are left, because the run is stopped or its time is over.

    Raises:
        Exception: whatever the ledger raises. An evaluator's error is a failed score.
    """
    for scored in cases:
        if any(PROMPT in m.column_mapping.values() for m, _ in scored.open(job.bindings.evaluators)):
            scored.prompt = await _prompt(job, scored.case)
    pure = [(m, e) for m, e in job.bindings.evaluators if is_pure(e)]
    others = [(m, e) for m, e in job.bindings.evaluators if not is_pure(e)]
    await _batch(job, [(scored, m, e) for scored in cases for m, e in scored.open(pure)])
    todo = [(scored, *bound) for scored in cases for bound in scored.open(others)]
    for scored, _, _ in todo:
        scored.left += 1
    told = _Told(job, cases)
    left: list[Postponed] = []
    async with asyncio.TaskGroup() as group:
        for scored, metric, evaluator in todo:
            group.create_task(_one(job, scored, metric, evaluator, left, told))
    if unwritten := [scored for scored in cases if len(scored.scores) > scored.recorded]:
        await job.ledger.put_scores(job.run.run_id, [scored.to_set(job) for scored in unwritten])
    return len(left)


async def _prompt(job: Job, case: Case) -> str | TemplateError:
    """Fill the prompt once more: an answer is recorded without the text that it is the answer to."""
    try:
        return "\n\n".join(message["content"] for message in await job.bindings.messages(case.row))
    except TemplateError as error:
        return error


class _Told:
    """Tells how many cases of a shard are scored."""

    def __init__(self, job: Job, cases: Sequence[Scored]) -> None:
        self._tell, self._shard = job.scoring.tell, cases[0].case.completion.shard if cases else 0
        self._cases = sum(not scored.left for scored in cases)
        self._tell(self._shard, self._cases)

    def one(self, scored: Scored) -> None:
        """Count one score of a case."""
        scored.left -= 1
        if not scored.left:
            self._cases += 1
            self._tell(self._shard, self._cases)


async def _one(
    job: Job, scored: Scored, metric: Metric, evaluator: Evaluator, left: list[Postponed], told: _Told
) -> None:
    """Score a case by one metric and record that; if it cannot start any more, append it to `left`."""
    try:
        async with job.scoring.limits.slots(evaluator, sync=not _is_async(evaluator)):
            if not may_start(job):
                raise Postponed(0.0)
            scored.scores[metric.name] = await _evaluated(job, scored, metric, evaluator)
            # As with calls, the slot is held until the score is durable: no more judges' answers
            # than there are slots are ever paid for and not recorded.
            done = scored.to_set(job)
            await job.scoring.recorder.record(done)
            scored.recorded = max(scored.recorded, len(done.scores))
        told.one(scored)
    except Postponed as later:
        left.append(later)


async def _evaluated(job: Job, scored: Scored, metric: Metric, evaluator: Evaluator) -> Score:
    """Evaluate a case within the metric's time.

    Raises:
        Postponed: the worker's time is over before that.
    """
    timeout_s, left_s = _timeout_s(metric), job.deadline.left_s()
    limit_s = timeout_s if left_s is None else min(timeout_s, max(0.0, left_s - MARGIN_S))
    with counted() as usage:
        try:
            score = await in_time(lambda: _verdict(job, scored, metric, evaluator, limit_s), limit_s)
        except OverdueError as error:
            if limit_s < timeout_s:
                raise Postponed(0.0) from error
            score = _overdue(metric)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and cancelled_from_outside():
                raise
            score = _broken(metric, error, await said(error))
    return _with_usage(score, usage)


async def _verdict(job: Job, scored: Scored, metric: Metric, evaluator: Evaluator, limit_s: float) -> Score:
    data = inputs(scored, metric.column_mapping)
    threads = job.scoring.threads
    if _is_async(evaluator):
        ours = type(evaluator).__module__.startswith("promptlab.evaluators.")
        call = cast("Callable[[], Awaitable[Any]]", lambda: evaluator.evaluate(data))
        verdict = await (in_time if ours else apart)(call, limit_s)
    else:
        verdict = await threads.call(lambda: _in_thread(metric, evaluator, data))
        if inspect.isawaitable(verdict):  # of a decorated or partial coroutine function
            verdict = await apart(lambda: verdict, limit_s)
    # Objects of a user's own classes may do anything, and take any time, when they are read.
    return to_score(verdict) if plain_verdict(verdict) else await threads.call(lambda: to_score(verdict))


def _in_thread(metric: Metric, evaluator: Evaluator, data: dict[str, Any]) -> Any:
    """Evaluate a case, in a thread: give the score, or what is still to be awaited."""
    try:
        verdict = evaluator.evaluate(data)
        return verdict if inspect.isawaitable(verdict) else to_score(verdict)
    except BaseException as error:  # noqa: BLE001 - a user's code may raise anything; it costs its own score only
        return _broken(metric, error, described(error))


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
                self.found[number] = to_score(evaluator.evaluate(inputs(scored, metric.column_mapping)))
            except BaseException as error:  # noqa: BLE001 - it costs its own score only
                self.found[number] = _failed(metric, described(error))


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
            scored.scores[metric.name] = score


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
                batch.found[number] = _overdue(metric)
                return number + 1
    task.result()
    return len(batch.todo)


def _timeout_s(metric: Metric) -> float:
    return EVALUATION_TIMEOUT_S if metric.timeout_s is None else metric.timeout_s


def _with_usage(score: Score, usage: Usage) -> Score:
    """The score with what its calls to models used: also of one that failed, for they were paid."""
    return replace(score, usage=usage) if usage.calls else score


def _broken(metric: Metric, error: BaseException, words: str) -> Score:
    """The score for what an evaluator of a user raised: an assertion is a verdict,
    everything else a failure."""
    if isinstance(error, AssertionError):
        return Score(passed=False, reason=words.partition(": ")[2] or "an assertion does not hold")
    return _failed(metric, words)


def _failed(metric: Metric, why: str) -> Score:
    return Score(error=Failure("evaluator_error", f"{metric.name}: {why}"))


def _overdue(metric: Metric) -> Score:
    return Score(
        error=Failure(
            "evaluator_timeout", f"{metric.name}: no score within timeout_s={_timeout_s(metric):g} s"
        )
    )


def inputs(scored: Scored, mapping: Mapping[str, str]) -> dict[str, Any]:
    """Take an evaluator's inputs for a case from where the column_mapping says.

    Raises:
        TemplateError: the prompt is asked for and cannot be made again.
    """
    return {name: _value(scored, source) for name, source in mapping.items()}


def _value(scored: Scored, source: str) -> Any:
    completion = scored.case.completion
    if source in (RESPONSE, "$completion"):
        return completion.response
    if source == PROMPT:
        if isinstance(scored.prompt, TemplateError):
            raise scored.prompt
        return scored.prompt
    if source.startswith(f"{METADATA}."):
        return _at(completion.metadata, source.removeprefix(f"{METADATA}."))
    if source.startswith("$"):
        return getattr(completion, source[1:])
    return scored.case.row.get(source)


def _at(value: Any, path: str) -> Any:
    """Find a value in metadata by its key, which may have dots, or by keys and list
    positions with dots between."""
    while True:
        if isinstance(value, Mapping) and path in value:
            return value[path]
        head, _, path = path.partition(".")
        if isinstance(value, Mapping):
            value = value.get(head)
        elif (
            isinstance(value, list | tuple) and head.isdecimal() and len(head) < 10 and int(head) < len(value)
        ):
            value = value[int(head)]
        else:
            return None
        if not path:
            return value

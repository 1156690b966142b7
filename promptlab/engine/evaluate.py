"""The evaluate step: scores a shard's answers and sums the shard up."""

from __future__ import annotations

import asyncio
import gzip
import inspect
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import orjson

from promptlab.assets.rows import read_rows
from promptlab.domain.assets import Shard
from promptlab.domain.experiment import Metric
from promptlab.domain.messages import count_message
from promptlab.domain.results import (
    CaseKey,
    Completion,
    Failure,
    Score,
    ScoreSet,
    ShardSummary,
    Usage,
    described,
)
from promptlab.domain.summary import MetricSummary, Summary
from promptlab.engine.job import Job, Outcome, Row, cancelled_from_outside, redo
from promptlab.evaluators.base import Evaluator, to_score
from promptlab.models.usage import counted
from promptlab.results.table import Case, table_row
from promptlab.sync import run_sync

# One thread: evaluators are mostly Python and would only take the lock from each other and the calls.
_EVALUATORS = ThreadPoolExecutor(max_workers=1, thread_name_prefix="promptlab-evaluate")
MAX_ASYNC = 50
"""Async evaluations in flight for one shard: as many as it has cases."""


async def evaluate(job: Job, shard: Shard) -> Outcome:
    """Score the answered cases of a shard, then write its part and its summary.

    Cases that are scored already are not scored again, unless they were answered again since.

    Raises:
        Exception: whatever the ledger or the blobs raise. An evaluator's error is a failed score.
    """
    run_id = job.run.run_id
    completions = await job.ledger.get_completions(run_id, shard.number)
    expected = shard.count * job.experiment.trials
    if len(completions) < expected:
        return Outcome(remaining=expected - len(completions))
    rows = await read_rows(job.blobs, job.bindings.content, shard)
    recorded = {s.key: s for s in await job.ledger.get_scores(run_id, shard.number)}
    cases = [_case(job, shard, completion, rows, recorded.get(completion.key)) for completion in completions]
    todo = [c for c in cases if c.scores is None and c.completion.error is None]
    if todo and job.bindings.evaluators:
        scored = await _score(job, todo)
        await job.ledger.put_scores(run_id, list(scored.values()))
        cases = [replace(c, scores=scored.get(c.completion.key, c.scores)) for c in cases]
    await _finish(job, shard, cases)
    return Outcome()


def _case(
    job: Job, shard: Shard, completion: Completion, rows: Sequence[Row], scores: ScoreSet | None
) -> Case:
    """A case with the scores that still hold for it, if it has any."""
    stale = scores is not None and (
        scores.generation < completion.generation or redo(scores.error, scores.generation, job.run)
    )
    return Case(
        row=rows[completion.case - shard.first], completion=completion, scores=None if stale else scores
    )


async def _score(job: Job, cases: Sequence[Case]) -> dict[CaseKey, ScoreSet]:
    """Score sets of cases: sync evaluators in a worker thread, async ones on the loop."""
    sync = [(m, e) for m, e in job.bindings.evaluators if not inspect.iscoroutinefunction(e.evaluate)]
    pending = [(m, e) for m, e in job.bindings.evaluators if inspect.iscoroutinefunction(e.evaluate)]
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(_EVALUATORS, _score_all, cases, sync)
    gate = asyncio.Semaphore(MAX_ASYNC)
    for metric, evaluator in pending:
        async with asyncio.TaskGroup() as group:
            tasks = {
                number: group.create_task(_score_async(gate, case, metric, evaluator))
                for number, case in enumerate(cases)
                if metric.applies_to(case.row)
            }
        for number, task in tasks.items():
            found[number][metric.name] = task.result()
    names = [m.name for m, _ in job.bindings.evaluators]
    sets = (
        ScoreSet(
            shard=c.completion.shard,
            case=c.completion.case,
            trial=c.completion.trial,
            generation=job.run.generation,
            scores={n: scores[n] for n in names if n in scores},
        )
        for c, scores in zip(cases, found, strict=True)
    )
    return {s.key: s for s in sets}


def _score_all(
    cases: Sequence[Case], evaluators: Sequence[tuple[Metric, Evaluator]]
) -> list[dict[str, Score]]:
    return [
        {
            metric.name: _score_sync(case, metric, evaluator)
            for metric, evaluator in evaluators
            if metric.applies_to(case.row)
        }
        for case in cases
    ]


def _score_sync(case: Case, metric: Metric, evaluator: Evaluator) -> Score:
    with counted() as usage:
        try:
            verdict = evaluator.evaluate(inputs(case, metric.column_mapping))
            # A sync function may still hand back an awaitable (a decorated or partial coroutine function).
            score = to_score(run_sync(_result(verdict)) if inspect.isawaitable(verdict) else verdict)
        except BaseException as error:  # noqa: BLE001 - a user's code may raise anything, in a thread that nothing stops; it is recorded with its case
            score = _failed(metric, error)
    return _with_usage(score, usage)


async def _score_async(gate: asyncio.Semaphore, case: Case, metric: Metric, evaluator: Evaluator) -> Score:
    async with gate:
        with counted() as usage:
            try:
                score = to_score(await evaluator.evaluate(inputs(case, metric.column_mapping)))  # type: ignore[misc]
            except (Exception, SystemExit, GeneratorExit, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and cancelled_from_outside():
                    raise
                score = _failed(metric, error)
        return _with_usage(score, usage)


def _with_usage(score: Score, usage: Usage) -> Score:
    """The score with what its calls to models used: also of one that failed, for they were paid."""
    return replace(score, usage=usage) if usage.calls else score


async def _result(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _failed(metric: Metric, error: BaseException) -> Score:
    return Score(error=Failure("evaluator_error", f"{metric.name}: {described(error)}"))


def inputs(case: Case, mapping: Mapping[str, str]) -> dict[str, Any]:
    """What an evaluator is given for a case: its inputs, as the column_mapping says."""
    return {name: _value(case, source) for name, source in mapping.items()}


def _value(case: Case, source: str) -> Any:
    if source in ("$inference", "$completion"):
        return case.completion.response
    if source.startswith("$"):
        return getattr(case.completion, source[1:])
    return case.row.get(source)


def summarize_cases(metrics: Sequence[Metric], cases: Sequence[Case]) -> Summary:
    """The aggregate of cases."""
    total = Summary(metrics={m.name: MetricSummary(higher_is_better=m.higher_is_better) for m in metrics})
    by_row: dict[int, list[Case]] = {}
    for case in cases:
        _count(total, case)
        by_row.setdefault(case.completion.case, []).append(case)
    for spec in metrics:
        metric = total.metrics[spec.name]
        for trials in by_row.values():
            if not spec.applies_to(trials[0].row):
                metric.not_applicable += len(trials)
                continue
            metric.add_row(
                [c.scores.scores[spec.name] for c in trials if c.scores and spec.name in c.scores.scores]
            )
    return total


def _count(total: Summary, case: Case) -> None:
    completion = case.completion
    total.cases += 1
    total.attempts += completion.attempts
    total.cut += completion.was_cut
    total.spend(completion.spent)
    if completion.latency_ms is not None:
        total.latency_ms.add(completion.latency_ms)
    error = completion.error or (case.scores.error if case.scores else None)
    if error:
        total.failed += 1
        total.errors[error.type] = total.errors.get(error.type, 0) + 1
        count_message(total.messages, error.type, error.message)
    else:
        total.succeeded += 1


async def _finish(job: Job, shard: Shard, cases: Sequence[Case]) -> None:
    """Write the shard's part, then its summary: a summary's part is always there."""
    summary = summarize_cases([m for m, _ in job.bindings.evaluators], cases)
    data, largest = await asyncio.to_thread(_part, job, cases)
    key = f"runs/{job.run.run_id}/parts/{shard.number:06}.jsonl.gz"
    await job.blobs.put(key, data)
    await job.ledger.put_shard(
        job.run.run_id,
        ShardSummary(
            number=shard.number,
            generation=job.run.generation,
            summary=summary.to_json(),
            part=key,
            largest_row_bytes=largest,
        ),
    )


def _part(job: Job, cases: Sequence[Case]) -> tuple[bytes, int]:
    lines = [orjson.dumps(table_row(job.bindings.content, job.experiment.evaluation, case)) for case in cases]
    # Level 1: parts are read once, and text compresses well at any level.
    return gzip.compress(b"\n".join(lines) + b"\n", compresslevel=1, mtime=0), max(map(len, lines), default=0)

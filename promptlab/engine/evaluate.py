"""The evaluate step: scores a shard's answers and sums the shard up."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping, Sequence

import orjson

from promptlab.assets.rows import read_rows
from promptlab.domain.assets import Shard
from promptlab.domain.experiment import Metric
from promptlab.domain.results import Completion, Score, ScoreSet, ShardSummary
from promptlab.domain.said import count_message
from promptlab.domain.summary import MetricSummary, Summary
from promptlab.domain.usages import of_simulated_user
from promptlab.engine.extracted import RunInputs
from promptlab.engine.job import Job, Outcome, Row, redo
from promptlab.engine.scored import Scored
from promptlab.engine.scoring import score
from promptlab.evaluators.combined import Combined
from promptlab.models.media import READER
from promptlab.results.table import Case, columns, table_row

MOST_SLOW = 3
"""Cases of a shard in which what is judged for a metric of the run as a whole may take too long."""


async def evaluate(job: Job, shard: Shard) -> Outcome:
    """Score the answered cases of a shard, then write its part and its summary.

    Scores that are recorded already are kept, unless the case was answered again since. Where the budget is
    tight, the cases that are answered are scored; where it is reached, the shard is finished with these.

    Raises:
        Exception: whatever the ledger or the blobs raise. An evaluator's error is a failed score.
    """
    run_id = job.run.run_id
    completions = await job.ledger.get_completions(run_id, shard.number)
    expected = job.expected(shard)
    missing = expected - len(completions)
    if missing and job.budget is None:
        return Outcome(remaining=missing)
    cases = await _cases(job, shard, completions)
    if job.bindings.evaluators:
        READER.set(job.media)
        scoreds = [_scored(job, case) for case in cases if case.completion.error is None]
        left = await _score(job, shard, scoreds)
        if job.budget is not None:
            job.budget.scored(shard.number, expected)
        if left and not job.out_of_budget:
            return Outcome(remaining=left)
        missing += left
        sets = {scored.case.completion.key: scored.to_set(job) for scored in scoreds}
        cases = [Case(case.row, case.completion, sets.get(case.completion.key)) for case in cases]
    if missing and not job.out_of_budget:
        return Outcome(remaining=missing)
    if cases:
        await _finish(job, shard, cases, partial=missing > 0)
    return Outcome()


async def answered(job: Job, shard: Shard) -> list[Scored]:
    """The answered cases of a shard, with the scores that they have."""
    completions = await job.ledger.get_completions(job.run.run_id, shard.number)
    good = [one for one in completions if one.error is None]
    return [_scored(job, case) for case in await _cases(job, shard, good)] if good else []


async def _cases(job: Job, shard: Shard, completions: Sequence[Completion]) -> list[Case]:
    rows = await read_rows(job.blobs, job.bindings.content, shard)
    recorded = {s.key: s for s in await job.ledger.get_scores(job.run.run_id, shard.number)}
    return [_case(job, shard, completion, rows, recorded.get(completion.key)) for completion in completions]


async def _score(job: Job, shard: Shard, cases: Sequence[Scored]) -> int:
    """Score cases, with what judges in batch mode said of them."""
    if not job.experiment.judged_ahead:
        return await score(job, cases)
    from promptlab.engine.judged_ahead import answering, answers_of  # most runs have no use for it

    with answering(await answers_of(job, shard)):
        return await score(job, cases)


def _case(
    job: Job, shard: Shard, completion: Completion, rows: Sequence[Row], scores: ScoreSet | None
) -> Case:
    """A case with its scores, unless it was answered again since."""
    stale = scores is not None and scores.generation < completion.generation
    return Case(
        row=rows[completion.case - shard.first], completion=completion, scores=None if stale else scores
    )


def _scored(job: Job, case: Case) -> Scored:
    """The case with those of its scores that still hold: failed ones may be to be made again."""
    # What is made of others is made again: they may be others.
    names = {m.name for m, e in job.bindings.evaluators if not isinstance(e, Combined)}
    scores = case.scores
    if scores is None:
        return Scored(case, {}, 0)
    kept = {
        name: score
        for name, score in under_their_names(job.experiment.evaluation, scores).items()
        if name in names and not redo(score.error, scores.generation, job.run)
    }
    return Scored(case, kept, len(kept))


def under_their_names(metrics: Sequence[Metric], scores: ScoreSet) -> Mapping[str, Score]:
    """The scores of a case by today's names: those that were recorded before another metric took their name
    are of the one that was called so."""
    found = dict(scores.scores)
    for metric in sorted((m for m in metrics if m.kept), key=lambda m: m.since or 0):
        if scores.generation < (metric.since or 0) and str(metric.kept) in found:
            found[metric.name] = found.pop(str(metric.kept))
    return found


def summarize_cases(metrics: Sequence[Metric], cases: Sequence[Case]) -> Summary:
    """The aggregate of cases."""
    total = Summary(metrics={m.name: MetricSummary.of(m) for m in metrics})
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
            if not spec.is_labelled(trials[0].row):
                metric.unlabelled += len(trials)
                continue
            scores = [c.scores.scores[spec.name] for c in trials if c.scores and spec.name in c.scores.scores]
            failures = sum(
                c.completion.error is not None and c.completion.error.is_models_doing for c in trials
            )
            metric.add_row(scores, failures=failures, lost=len(trials) - len(scores) - failures)
    return total


def _count(total: Summary, case: Case) -> None:
    completion = case.completion
    total.cases += 1
    total.attempts += completion.attempts
    total.cut += completion.was_cut
    total.cached += completion.cached
    total.spend(completion.spent)
    if (used := of_simulated_user(completion)) is not None:
        total.simulated_user.add(used)
    if completion.latency_ms is not None:
        total.latency_ms.add(completion.latency_ms)
    if error := completion.error:
        total.failed += 1
        total.errors[error.type] = total.errors.get(error.type, 0) + 1
        count_message(total.messages, error.type, error.message)
    else:
        total.succeeded += 1
        if completion.finish_reason:
            total.finished(completion.finish_reason)
        if case.scores and (failed := case.scores.error):
            count_message(total.messages, failed.type, failed.message)


async def _finish(job: Job, shard: Shard, cases: Sequence[Case], *, partial: bool) -> None:
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
            partial=partial,
        ),
    )
    job.on_finished(shard.number, summary)
    if job.experiment.judged_ahead and not partial:
        from promptlab.engine.judged_ahead import forget

        await forget(job, shard)


def _part(job: Job, cases: Sequence[Case]) -> tuple[bytes, int]:
    content, metrics, of_run = job.bindings.content, job.experiment.evaluation, job.bindings.of_run
    names = dict(columns(content, metrics, [spec for spec, _ in of_run]).judged)
    taking = {names[s.name]: RunInputs.of(s, e) for s, e in of_run if s.name in names}
    lines, slow = [], 0
    for case in cases:
        judged = {}
        for name, one in list(taking.items()):
            try:
                text = one.judged_of(case)
            except TimeoutError:  # a pattern that has no end would take a second of every case
                slow += 1
                if slow > MOST_SLOW:
                    del taking[name]
                continue
            if text is not None:
                judged[name] = text
        lines.append(orjson.dumps(table_row(content, metrics, case, judged)))
    # Level 1: parts are read once, and text compresses well at any level.
    return gzip.compress(b"\n".join(lines) + b"\n", compresslevel=1, mtime=0), max(map(len, lines), default=0)

"""Decides step by step whether a run may end early: see `promptlab.statistics.sequential`.

A run that is told to stop does prefixes of a seeded random order of its cases, one after the other. Where one
is complete, all of it is read again from the ledger and judged in that order: nothing is carried from one
step to the next, so that kills, retries and whoever resumes the run change no decision.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isinf, isnan, nan
from typing import Any

from promptlab.assets.rows import read_index, read_rows
from promptlab.domain.assets import DatasetContent, Shard
from promptlab.domain.experiment import Experiment, Metric
from promptlab.domain.results import CaseKey, Completion, RunRecord, Score
from promptlab.domain.stopping import Reach, StopRule, next_rows, place_of
from promptlab.engine.evaluate import under_their_names
from promptlab.errors import ConfigError
from promptlab.ports import Blobs, Ledger

AT_ONCE = 16
"""Shards that a look reads at the same time."""
MISSING, SKIPPED = nan, inf
"""In place of a difference: one of the two runs has no score; the metric is not of the row."""


@dataclass(frozen=True, slots=True)
class Step:
    """What of a run is to be done next."""

    reach: Reach | None = None
    """The cases that may be done; None for all."""
    more: bool = False
    """Whether there may be another step after it."""
    todo: bool = True
    """Whether there is anything to do at all."""


def is_watched(run: RunRecord) -> bool:
    """Whether a run ends once it is decided; one that went on after it was does not any more."""
    return run.stop is not None and not (run.decided or {}).get("went_on")


def reach_of(run: RunRecord) -> Reach | None:
    """The cases of a run that may be done by now; None for all of them."""
    return Reach.from_json(run.reach) if run.reach and is_watched(run) else None


async def next_step(
    ledger: Ledger,
    blobs: Blobs,
    run: RunRecord,
    experiment: Experiment,
    content: DatasetContent,
    done: int = 0,
) -> Step:
    """Find out what of a run is to be done next, and record it; or that the run is decided.

    Args:
        ledger: where the run and the one that it is compared with are.
        blobs: where the dataset is.
        run: the run as it is recorded now.
        experiment: its experiment.
        content: its dataset.
        done: the rows of the step that was just worked through, 0 at the beginning of a pass: what it left
            open could not be done.

    Raises:
        ConfigError: the run that it is compared with is gone.
        BlobNotFoundError: the dataset's content is gone.
    """
    if not is_watched(run):
        return Step(todo=not done)
    assert run.stop is not None
    rule, now = StopRule.from_json(run.stop), reach_of(run)
    if now is not None and run.decided:
        return Step(now, todo=not done)
    if now is None:
        return await _reaching(ledger, run, rule, content, 0)
    seen = await _differences(ledger, blobs, run, experiment, content, rule, now)
    if seen is None:
        return Step(now, now.rows < content.rows, todo=now.rows != done)
    if decided := _judged(rule, seen, content.rows):
        await ledger.update_run(run.run_id, {"decided": decided})
        return Step(now, todo=False)
    if now.rows >= content.rows:
        return Step(now, todo=False)
    return await _reaching(ledger, run, rule, content, now.rows)


async def _reaching(
    ledger: Ledger, run: RunRecord, rule: StopRule, content: DatasetContent, done: int
) -> Step:
    rows = next_rows(done, content.rows, rule.looks)
    reach = await asyncio.to_thread(Reach.of, rule.seed, content.rows, rows)
    await ledger.update_run(run.run_id, {"reach": reach.to_json()})
    return Step(reach, rows < content.rows)


def _judged(rule: StopRule, seen: _Seen, total: int) -> dict[str, Any] | None:
    """Return what the rule says of the differences in their order, as a run's record has it; None while it is
    open."""
    from promptlab.statistics.sequential import Sequential  # not a part of a start that a run needs

    judge = Sequential(total, looks=rule.looks, margin=rule.margin, span=seen.span)
    for difference in seen.in_order():
        if isinf(difference):
            judge.skip()
        else:
            judge.add([None if isnan(difference) else difference])
        if judge.decided is not None:
            break
    found = judge.decided
    if found is None:
        return None
    numbers = {name: getattr(found, name) for name in ("n", "estimate", "low", "high", "z", "boundary", "e")}
    if found.by == "e-process":  # between looks no interval of theirs holds
        numbers |= {"low": None, "high": None, "boundary": None}
    return {"verdict": found.verdict, "by": found.by, **numbers, "total": total, "missing": judge.missing}


@dataclass(slots=True)
class _Seen:
    """The differences of a prefix's rows, in any order, with the place of each."""

    span: float | None
    places: array[int] = field(default_factory=lambda: array("q"))
    differences: array[float] = field(default_factory=lambda: array("d"))

    def in_order(self) -> Iterator[float]:
        for n in sorted(range(len(self.places)), key=self.places.__getitem__):
            yield self.differences[n]


async def _differences(
    ledger: Ledger,
    blobs: Blobs,
    run: RunRecord,
    experiment: Experiment,
    content: DatasetContent,
    rule: StopRule,
    reach: Reach,
) -> _Seen | None:
    """The differences of all rows of a prefix; None while some of them are open."""
    base = await ledger.get_run(rule.base)
    if base is None or base.deleting_since:
        raise ConfigError(
            f"Run {rule.base}, which this one was to be compared with while it went on, is gone: whether to "
            f"stop early cannot be decided. promptlab run the experiment again without `stop`, or against "
            "another run."
        )
    before = Experiment.model_validate(base.experiment)
    metric = next(m for m in experiment.evaluation if m.name == rule.metric)
    sides = (
        _Side(ledger, base, before, next(m for m in before.evaluation if m.name == rule.metric)),
        _Side(ledger, run, experiment, metric),
    )
    bounds = metric.bounds
    seen = _Seen(None if bounds is None else bounds[1] - bounds[0])
    shards = [shard async for shard in read_index(blobs, content) if reach.count(shard.first, shard.count)]
    for start in range(0, len(shards), AT_ONCE):
        group = shards[start : start + AT_ONCE]
        found = await asyncio.gather(*(_of_shard(blobs, content, sides, shard, reach) for shard in group))
        for values in found:
            if values is None:
                return None
            for row, difference in values.items():
                seen.places.append(place_of(rule.seed, row))
                seen.differences.append(difference)
    return seen


@dataclass(frozen=True, slots=True)
class _Answer:
    """A case of a run, answered."""

    completion: Completion
    score: Score | None
    """By the metric; None without one."""
    is_scored: bool
    """Whether it has scores at all; one that no metric is of has none."""


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two runs."""

    ledger: Ledger
    run: RunRecord
    experiment: Experiment
    metric: Metric

    async def read(self, shard: Shard, reach: Reach) -> dict[int, list[_Answer]]:
        """The answers of each row of a prefix, of those rows that have all."""
        ledger, run_id = self.ledger, self.run.run_id
        completions = await ledger.get_completions(run_id, shard.number)
        sets = {one.key: one for one in await ledger.get_scores(run_id, shard.number)}
        found: dict[int, list[_Answer]] = {}
        for completion in completions:
            if not reach.holds(completion.case):
                continue
            scores = sets.get(CaseKey(completion.case, completion.trial))
            if scores is not None and scores.generation < completion.generation:
                scores = None
            named = {} if scores is None else under_their_names(self.experiment.evaluation, scores)
            answer = _Answer(completion, named.get(self.metric.name), scores is not None)
            found.setdefault(completion.case, []).append(answer)
        trials = self.experiment.trials
        return {row: answers for row, answers in found.items() if len(answers) == trials}

    def is_open(self, row: Mapping[str, Any], answers: Sequence[_Answer]) -> bool:
        """Whether a row's answers are yet to be scored."""
        return any(not answer.is_scored and answer.completion.error is None for answer in answers) and any(
            m.applies_to(row) and m.is_labelled(row) for m in self.experiment.evaluation if not m.kept
        )


async def _of_shard(
    blobs: Blobs, content: DatasetContent, sides: tuple[_Side, _Side], shard: Shard, reach: Reach
) -> dict[int, float] | None:
    """The differences of a shard's rows in a prefix; None while some of them are open."""
    base, other = [await side.read(shard, reach) for side in sides]
    if len(other) < reach.count(shard.first, shard.count):
        return None
    metric = sides[1].metric
    failed = any(one.score is None for answers in (*base.values(), *other.values()) for one in answers)
    rows = await read_rows(blobs, content, shard) if failed else []
    found: dict[int, float] = {}
    for number, answers in other.items():
        row = rows[number - shard.first] if rows else None
        if row is not None and sides[1].is_open(row, answers):
            return None
        if row is not None and not (metric.applies_to(row) and metric.is_labelled(row)):
            found[number] = SKIPPED
            continue
        before, after = (_value(metric, one) for one in (base.get(number, ()), answers))
        if before is None or after is None:
            found[number] = SKIPPED if metric.missing == "exclude" else MISSING
            continue
        found[number] = after - before if metric.higher_is_better else before - after
    return found


def _value(metric: Metric, answers: Sequence[_Answer]) -> float | None:
    """A run's value of a row: the mean of its trials, those that the model failed as `missing` says; as a
    comparison at the end has it (`queries/compare_sql.py`)."""
    fails = metric.missing == "fail" or (metric.missing is None and metric.has_declared_bounds)
    bounds, values = metric.bounds, list[float]()
    for answer in answers:
        score, error = answer.score, answer.completion.error
        if score is not None and score.value is not None and score.error is None:
            values.append(score.value)
        elif fails and bounds is not None and error is not None and error.is_models_doing:
            values.append(bounds[0] if metric.higher_is_better else bounds[1])
    return sum(values) / len(values) if values else None

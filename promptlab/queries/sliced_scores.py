"""Scores of runs as a whole by the values of a dataset column, beside the metrics of cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from promptlab.gates.judging import GatedScore
from promptlab.ports import Blobs
from promptlab.queries.gated_scores import PartSums
from promptlab.queries.opened import StoredRun
from promptlab.queries.own_slices import OwnScores, own_scores
from promptlab.queries.pool import DuckDBPool
from promptlab.queries.run_level import RunComparison, Side, sides_of
from promptlab.statistics import FEWEST_ROWS, Judgement

METHOD = "bootstrap"
"""What the interval of such a score is made by."""


@dataclass(frozen=True, slots=True)
class By:
    """What rows are sliced by."""

    column: str
    keys: Mapping[str, Any]
    """The name of a slice (`slice_of`) → its key; of bins none."""


@dataclass(frozen=True, slots=True)
class SlicedScores:
    """The scores of the base by slice, and of each other run against it."""

    base: dict[Any, dict[str, GatedScore]] = field(default_factory=dict)
    """Key of the slice → score → what it is."""
    compared: list[tuple[Any, RunComparison, int]] = field(default_factory=list)
    """Key of the slice, the comparison, and the other run's rows."""
    notes: list[str] = field(default_factory=list)
    """Which metrics have no slices, and why."""


async def sliced_scores(
    pool: DuckDBPool,
    blobs: Blobs,
    runs: Sequence[StoredRun],
    key: Callable[[StoredRun], str | None],
    by: By,
) -> SlicedScores:
    """Compute the scores of each slice from the sums of its cases.

    Args:
        pool: where to ask.
        blobs: where the sums are.
        runs: the base and the others.
        key: SQL of the key of a row's slice in the index of a run; None where the run has no such column.
        by: the column, and the slices with a value of their own.
    """
    found, base, *others = SlicedScores(), *runs
    for name, side in sides_of(base.run).items():
        if side.spec.code is not None:
            await _own(blobs, found, name, side, [sides_of(other.run).get(name) for other in others], by)
            continue
        own = PartSums(pool, base, side, None, None, ())
        if (why := await own.load(blobs)) is not None:
            found.notes.append(f"{name} has no slices: {why}.")
            continue
        for value, one in await own.by(lambda run: key(run) or "NULL", _same, None):
            found.base.setdefault(value, {})[one.metric] = one
        for place, other in enumerate(others):
            theirs = sides_of(other.run).get(name)
            if theirs is None or key(other) is None:
                continue
            parts = PartSums(pool, other, theirs, base, side, ())
            if (why := await parts.load(blobs)) is not None:
                found.notes.append(f"{name} of run {other.run.run_id} has no slices: {why}.")
                continue
            for value, one in await parts.by(lambda run: key(run) or "NULL", _same, None):
                before = found.base.get(value, {}).get(one.metric)
                if before is not None:
                    found.compared.append(
                        (value, _comparison(place, before, one), min(before.rows, one.rows))
                    )
    return found


async def _own(
    blobs: Blobs, found: SlicedScores, name: str, side: Side, others: Sequence[Side | None], by: By
) -> None:
    """Add the slices of a metric of a user's own, as they were evaluated with their run."""
    own = "its slices are of single values" if not by.keys else await own_scores(blobs, side, None, by.column)
    if isinstance(own, str):
        found.notes.append(f"{name} has no slices: {own}.")
        return
    for value, one in own.scores():
        if value in by.keys:
            found.base.setdefault(by.keys[value], {})[one.metric] = one
    for place, theirs in enumerate(others):
        compared = None if theirs is None else await own_scores(blobs, theirs, side, by.column)
        if not isinstance(compared, OwnScores):
            continue
        for value, one in compared.scores():
            key = by.keys.get(value)
            before = found.base.get(key, {}).get(one.metric) if value in by.keys else None
            if before is not None:
                found.compared.append((key, _comparison(place, before, one), min(before.rows, one.rows)))


def _same(value: Any) -> Any:
    return value


def _comparison(place: int, before: GatedScore, one: GatedScore) -> RunComparison:
    return RunComparison(
        metric=one.metric,
        other=place,
        higher_is_better=one.higher_is_better,
        base_value=before.value,
        other_value=one.value,
        low=one.ends.low if one.ends else None,
        high=one.ends.high if one.ends else None,
        p=one.p,
        why=one.why,
        not_comparable=one.not_comparable,
    )


def mean_of(one: GatedScore) -> Mapping[str, Any]:
    """Give a score of a slice as `SliceMean` has it."""
    ends = {} if one.interval is None else {"ci_low": one.interval.low, "ci_high": one.interval.high}
    known = {"n": one.rows, "rows": one.rows, "mean": one.value, "higher_is_better": one.higher_is_better}
    return {**known, "method": METHOD, **ends}


def judgement_of(found: RunComparison, rows: int) -> Judgement:
    """Give a score's difference as metrics of cases have it: too few cases with fewer rows than FEWEST_ROWS,
    or without an interval."""
    few = rows < FEWEST_ROWS or found.verdict is None
    return Judgement(
        n=rows,
        missing_base=0,
        missing_other=0,
        base_mean=found.base_value,
        other_mean=found.other_value,
        difference=found.difference,
        stderr=found.stderr,
        ci_low=found.low,
        ci_high=found.high,
        method=METHOD,
        p=found.p,
        p_exact=None,
        p_adjusted=found.p_adjusted,
        wins=0,
        losses=0,
        ties=rows,
        verdict=None if found.not_comparable else "too few cases" if few else found.verdict,
        margin=found.margin,
        minimum_detectable=None,
        rows_needed=None,
        worst_low=None,
        worst_high=None,
    )

"""What a gate looks at of a run as a whole: its scores, as the summary has them, and over a part of its rows,
without those in quarantine and by slice, from the sums of its cases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from promptlab.duck import quoted
from promptlab.errors import BlobNotFoundError, ConfigError
from promptlab.evaluators.of_runs import Additive
from promptlab.evaluators.registry import build
from promptlab.gates.config import Check, Gates
from promptlab.gates.judging import GatedScore
from promptlab.ports import Blobs
from promptlab.queries.opened import StoredRun
from promptlab.queries.own_slices import own_scores
from promptlab.queries.pool import DuckDBPool
from promptlab.queries.run_level import (
    TOO_FEW,
    RunComparison,
    Side,
    differences,
    run_metrics_of,
    sides_of,
    tested,
    why_not_comparable,
)
from promptlab.results.case_sums import Valued, read_case_sums, total_of, valued
from promptlab.results.run_sums import RowSums, names_of
from promptlab.scratch import ScratchFolder
from promptlab.statistics.intervals import Interval

MOST_SLICES = 200
"""Values of one column: a column with more (an id, a text) is none to slice by."""
MOST_CASES = 500_000
"""Dataset rows of a run whose slices are looked at: each has its value in memory."""
SLICES_WORK = 20_000_000
"""Additions of the bootstraps of all slices of a column, of intervals and of differences each: about 2 s."""
OWN_CODE = "it is of code of your own, which is not run again"
EARLIER = "the run was summed up by an earlier version: add the metric again with `promptlab score`"


def column_of(run: StoredRun, column: str) -> str:
    """Give the name of a column of the dataset in the run's index.

    Raises:
        ConfigError: there is none.
    """
    names = {source: name for source, name, _ in run.columns.inputs}
    if column not in names:
        raise ConfigError(
            f"gates: the dataset of run {run.run.run_id} has no column {column!r} to slice by; it has "
            f"{', '.join(sorted(names)) or 'none'}."
        )
    return names[column]


def check_slices(column: str | None, count: int) -> None:
    """Refuse a column with too many values.

    Raises:
        ConfigError: there are more than MOST_SLICES.
    """
    if count > MOST_SLICES:
        raise ConfigError(
            f"gates: the column {column!r} has more than {MOST_SLICES} values: slice by one with fewer."
        )


def slice_of(value: Any) -> str:
    """Name a slice by its value in the index; `true` and `false` as slices of a run do."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


async def gated_scores(
    pool: DuckDBPool,
    blobs: Blobs,
    run: StoredRun,
    base: StoredRun | None,
    gates: Gates,
    compared: Sequence[RunComparison] = (),
) -> list[GatedScore]:
    """Give the scores of a run as a whole that checks are about.

    Args:
        pool: where to ask.
        blobs: where the sums of cases are.
        run: the run, finished.
        base: the baseline, finished; None without one.
        gates: the checks.
        compared: the scores over all rows, against the baseline's.

    Raises:
        ConfigError: a column to slice by is none of the dataset's, or has too many values.
    """
    found = _whole(run, compared, bool(gates.quarantine))
    others = {} if base is None else sides_of(base.run)
    for name, side in sides_of(run.run).items():
        own = set(side.spec.result_names)
        checks = [check for check in gates.checks if check.metric in own]
        columns = sorted({column for check in checks for column in check.slices})
        if not checks or not (gates.quarantine or columns):
            continue
        if side.spec.code is not None:
            found = await _of_own(blobs, found, side, others.get(name), checks, columns)
            continue
        parts = PartSums(pool, run, side, base, others.get(name), gates.quarantine)
        why = await parts.load(blobs)
        if why is not None:
            found = [replace(one, unsliced=why) if one.metric in own else one for one in found]
            continue
        if gates.quarantine:
            found = [one for one in found if one.metric not in own] + await parts.scores(None, checks)
        for column in columns:
            found += await parts.scores(column, [c for c in checks if column in c.slices])
    return found


async def _of_own(
    blobs: Blobs,
    found: Sequence[GatedScore],
    side: Side,
    other: Side | None,
    checks: Sequence[Check],
    columns: Sequence[str],
) -> list[GatedScore]:
    """Add the slices of a metric of a user's own, as they were evaluated with their run. Rows in quarantine
    count in all of its scores."""
    why, sliced = OWN_CODE, list[GatedScore]()
    for column in columns:
        own = await own_scores(blobs, side, other, column)
        if isinstance(own, str):
            why = own
            continue
        wanted = {check.metric for check in checks if column in check.slices}
        quarantined = any(one.with_quarantined for one in found)
        sliced += [
            replace(one, slice=f"{column}={name}", with_quarantined=quarantined, unsliced=OWN_CODE)
            for name, one in sorted(own.scores(), key=lambda pair: pair[0])
            if one.metric in wanted
        ]
    names = set(side.spec.result_names)
    return [*(replace(one, unsliced=why) if one.metric in names else one for one in found), *sliced]


def _whole(run: StoredRun, compared: Sequence[RunComparison], quarantine: bool) -> list[GatedScore]:
    """The scores as the run's summary has them; with `quarantine` they have rows that are to be left out."""
    against, found = {one.metric: one for one in compared}, []
    for metric in run_metrics_of(run.run).values():
        for name, score in metric.values.items():
            one = against.get(name)
            known: dict[str, Any] = {}
            if one is not None:
                ends = None if one.low is None or one.high is None else Interval(one.low, one.high)
                known = {"difference": one.difference, "ends": ends, "p": one.p, "why": one.why}
                known["not_comparable"] = one.not_comparable
            ends = None if score.low is None or score.high is None else Interval(score.low, score.high)
            found.append(
                GatedScore(
                    metric=name,
                    rows=metric.rows,
                    value=score.value,
                    interval=ends,
                    error=score.error,
                    higher_is_better=score.higher_is_better,
                    compared=one is not None,
                    with_quarantined=quarantine,
                    **known,
                )
            )
    return found


@dataclass(frozen=True, slots=True)
class _Part:
    """The sums of the cases of a slice."""

    sums: RowSums = field(default_factory=RowSums)
    rows: set[int] = field(default_factory=set)


class PartSums:
    """One metric over parts of a run's rows, and of the baseline's."""

    def __init__(
        self,
        pool: DuckDBPool,
        run: StoredRun,
        side: Side,
        base: StoredRun | None,
        other: Side | None,
        without: Sequence[str],
    ) -> None:
        self._pool, self._without = pool, without
        self._runs = [(run, side)] if base is None or other is None else [(run, side), (base, other)]
        self._different = None if other is None else why_not_comparable(other, side)
        self._read: list[list[tuple[int, str, dict[str, float]]]] = []

    async def load(self, blobs: Blobs) -> str | None:
        """Read the sums of cases; where that cannot be, say why."""
        keys = []
        for run, side in self._runs:
            if side.spec.code is not None:
                return OWN_CODE
            if side.metric.by_case is None:
                return EARLIER
            if run.total > MOST_CASES:
                return f"run {run.run.run_id} has more than {MOST_CASES:,} cases"
            keys.append(side.metric.by_case)
        with ScratchFolder("sums") as folder:
            try:
                files = await blobs.files(keys, folder)
            except BlobNotFoundError as error:
                return str(error)
            self._read = await asyncio.to_thread(lambda: [_read(file) for file in files])
        return None

    async def scores(self, column: str | None, checks: Iterable[Check]) -> list[GatedScore]:
        """Compute the scores of a column's slices; of no column those of all rows that are not left out."""
        wanted = {check.metric for check in checks if check.metric}
        found = await self.by(
            lambda run: "NULL" if column is None else quoted(column_of(run, column)),
            lambda value: None if column is None else slice_of(value),
            wanted,
            lambda count: check_slices(column, count),
        )
        return [
            replace(one, slice=None if column is None else f"{column}={value}")
            for value, one in sorted(found, key=lambda pair: pair[0] or "")
        ]

    async def by(
        self,
        key: Callable[[StoredRun], str],
        named: Callable[[Any], Any],
        wanted: Collection[str] | None,
        check: Callable[[int], None] | None = None,
    ) -> list[tuple[Any, GatedScore]]:
        """Compute the scores of parts of the rows, each with the name of its part.

        Args:
            key: SQL of what the rows of a part have in common, over a run's index.
            named: names a part by that value.
            wanted: the scores; None for all.
            check: is told how many parts there are, and may refuse.
        """
        sides = [
            await self._parted(run, read, key(run), named, check)
            for (run, _), read in zip(self._runs, self._read, strict=True)
        ]
        return await asyncio.to_thread(self._valued, sides, wanted)

    async def _parted(
        self,
        run: StoredRun,
        read: Sequence[tuple[int, str, dict[str, float]]],
        key: str,
        named: Callable[[Any], Any],
        check: Callable[[int], None] | None,
    ) -> dict[Any, _Part]:
        marks = ", ".join("?" * len(self._without))
        left = f" WHERE id NOT IN ({marks})" if self._without else ""
        rows = await self._pool.fetch(
            f'SELECT DISTINCT "case", {key} FROM {run.index}{left}', list(self._without)
        )
        names: dict[Any, Any] = {}
        for _, one in rows:
            if one not in names:
                names[one] = named(one)
                if check is not None:
                    check(len(names))
        parts, found = {case: names[one] for case, one in rows}, dict[Any, _Part]()
        for case, unit, sums in read:
            if case in parts:
                part = found.setdefault(parts[case], _Part())
                part.sums.add_key(unit, sums)
                part.rows.add(case)
        return found

    def _valued(
        self, sides: Sequence[Mapping[Any, _Part]], wanted: Collection[str] | None
    ) -> list[tuple[Any, GatedScore]]:
        _, side = self._runs[0]
        evaluator, found = build(side.spec.metric, side.spec.params), []
        assert isinstance(evaluator, Additive)
        work = SLICES_WORK // max(1, len(sides[0]))
        for value, part in sides[0].items():
            values, _ = valued(evaluator, part.sums, most_work=work)
            before = sides[1].get(value) if len(sides) > 1 else None
            base = {} if before is None else evaluator.values(total_of(before.sums))
            drawn = {}
            if before is not None and self._different is None:
                drawn = differences(before.sums, part.sums, evaluator, most_work=work)
            for name, own, higher in names_of(side.spec):
                if wanted is not None and name not in wanted:
                    continue
                one, other = values.get(own, Valued(None)), base.get(own)
                known: dict[str, Any] = {"not_comparable": self._different}
                if one.value is not None and other is not None:
                    known["difference"] = one.value - other
                    test = tested(one.value - other, drawn[own]) if own in drawn else None
                    known |= {"ends": Interval(test.low, test.high), "p": test.p} if test else {}
                    known["why"] = None if test else TOO_FEW
                ends = None if one.low is None or one.high is None else Interval(one.low, one.high)
                score = GatedScore(
                    metric=name,
                    rows=len(part.rows),
                    value=one.value,
                    interval=ends,
                    higher_is_better=higher,
                    compared=before is not None,
                    **known,
                )
                found.append((value, score))
        return found


def _read(file: Path) -> list[tuple[int, str, dict[str, float]]]:
    return [(one.case, one.unit, one.sums) for one in read_case_sums(file)]

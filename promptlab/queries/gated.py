"""What a gate looks at: a run's metrics, alone and against a baseline, over all rows and by slice, without
the rows in quarantine. One query over the runs' indexes for all rows, and one a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from promptlab.duck import quoted
from promptlab.gates.config import Gates
from promptlab.gates.judging import GatedMetric, GatedScore, GateInputs
from promptlab.queries.compare import cluster_errors, not_comparable, paired_of, pairing_of
from promptlab.queries.compare_sql import ANSWER, Pairing, skewness_of
from promptlab.queries.gated_scores import MOST_SLICES, check_slices, column_of, slice_of
from promptlab.queries.opened import StoredRun
from promptlab.queries.pool import DuckDBPool


async def measured(
    pool: DuckDBPool,
    run: StoredRun,
    base: StoredRun | None,
    gates: Gates,
    scores: Sequence[GatedScore] = (),
) -> GateInputs:
    """Measure what the checks of a gate need.

    Args:
        pool: where to ask.
        run: the run, finished.
        base: the baseline, finished; None without one.
        gates: the checks.
        scores: those of the run as a whole (`gated_scores`).

    Raises:
        ConfigError: a column to slice by is none of the dataset's, or has too many values.
    """
    # Against itself a run has its own values on both sides.
    alone = await pairing_of(pool, [run, run])
    both = await pairing_of(pool, [base, run]) if base is not None else None
    columns = sorted({column for check in gates.checks for column in check.slices})
    found: list[GatedMetric] = []
    for column in (None, *columns):
        wanted = {c.metric for c in gates.checks if c.metric and (column is None or column in c.slices)}
        if not wanted:
            continue
        own = await _asked(pool, run, run, alone, gates.quarantine, column)
        other = await _asked(pool, base, run, both, gates.quarantine, column) if base and both else {}
        for value in own:
            for pair, (metric, _) in enumerate(alone.pairs):
                if metric not in wanted or metric == ANSWER:
                    continue
                one = _own([run, run], alone, own[value], pair, column, value)
                found.append(_with_base(one, base, run, both, other.get(value)))
    return GateInputs(
        metrics=found,
        scores=scores,
        quarantined=await _quarantined(pool, run, gates.quarantine),
    )


async def _asked(
    pool: DuckDBPool,
    base: StoredRun,
    run: StoredRun,
    pairing: Pairing,
    without: Sequence[str],
    column: str | None,
) -> dict[str | None, dict[str, Any]]:
    """The aggregates of each slice, by its value; of no column those of all rows, under None."""
    by = None if column is None else column_of(base, column)
    sql, names_of, values = pairing.sliced(0, by, without, MOST_SLICES + 1)
    if not names_of:
        return {}
    rows = await pool.fetch(sql, values)
    check_slices(column, len(rows))
    keys = [None if column is None else slice_of(row[0]) for row in rows]
    # Rows that belong together (`cluster_by`) are not independent: of the difference to the baseline.
    apart = base is not run
    errors = await cluster_errors(pool, pairing, quoted(by) if by else "0", 0, without) if apart else {}
    return {
        key: dict(zip(names_of, row[1:], strict=True)) | errors.get(0 if column is None else row[0], {})
        for key, row in sorted(zip(keys, rows, strict=True), key=lambda one: one[0] or "")
    }


def _own(
    runs: Sequence[StoredRun],
    pairing: Pairing,
    found: Mapping[str, Any],
    pair: int,
    column: str | None,
    value: str | None,
) -> GatedMetric:
    data = paired_of(runs, pairing, found, pair, {})
    return GatedMetric(
        metric=pairing.pairs[pair][0],
        slice=None if column is None else f"{column}={value}",
        n=data.n,
        missing=data.missing_other,
        mean=data.other_mean,
        deviation=found[f"spread{pair}"] or 0.0,
        skewness=skewness_of(found[f"skewness{pair}"], data.n),
        share=data.kind == "binary",
        bounds=data.bounds,
    )


def _with_base(
    one: GatedMetric,
    base: StoredRun | None,
    run: StoredRun,
    both: Pairing | None,
    found: Mapping[str, Any] | None,
) -> GatedMetric:
    if base is None or both is None or found is None:
        return one
    place = next((n for n, (metric, _) in enumerate(both.pairs) if metric == one.metric), None)
    if place is None:
        return one
    runs = [base, run]
    return replace(
        one,
        paired=paired_of(runs, both, found, place, {}),
        not_comparable=not_comparable(runs, one.metric, 0),
    )


async def _quarantined(pool: DuckDBPool, run: StoredRun, ids: Sequence[str]) -> tuple[str, ...]:
    if not ids:
        return ()
    marks = ", ".join("?" * len(ids))
    rows = await pool.fetch(
        f"SELECT DISTINCT id FROM {run.index} WHERE id IN ({marks}) ORDER BY id", list(ids)
    )
    return tuple(str(row[0]) for row in rows)

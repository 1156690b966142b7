"""Evaluates a user's metric of the run as a whole on the rows of each slice, when the run is summed up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from promptlab.domain.results import Score
from promptlab.duck import connect, parquet, quoted, reading_results
from promptlab.engine.user_code import OverdueError
from promptlab.evaluators.whole import Unit, packed
from promptlab.results.index import index_types
from promptlab.results.own_slices import OwnSlice, OwnSlices
from promptlab.results.table import Columns

MOST_SLICES = 50
"""Values of a column whose slices are evaluated; a column with more has none."""
MOST_WHY = 2_000


def slices_of(path: Path, shape: Columns, columns: Sequence[str]) -> dict[str, dict[int, str]]:
    """Name the slice of each dataset row, by column: as the index has its value.

    Args:
        path: the results file, in a scratch folder.
        shape: its columns.
        columns: of the dataset.
    """
    kept, names = index_types(shape), {source: name for source, name, _ in shape.inputs}
    found: dict[str, dict[int, str]] = {}
    with reading_results(), connect(path.parent) as con:
        for column in columns:
            if column not in names:
                continue
            value = kept[names[column]]
            rows = con.execute(f"SELECT DISTINCT {quoted('case')}, {value} FROM {parquet(path)}").fetchall()
            found[column] = {case: "" if one is None else str(one) for case, one in rows}
    return found


async def evaluated(
    score: Callable[[dict[str, Any], float], Awaitable[Score]],
    cases: Sequence[Unit],
    slices: Mapping[str, Mapping[int, str]],
    limit_s: float,
    ends_of: Callable[[Sequence[float] | None, float | None, int], Sequence[float | None]],
) -> OwnSlices:
    """Evaluate every slice of every column, all of them within one time limit.

    Args:
        score: evaluates the metric on packed cases, within so many seconds.
        cases: those of the run that count.
        slices: column → dataset row → the name of its slice.
        limit_s: seconds.
        ends_of: makes the interval of a score from what was drawn, its value and the number of rows.
    """
    until, columns, why = monotonic() + limit_s, dict[str, dict[str, OwnSlice]](), dict[str, str]()
    for column, by in slices.items():
        parts: dict[str, list[Unit]] = {}
        for unit, case in cases:
            parts.setdefault(by.get(case.row, ""), []).append((unit, case))
        if len(parts) > MOST_SLICES:
            why[column] = f"it has {len(parts):,} values; at most {MOST_SLICES} are evaluated"
            continue
        columns[column] = {
            name: await _slice(score, part, until - monotonic(), limit_s, ends_of)
            for name, part in parts.items()
        }
    return OwnSlices(columns, why)


async def _slice(
    score: Callable[[dict[str, Any], float], Awaitable[Score]],
    part: Sequence[Unit],
    left_s: float,
    limit_s: float,
    ends_of: Callable[[Sequence[float] | None, float | None, int], Sequence[float | None]],
) -> OwnSlice:
    rows, error = len({case.row for _, case in part}), ""
    try:
        if left_s <= 0:
            raise OverdueError
        found = await score(packed(part), left_s)
    except OverdueError:
        error = f"all slices together took longer than timeout_s={limit_s:g} s"
    except (ValueError, TypeError) as raised:
        error = str(raised)
    if error:
        return OwnSlice(rows=rows, error=error[:MOST_WHY])
    scores = found.metadata.get("scores")
    if not isinstance(scores, Mapping):
        why = found.error.message if found.error else found.reason or "it gave no such score"
        return OwnSlice(rows=rows, error=why[:MOST_WHY])
    values = {name: one["value"] for name, one in scores.items() if one.get("value") is not None}
    drawn_ends, units_n = found.metadata.get("ends") or {}, len({unit for unit, _ in part})
    ends = {}
    for name, value in values.items():
        low, high, _ = ends_of(drawn_ends.get(name), value, units_n)
        if low is not None and high is not None:
            ends[name] = low, high
    drawn = found.metadata.get("drawn") or {}
    units = str(found.metadata.get("units") or "") if drawn else ""
    return OwnSlice(rows=rows, values=values, ends=ends, units=units, apart=drawn)

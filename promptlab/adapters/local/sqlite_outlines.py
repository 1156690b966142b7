"""Outlines of the runs in the ledger's file.

Of 500 runs with 12 metrics, reading the records as JSON and checking their summaries took a second: SQLite
leaves the summaries out in 60 ms, outside of Python's lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import orjson

from promptlab.adapters.records import cursor_at
from promptlab.domain.outline import RunOutline, names_in
from promptlab.domain.results import RunRecord

# What is no JSON to SQLite (a damaged body, or one nested deeper than it reads) comes as it is.
_OUTLINES = """
    SELECT run_id, name, created_at, cases,
        CAST(CASE WHEN json_valid(text) THEN json_remove(text, ?4) ELSE text END AS BLOB),
        CASE WHEN json_valid(text) THEN json_type(text, '$.summary') END,
        CASE WHEN json_valid(text) THEN
            (SELECT CAST(json_group_array(key) AS BLOB) FROM json_each(text, '$.summary.metrics')) END,
        CASE WHEN json_valid(text) AND ?5 IS NOT NULL THEN
            (SELECT CAST(json_group_object(key, value) AS BLOB) FROM json_each(text, '$.summary.metrics')
             WHERE key IN (SELECT value FROM json_each(?5))) END
    FROM (
        SELECT run_id, name, created_at, cases, CAST(body AS TEXT) AS text FROM run
        WHERE ?1 IS NULL OR (created_at, run_id) < (?1, ?2)
        ORDER BY created_at DESC, run_id DESC LIMIT ?3
    )"""

Listed = Callable[[str, str, str, int, bytes], RunRecord]
"""Reads a run's row, or makes what stands in its place."""


def outlines(
    connection: sqlite3.Connection,
    listed: Listed,
    metrics: Collection[str] | None,
    limit: int,
    after: tuple[str, str] | None,
) -> tuple[list[RunOutline], str | None]:
    """Read a page of outlines, newest first, and the cursor of the next page or None."""
    left_out = "$.summary" if metrics is None else "$.summary.metrics"
    kept = None if metrics is None else orjson.dumps(list(metrics)).decode()
    values = (*(after or (None, None)), limit + 1, left_out, kept)
    rows = connection.execute(_OUTLINES, values).fetchall()
    found = [_outline(listed(*row[:5]), *row[5:]) for row in rows[:limit]]
    if len(rows) <= limit:
        return found, None
    run_id, _, created_at, *_ = rows[limit - 1]
    return found, cursor_at(created_at, run_id)


def _outline(run: RunRecord, summary: str | None, names: bytes | None, kept: bytes | None) -> RunOutline:
    if summary in (None, "null") or run.unreadable:
        return RunOutline.of(run)
    try:
        found = names_in(orjson.loads(names or b"[]"))
        parts = orjson.loads(kept) if kept is not None else None
    except ValueError:  # text that is no UTF-8; whoever reads the run whole is told
        return RunOutline(replace(run, summary=None), ())
    if isinstance(run.summary, Mapping) and parts is not None:
        return RunOutline(replace(run, summary={**run.summary, "metrics": parts}), found)
    return RunOutline(replace(run, summary=None), found)

"""Outlines of the runs in the ledger's file.

Of 500 runs with 12 metrics, reading the records as JSON and checking their summaries took a second: SQLite
leaves the summaries out in 60 ms, outside of Python's lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import orjson

from promptlab.adapters.local.sqlite_open import Connection
from promptlab.adapters.records import cursor_at
from promptlab.domain.outline import RunOutline, names_in
from promptlab.domain.results import RunRecord

_PAGE = """
    FROM (
        SELECT run_id, name, created_at, cases, CAST(body AS TEXT) AS text FROM run
        WHERE ?1 IS NULL OR (created_at, run_id) < (?1, ?2)
        ORDER BY created_at DESC, run_id DESC LIMIT ?3
    )"""
# Each of the functions reads the whole text anew, 17 ms of 500 runs: so the kind of a summary is looked for
# only where it has no metrics, and whether the text is JSON at all only once one of them is not.
_OUTLINES = f"""
    SELECT run_id, name, created_at, cases,
        CAST(json_remove(text, ?4) AS BLOB),
        (SELECT CAST(CASE WHEN count(*) THEN json_array('object', json_group_array(key))
            ELSE json_array(json_type(text, '$.summary'), json_array()) END AS BLOB)
         FROM json_each(text, '$.summary.metrics')),
        CASE WHEN ?5 IS NOT NULL THEN
            (SELECT CAST(json_group_object(key, value) AS BLOB) FROM json_each(text, '$.summary.metrics')
             WHERE key IN (SELECT value FROM json_each(?5))) END
    {_PAGE}"""
# What is no JSON to SQLite (a damaged body, or one nested deeper than it reads) comes as it is.
_DAMAGED = f"""
    SELECT run_id, name, created_at, cases,
        CAST(CASE WHEN json_valid(text) THEN json_remove(text, ?4) ELSE text END AS BLOB),
        CASE WHEN json_valid(text) THEN
            (SELECT CAST(json_array(json_type(text, '$.summary'), json_group_array(key)) AS BLOB)
             FROM json_each(text, '$.summary.metrics')) END,
        CASE WHEN json_valid(text) AND ?5 IS NOT NULL THEN
            (SELECT CAST(json_group_object(key, value) AS BLOB) FROM json_each(text, '$.summary.metrics')
             WHERE key IN (SELECT value FROM json_each(?5))) END
    {_PAGE}"""

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

    def read() -> list[Any]:
        try:
            return connection.execute(_OUTLINES, values).fetchall()
        except sqlite3.OperationalError:  # malformed JSON; whatever else it is comes again
            return connection.execute(_DAMAGED, values).fetchall()

    # A search of the list asks with every key for the same outlines.
    rows = connection.unchanged(values, read) if isinstance(connection, Connection) else read()
    found = [_outline(listed(*row[:5]), *row[5:]) for row in rows[:limit]]
    if len(rows) <= limit:
        return found, None
    run_id, _, created_at, *_ = rows[limit - 1]
    return found, cursor_at(created_at, run_id)


def _outline(run: RunRecord, summary: bytes | None, kept: bytes | None) -> RunOutline:
    if summary is None or run.unreadable:
        return RunOutline.of(run)
    try:
        kind, names = orjson.loads(summary)
        parts = orjson.loads(kept) if kept is not None else None
    except ValueError:  # text that is no UTF-8; whoever reads the run whole is told
        return RunOutline(replace(run, summary=None), ())
    if kind in (None, "null"):
        return RunOutline.of(run)
    if isinstance(run.summary, Mapping) and parts is not None:
        return RunOutline(replace(run, summary={**run.summary, "metrics": parts}), names_in(names))
    return RunOutline(replace(run, summary=None), names_in(names))

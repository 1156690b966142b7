"""Turns of conversations in the ledger's file."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

import orjson

from promptlab.domain.results import CaseKey

SINCE = 4
"""The schema version that brought the table."""


def is_missing(connection: sqlite3.Connection) -> bool:
    """Whether the file is of an older version, which has no turns: it gets the table with the next write."""
    return bool(connection.execute("PRAGMA user_version").fetchone()[0] < SINCE)


def bodies(connection: sqlite3.Connection, run_id: str, shard: int) -> list[bytes]:
    """The turns of a shard, by case, trial and number."""
    if is_missing(connection):
        return []
    found = connection.execute(
        "SELECT body FROM turn WHERE run_id = ? AND shard = ? ORDER BY case_number, trial, number",
        (run_id, shard),
    )
    return [body for (body,) in found]


def clear(connection: sqlite3.Connection, run_id: str, shard: int, cases: Collection[CaseKey]) -> None:
    """Remove the turns of some cases."""
    connection.execute(
        "DELETE FROM turn WHERE run_id = ?1 AND shard = ?2 AND (case_number, trial) IN "
        "(SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?3))",
        (run_id, shard, orjson.dumps([list(key) for key in cases]).decode()),
    )

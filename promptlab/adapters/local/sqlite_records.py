"""The records of the SQLite ledger: small objects with an expiry, and counters.

A counter has the kind `<kind>#`: the primary key finds and orders all of them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

import orjson

from promptlab.adapters.records import plain, to_json
from promptlab.domain.records import Swap

SINCE = 2
"""The schema version that brought the table of records."""


def _is_older(connection: sqlite3.Connection) -> bool:
    """Whether the file is of a version without the table: it gets it with its next write."""
    return bool(connection.execute("PRAGMA user_version").fetchone()[0] < SINCE)


def put(
    connection: sqlite3.Connection,
    kind: str,
    key: str,
    body: bytes,
    expires_at: float | None,
    only_if_absent: bool,
) -> bool:
    _forget_expired(connection)
    verb = "INSERT OR IGNORE" if only_if_absent else "INSERT OR REPLACE"
    values = (kind, key, expires_at, body)
    return bool(connection.execute(f"{verb} INTO record VALUES (?, ?, ?, ?)", values).rowcount)


def swap(connection: sqlite3.Connection, swaps: Sequence[Swap]) -> bool:
    for one in swaps:
        body = get(connection, one.kind, one.key)
        was = None if body is None else orjson.loads(body)
        if was != plain(one.was):
            return False
    for one in swaps:
        if one.now is None:
            delete(connection, one.kind, one.key)
        else:
            put(connection, one.kind, one.key, to_json(one.now), one.expires_at, False)
    return True


def _forget_expired(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM record WHERE expires_at <= ?", (time.time(),))


def get(connection: sqlite3.Connection, kind: str, key: str) -> bytes | None:
    """The record's JSON."""
    if _is_older(connection):
        return None
    row = connection.execute(
        "SELECT body FROM record WHERE kind = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?)",
        (kind, key, time.time()),
    ).fetchone()
    return row[0] if row else None


def delete(connection: sqlite3.Connection, kind: str, key: str) -> None:
    connection.execute("DELETE FROM record WHERE kind = ? AND key = ?", (kind, key))


def clear(connection: sqlite3.Connection, kind: str) -> None:
    connection.execute("DELETE FROM record WHERE kind = ?", (kind,))


def listed(
    connection: sqlite3.Connection, kind: str, newest: bool, after: str, limit: int
) -> list[tuple[str, bytes]]:
    """Keys and JSON, in order."""
    if _is_older(connection):
        return []
    beyond, order = ("key < ?", "DESC") if newest else ("key > ?", "ASC")
    found = connection.execute(
        f"SELECT key, body FROM record WHERE kind = ? AND ({beyond} OR ? = '') "
        f"AND (expires_at IS NULL OR expires_at > ?) ORDER BY key {order} LIMIT ?",
        (kind, after, after, time.time(), limit),
    )
    return found.fetchall()


def count_up(
    connection: sqlite3.Connection, kind: str, key: str, by: int, expires_at: float
) -> tuple[int, float]:
    """The counter and its end, after the addition."""
    _forget_expired(connection)
    row = connection.execute(
        "INSERT INTO record VALUES (?, ?, ?, CAST(? AS BLOB)) ON CONFLICT (kind, key) DO UPDATE "
        "SET body = CAST(CAST(CAST(body AS TEXT) AS INTEGER) + ? AS BLOB) "
        "RETURNING CAST(CAST(body AS TEXT) AS INTEGER), expires_at",
        (f"{kind}#", key, expires_at, by, by),
    ).fetchone()
    return row[0], row[1]

"""The ledger of one machine: a file of SQLite."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import weakref
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson

from promptlab.adapters.local import sqlite_outlines, sqlite_records, sqlite_tally, sqlite_turns
from promptlab.adapters.local.sqlite_file import SqliteFile
from promptlab.adapters.local.sqlite_open import check
from promptlab.adapters.records import (
    FAULTS,
    after,
    asset_from,
    check_changes,
    check_limit,
    check_listed,
    check_swaps,
    completion_body,
    completion_from,
    cursor_at,
    damaged,
    plain,
    run_from,
    score_set_from,
    shard_from,
    to_json,
    turn_body,
    turn_from,
    unreadable,
)
from promptlab.domain.asset_checks import unreadable_asset
from promptlab.domain.assets import AssetKind, AssetVersion
from promptlab.domain.outline import RunOutline
from promptlab.domain.records import Swap
from promptlab.domain.results import CaseKey, Completion, Progress, RunRecord, ScoreSet, ShardSummary
from promptlab.domain.turns import Turn
from promptlab.errors import (
    AssetNotFoundError,
    RunExistsError,
    RunNotFoundError,
    StoreDamagedError,
    VersionTakenError,
)
from promptlab.program import program

T = TypeVar("T")
PAGE = 100
"""Shard summaries read at once: one is some 10 KB."""
_VERSION = """
    SELECT kind, name, version, body, (
        SELECT json_group_array(label) FROM label l
        WHERE l.kind = a.kind AND l.name = a.name AND l.version = a.version)
    FROM asset a WHERE kind = ?"""


def _upsert(table: str, keys: Sequence[str], columns: Sequence[str]) -> str:
    """A statement that writes a JSON list of rows; a row's body comes last.

    One statement, and not one a row: between statements sqlite3 gives up Python's lock, and while the
    event loop is busy it waits up to 5 ms to have it back (10 rows: 15 ms with executemany, 2 ms so).
    """
    values = [f"json_extract(value, '$[{i}]')" for i in range(len(keys) + len(columns))]
    changes = ", ".join(f"{column} = excluded.{column}" for column in (*columns, "body"))
    names = ", ".join((*keys, *columns, "body"))
    body = f"CAST(json_extract(value, '$[{len(values)}]') AS BLOB)"
    # WHERE keeps SQLite from taking ON CONFLICT for the ON of a join.
    return (
        f"INSERT INTO {table} ({names}) SELECT {', '.join(values)}, {body} FROM json_each(?1) "
        f"WHERE NOT ?2 OR EXISTS (SELECT 1 FROM run WHERE run_id = ?3) ON CONFLICT DO UPDATE SET {changes}"
    )


_CASE = ("run_id", "shard", "case_number", "trial")
_PUT_COMPLETIONS = _upsert(
    "completion", _CASE, ("error_type", "prompt_tokens", "completion_tokens", "cost_usd", "latency_ms")
)
_PUT_SCORES = _upsert("score_set", _CASE, ())
_PUT_TURNS = _upsert("turn", (*_CASE, "number"), ())
_PUT_SHARD = _upsert("shard", ("run_id", "number"), ())
_SHARDS_AT_ONCE = 200
"""Shards whose rows one transaction removes: others want to write, too."""


class SqliteLedger:
    """The Ledger in one SQLite file. The first write creates the file; its folder must be there.

    Durable against the end of the process at any moment; the last second of writes may be lost
    when the machine itself loses power (SQLite's WAL with synchronous=NORMAL).

    Every method raises PromptLabError, naming the path, where the file cannot be used: it is not a
    ledger, is of a newer version, may not be written, or stays locked by another process for ten seconds.
    """

    def __init__(self, path: Path | str) -> None:
        # Absolute: the program may change its working folder before the first write.
        self.path = Path(path).absolute()
        self._file = SqliteFile(self.path)
        # Runs that this process recorded or changed. The file may be deleted and made anew while they are
        # worked on: what is paid for must not go where no run is.
        self._here: set[str] = set()
        self._finalizer = weakref.finalize(self, self._file.close)

    async def add_asset(self, asset: AssetVersion) -> None:
        await self._file.write(_add_asset, asset)

    async def get_asset(self, kind: AssetKind, name: str, version: int | None = None) -> AssetVersion | None:
        if version is None:
            found = await self._file.read(
                _versions, "AND name = ? ORDER BY version DESC LIMIT 1", (kind, name)
            )
        else:
            found = await self._file.read(_versions, "AND name = ? AND version = ?", (kind, name, version))
        return found[0] if found else None

    async def list_assets(self, kind: AssetKind) -> list[AssetVersion]:
        latest = (
            "AND version = (SELECT max(version) FROM asset b WHERE b.kind = a.kind AND b.name = "
            "a.name) ORDER BY name"
        )
        return await self._file.read(_listed_versions, latest, (kind,))

    async def list_versions(self, kind: AssetKind, name: str) -> list[AssetVersion]:
        return await self._file.read(_listed_versions, "AND name = ? ORDER BY version", (kind, name))

    async def delete_asset(self, kind: AssetKind, name: str, version: int) -> None:
        await self._file.write(_delete_asset, kind, name, version)
        await self._file.read(_shorten_log)

    async def set_label(self, kind: AssetKind, name: str, label: str, version: int) -> None:
        await self._file.write(_set_label, kind, name, label, version)

    async def delete_label(self, kind: AssetKind, name: str, label: str) -> bool:
        return await self._file.write(_delete_label, kind, name, label)

    async def get_label(self, kind: AssetKind, name: str, label: str) -> int | None:
        found = await self._file.read(
            _rows, "SELECT version FROM label WHERE kind = ? AND name = ? AND label = ?", (kind, name, label)
        )
        return found[0][0] if found else None

    async def add_run(self, run: RunRecord) -> None:
        await self._file.write(_add_run, run)
        self._here.add(run.run_id)

    async def get_run(self, run_id: str) -> RunRecord | None:
        return await self._file.read(_get_run, run_id)

    async def update_run(
        self,
        run_id: str,
        changes: Mapping[str, Any],
        *,
        if_status: Collection[str] | None = None,
        if_is: Mapping[str, Any] | None = None,
    ) -> bool:
        check_changes(changes)
        changed = await self._file.write(_update_run, run_id, dict(changes), if_status, if_is or {})
        self._here.add(run_id)
        return changed

    async def list_runs(
        self, *, name: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[RunRecord], str | None]:
        check_limit(limit)
        return await self._file.read(_list_runs, name, limit, after(cursor) if cursor is not None else None)

    async def outline_runs(
        self, *, metrics: Collection[str] | None = None, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[RunOutline], str | None]:
        check_limit(limit)
        where = after(cursor) if cursor is not None else None
        return await self._file.read(sqlite_outlines.outlines, _listed, metrics, limit, where)

    async def delete_run(self, run_id: str) -> bool:
        while numbers := await self.shard_numbers(run_id, limit=_SHARDS_AT_ONCE):
            await self.clear_shards(run_id, numbers)
        there = await self._file.write(_delete_run, run_id)
        await self._file.read(_shorten_log)
        return there

    async def shard_numbers(self, run_id: str, *, limit: int) -> list[int]:
        return await self._file.read(_shard_numbers, run_id, limit)

    async def clear_shards(self, run_id: str, numbers: Collection[int]) -> None:
        await self._file.write(_clear_shards, run_id, numbers)

    async def put_completions(self, run_id: str, completions: Sequence[Completion]) -> None:
        await self._put(run_id, _PUT_COMPLETIONS, [_completion_row(run_id, c) for c in completions])

    async def get_completions(self, run_id: str, shard: int) -> list[Completion]:
        return await self._file.read(_shard_of, "completion", completion_from, run_id, shard)

    async def put_turns(self, run_id: str, turns: Sequence[Turn]) -> None:
        rows = [
            (run_id, t.shard, t.case, t.trial, t.number, orjson.Fragment(to_json(turn_body(t))))
            for t in turns
        ]
        await self._put(run_id, _PUT_TURNS, rows)

    async def get_turns(self, run_id: str, shard: int) -> list[Turn]:
        return [_read(turn_from, body) for body in await self._file.read(sqlite_turns.bodies, run_id, shard)]

    async def clear_turns(self, run_id: str, shard: int, cases: Collection[CaseKey]) -> None:
        await self._file.write(sqlite_turns.clear, run_id, shard, cases)

    async def put_scores(self, run_id: str, scores: Sequence[ScoreSet]) -> None:
        await self._put(
            run_id,
            _PUT_SCORES,
            [(run_id, s.shard, s.case, s.trial, orjson.Fragment(to_json(s))) for s in scores],
        )

    async def _put(self, run_id: str, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        here = run_id in self._here
        written = await self._file.write_one(statement, orjson.dumps(rows).decode(), here, run_id)
        if here and rows and not written:
            raise RunNotFoundError(run_id)

    async def get_scores(self, run_id: str, shard: int) -> list[ScoreSet]:
        return await self._file.read(_shard_of, "score_set", score_set_from, run_id, shard)

    async def put_shard(self, run_id: str, shard: ShardSummary) -> None:
        await self._put(run_id, _PUT_SHARD, [(run_id, shard.number, orjson.Fragment(to_json(shard)))])

    async def shards(self, run_id: str) -> AsyncIterator[ShardSummary]:
        last = -1
        while page := await self._file.read(_shards_after, run_id, last):
            for shard in page:
                yield shard
            last = page[-1].number

    async def progress(self, run_id: str) -> Progress:
        return await self._file.read(sqlite_tally.progress, run_id)

    async def put_record(
        self,
        kind: str,
        key: str,
        value: Mapping[str, Any],
        *,
        expires_at: float | None = None,
        only_if_absent: bool = False,
    ) -> bool:
        return await self._file.write(
            sqlite_records.put, kind, key, to_json(value), expires_at, only_if_absent
        )

    async def get_record(self, kind: str, key: str) -> dict[str, Any] | None:
        body = await self._file.read(sqlite_records.get, kind, key)
        return None if body is None else _read(dict, body)

    async def delete_record(self, kind: str, key: str) -> None:
        await self._file.write(sqlite_records.delete, kind, key)

    async def swap_records(self, swaps: Sequence[Swap]) -> bool:
        check_swaps(swaps)
        return await self._file.write(sqlite_records.swap, swaps)

    async def clear_records(self, kind: str) -> None:
        await self._file.write(sqlite_records.clear, kind)

    async def list_records(
        self, kind: str, *, newest: bool = False, after: str = "", limit: int = 100
    ) -> list[tuple[str, dict[str, Any]]]:
        check_listed(kind)
        found = await self._file.read(sqlite_records.listed, kind, newest, after, limit)
        return [(key, _read(dict, body)) for key, body in found]

    async def count_up(self, kind: str, key: str, *, by: int = 1, expires_at: float) -> tuple[int, float]:
        return await self._file.write(sqlite_records.count_up, kind, key, by, expires_at)

    async def check(self) -> None:
        await self._file.read(check, self.path)

    async def close(self) -> None:
        await asyncio.to_thread(self._file.close)


def _read(record: Callable[[Any], T], body: Any) -> T:
    """A record from the JSON of its body.

    Raises:
        StoreDamagedError: the body is no such record.
    """
    try:
        return record(orjson.loads(body))
    except FAULTS as error:
        raise damaged(error, f"See what can be saved with: {program()} doctor") from error


def _rows(connection: sqlite3.Connection, sql: str, values: Sequence[Any]) -> list[Any]:
    return connection.execute(sql, values).fetchall()


def _add_asset(connection: sqlite3.Connection, asset: AssetVersion) -> None:
    row = (asset.kind, asset.name, asset.version, to_json(dataclasses.replace(asset, labels=())))
    if not connection.execute("INSERT INTO asset VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", row).rowcount:
        raise VersionTakenError(
            f"Version {asset.version} of {asset.kind} {asset.name!r} is recorded already: read the latest "
            "version again and retry."
        )


def _versions(connection: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[AssetVersion]:
    found = connection.execute(f"{_VERSION} {where}", values)
    return [_read(partial(asset_from, labels=orjson.loads(labels)), body) for *_, body, labels in found]


def _listed_versions(connection: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[AssetVersion]:
    """Do as `_versions`; what cannot be read is in its place, and says why."""
    versions = []
    for kind, name, version, body, labels in connection.execute(f"{_VERSION} {where}", values):
        try:
            versions.append(_read(partial(asset_from, labels=orjson.loads(labels)), body))
        except StoreDamagedError as error:
            versions.append(unreadable_asset(kind, name, version, str(error)))
    return versions


def _set_label(connection: sqlite3.Connection, kind: AssetKind, name: str, label: str, version: int) -> None:
    if not connection.execute(
        "SELECT 1 FROM asset WHERE kind = ? AND name = ? AND version = ?", (kind, name, version)
    ).fetchone():
        raise AssetNotFoundError(f"There is no version {version} of {kind} {name!r} to label {label!r}.")
    connection.execute(
        "INSERT INTO label VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET version = excluded.version",
        (kind, name, label, version),
    )


def _delete_asset(connection: sqlite3.Connection, kind: AssetKind, name: str, version: int) -> None:
    _overwrite(connection)
    for table in ("label", "asset"):
        connection.execute(
            f"DELETE FROM {table} WHERE kind = ? AND name = ? AND version = ?", (kind, name, version)
        )


def _delete_label(connection: sqlite3.Connection, kind: AssetKind, name: str, label: str) -> bool:
    gone = connection.execute(
        "DELETE FROM label WHERE kind = ? AND name = ? AND label = ?", (kind, name, label)
    )
    return bool(gone.rowcount)


def _shard_numbers(connection: sqlite3.Connection, run_id: str, limit: int) -> list[int]:
    # Each table has an index that begins with these two columns: no row is read.
    tables = [("completion", "shard"), ("score_set", "shard"), ("shard", "number")]
    if not sqlite_turns.is_missing(connection):
        tables.append(("turn", "shard"))
    some = (
        f"SELECT * FROM (SELECT DISTINCT {n} FROM {table} WHERE run_id = ?1 ORDER BY {n} LIMIT ?2)"
        for table, n in tables
    )
    found = connection.execute(f"{' UNION '.join(some)} ORDER BY 1 LIMIT ?2", (run_id, limit))
    return [number for (number,) in found]


def _clear_shards(connection: sqlite3.Connection, run_id: str, numbers: Collection[int]) -> None:
    _overwrite(connection)
    some = "(SELECT value FROM json_each(?))"
    values = (run_id, orjson.dumps(list(numbers)).decode())
    tables = (("completion", "shard"), ("turn", "shard"), ("score_set", "shard"), ("shard", "number"))
    for table, number in tables:
        connection.execute(f"DELETE FROM {table} WHERE run_id = ? AND {number} IN {some}", values)


def _overwrite(connection: sqlite3.Connection) -> None:
    """Let what is deleted be overwritten in the file: else its pages keep it until they are used again."""
    connection.execute("PRAGMA secure_delete = ON")


def _shorten_log(connection: sqlite3.Connection) -> None:
    """Bring the log into the file and empty it: it holds what was deleted since. Not while others read."""
    (waits_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute("PRAGMA busy_timeout = 250")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {waits_ms}")


def _delete_run(connection: sqlite3.Connection, run_id: str) -> bool:
    _overwrite(connection)
    sqlite_tally.forget(connection, run_id)
    return bool(connection.execute("DELETE FROM run WHERE run_id = ?", (run_id,)).rowcount)


def _add_run(connection: sqlite3.Connection, run: RunRecord) -> None:
    row = (run.run_id, run.name, run.created_at, run.status, run.cases, to_json(run))
    if not connection.execute(
        "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row
    ).rowcount:
        raise RunExistsError(f"A run {run.run_id!r} is recorded already.")


def _get_run(connection: sqlite3.Connection, run_id: str) -> RunRecord | None:
    found = connection.execute("SELECT body FROM run WHERE run_id = ?", (run_id,)).fetchone()
    return _read(run_from, found[0]) if found else None


def _update_run(
    connection: sqlite3.Connection,
    run_id: str,
    changes: dict[str, Any],
    if_status: Collection[str] | None,
    if_is: Mapping[str, Any],
) -> bool:
    found = connection.execute("SELECT body FROM run WHERE run_id = ?", (run_id,)).fetchone()
    if found is None:
        raise RunNotFoundError(run_id)
    body = _read(dict, found[0])
    if if_status is not None and run_from(body).status not in if_status:
        return False
    if any(plain(getattr(run_from(body), name)) != plain(value) for name, value in if_is.items()):
        return False
    # The fields that a newer version has written stay.
    body |= changes
    run = run_from(body)
    row = (run.name, run.created_at, run.status, run.cases, to_json(body), run_id)
    connection.execute(
        "UPDATE run SET name = ?, created_at = ?, status = ?, cases = ?, body = ? WHERE run_id = ?", row
    )
    return True


def _list_runs(
    connection: sqlite3.Connection, name: str | None, limit: int, after: tuple[str, str] | None
) -> tuple[list[RunRecord], str | None]:
    conditions = [
        *(["name = ?"] if name is not None else []),
        *(["(created_at, run_id) < (?, ?)"] if after else []),
    ]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    values = (*([name] if name is not None else []), *(after or ()), limit + 1)
    found = connection.execute(
        f"SELECT run_id, name, created_at, cases, body FROM run {where} ORDER BY created_at DESC, "
        "run_id DESC LIMIT ?",
        values,
    )
    rows = found.fetchall()
    runs = [_listed(*row) for row in rows[:limit]]
    if len(rows) <= limit:
        return runs, None
    run_id, _, created_at, *_ = rows[limit - 1]
    return runs, cursor_at(created_at, run_id)


def _listed(run_id: str, name: str, created_at: str, cases: int, body: bytes) -> RunRecord:
    try:
        return _read(run_from, body)
    except StoreDamagedError as error:
        return unreadable(run_id, name, created_at, cases, str(error))


def _completion_row(run_id: str, c: Completion) -> tuple[Any, ...]:
    error = c.error.type if c.error else None
    return (
        run_id,
        c.shard,
        c.case,
        c.trial,
        error,
        c.prompt_tokens,
        c.completion_tokens,
        c.cost_usd,
        c.latency_ms,
        orjson.Fragment(to_json(completion_body(c))),
    )


def _shard_of(
    connection: sqlite3.Connection, table: str, record: Callable[[dict[str, Any]], T], run_id: str, shard: int
) -> list[T]:
    found = connection.execute(
        f"SELECT body FROM {table} WHERE run_id = ? AND shard = ? ORDER BY case_number, trial",
        (run_id, shard),
    )
    return [_read(record, body) for (body,) in found]


def _shards_after(connection: sqlite3.Connection, run_id: str, last: int) -> list[ShardSummary]:
    found = connection.execute(
        "SELECT body FROM shard WHERE run_id = ? AND number > ? ORDER BY number LIMIT ?", (run_id, last, PAGE)
    )
    return [_read(shard_from, body) for (body,) in found]

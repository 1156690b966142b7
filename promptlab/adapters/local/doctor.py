"""Checks a store, and saves what can be read of a damaged one into a copy."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from promptlab.adapters.local.sqlite_open import APPLICATION_ID, FAULTS, VERSION, open_for_reading, schema
from promptlab.adapters.records import asset_from, completion_from, run_from, score_set_from, shard_from
from promptlab.duck import connect, given, parquet
from promptlab.errors import ConfigError, PromptLabError
from promptlab.program import program
from promptlab.scratch import ScratchFolder

LISTED = 20
"""Faults that a report names; the others are counted."""
_MAGIC = b"SQLite format 3\0"
TABLES: dict[str, Callable[[Any], object] | None] = {
    "asset": lambda body: asset_from(body, ()),
    "label": None,
    "run": run_from,
    "completion": completion_from,
    "score_set": score_set_from,
    "shard": shard_from,
    "record": dict,
}
"""The ledger's tables, and how a body in them is read."""
_WITHOUT_ROWID = ("label", "record")
Row = tuple[Any, ...]


@dataclass(slots=True)
class Report:
    """The findings in a store."""

    path: Path
    faults: list[str] = field(default_factory=list)
    more: int = 0
    """Faults beyond those that are listed."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows that can be read, by table."""
    lost: dict[str, int] = field(default_factory=dict)
    """Rows that were found and cannot be read, by table."""
    repaired: Path | None = None
    """The copy that holds what was saved."""

    @property
    def sound(self) -> bool:
        return not self.faults

    def note(self, fault: str) -> None:
        """Add a fault."""
        if len(self.faults) < LISTED:
            self.faults.append(fault)
        else:
            self.more += 1


def examine(path: Path) -> Report:
    """Look at every page of the ledger, every record in it and every blob that they name. Nothing is changed.

    Raises:
        ConfigError: there is no such file.
        PromptLabError: the file is another program's, or of a newer version.
    """
    _check_there(path)
    report = Report(path)
    try:
        connection = open_for_reading(path)
    except FAULTS as error:
        report.note(f"the ledger cannot be opened: {error}")
        return report
    with closing(connection):
        _integrity(connection, report)
        bodies: dict[str, list[Any]] = {"asset": [], "run": []}
        for table in TABLES:
            for row in _rows(connection, table, report):
                if table in bodies:
                    bodies[table].append(orjson.loads(row[-1]))
    for fault in _blob_faults(_blobs(path), bodies["asset"], bodies["run"]):
        report.note(fault)
    return report


def repair(path: Path, to: Path) -> Report:
    """Write all that can be read of a store into a new one. The damaged store is not touched.

    Runs of which answers were lost are interrupted in the copy: `promptlab resume` asks for these alone.

    Args:
        path: the ledger's file.
        to: the copy, which must not exist yet.

    Raises:
        ConfigError: there is no such file, or something is there already where the copy should go.
        PromptLabError: nothing at all can be read.
    """
    _check_there(path)
    for taken in (to, _blobs(to)):
        if taken.exists():
            raise ConfigError(f"{taken} exists already: move it away, or give another file with --to.")
    report = Report(path)
    with tempfile.TemporaryDirectory(prefix="promptlab-doctor-", dir=to.absolute().parent) as name:
        source, draft = Path(name) / "damaged.db", Path(name) / "saved.db"
        _copy_ledger(path, source)
        try:
            damaged = sqlite3.connect(source)
            damaged.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise _nothing(path, str(error)) from error
        _copy_blobs(_blobs(path), Path(name) / "blobs")
        _drop_damaged(Path(name) / "blobs")
        with closing(damaged), closing(sqlite3.connect(draft)) as saved:
            _save(damaged, saved, report)
            with saved:
                _reopen_runs(saved, Path(name) / "blobs")
            saved.execute("VACUUM")
        if not sum(report.rows.values()):
            raise _nothing(path, report.faults[0] if report.faults else "it has no records")
        with suppress(FileNotFoundError):
            (Path(name) / "blobs").rename(_blobs(to))
        draft.replace(to)
    report.repaired = to
    return report


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(
            f"There is no store {path}: give the file of a store, as in: {program()} doctor lab.db"
        )


def _nothing(path: Path, why: str) -> PromptLabError:
    return PromptLabError(
        f"Nothing can be read from {path} ({why}). The rows of its datasets and the results of its "
        "runs are files "
        f"in {_blobs(path)}, which can be read without the ledger."
    )


def _blobs(path: Path) -> Path:
    return path.with_name(path.name + ".blobs")


def _integrity(connection: sqlite3.Connection, report: Report) -> None:
    try:
        for (found,) in connection.execute(f"PRAGMA integrity_check({10 * LISTED})"):
            if found != "ok":
                report.note(f"the ledger: {' '.join(str(found).split())}")
    except (sqlite3.Error, UnicodeDecodeError) as error:
        report.note(f"the ledger: {error}")


def _rows(connection: sqlite3.Connection, table: str, report: Report) -> Iterator[Row]:
    """The rows of a table whose bodies can be read; others are counted."""
    read = TABLES[table]
    report.rows[table] = report.lost[table] = 0
    found = _scan(connection, table) if table not in _WITHOUT_ROWID else _both_ways(connection, table)
    for row in found:
        try:
            if isinstance(row, Exception):
                raise row
            if read:
                read(orjson.loads(row[-1]))
        except (PromptLabError, sqlite3.Error, ValueError, TypeError, AttributeError, KeyError) as error:
            report.lost[table] += 1
            report.note(f"table {table}: a record cannot be read: {error}")
        else:
            report.rows[table] += 1
            yield row


def _scan(connection: sqlite3.Connection, table: str) -> Iterator[Row | Exception]:
    """The rows of a table by their number, around pages that cannot be read."""
    start: int | None = 0
    while start is not None:
        following = start
        try:
            # `>=`: to find what is greater than a number SQLite looks at the page where that number would be.
            for number, *row in connection.execute(
                f"SELECT rowid, * FROM {table} NOT INDEXED WHERE rowid >= ? ORDER BY rowid", (start,)
            ):
                if not isinstance(number, int) or number < following:
                    raise sqlite3.DatabaseError(f"row {number} stands where row {following} may")
                following = number + 1
                yield tuple(row)
            return
        except (sqlite3.Error, UnicodeDecodeError) as error:
            yield error
        start = _next_row(connection, table, following + 1)


def _next_row(connection: sqlite3.Connection, table: str, start: int) -> int | None:
    """The number of the first row from `start` on that can be read.

    A page holds few rows, but a lost inner page hides many: the step doubles until there is a row, then
    the search goes back to the first one by halves.
    """
    low, step = start, 1
    while (found := _first_from(connection, table, start + step - 1)) is None:
        low, step = start + step, step * 2
        if step > 1 << 48:
            return None
    high = found
    while low < high:
        middle = (low + high) // 2
        there = _first_from(connection, table, middle)
        low, high = (middle + 1, high) if there is None else (low, min(there, middle))
    return _first_from(connection, table, high)


def _first_from(connection: sqlite3.Connection, table: str, number: int) -> int | None:
    """The first row from a number on; None where there is none that can be read."""
    with suppress(sqlite3.Error, UnicodeDecodeError):
        for (found,) in connection.execute(
            f"SELECT rowid FROM {table} NOT INDEXED WHERE rowid >= ? ORDER BY rowid LIMIT 1", (number,)
        ):
            if isinstance(found, int) and found >= number:
                # Its body may lie on a damaged page.
                connection.execute(f"SELECT * FROM {table} NOT INDEXED WHERE rowid = ?", (found,)).fetchall()
                return found
    return None


def _both_ways(connection: sqlite3.Connection, table: str) -> Iterator[Row | Exception]:
    """The rows of a table without numbers: from its beginning, and where that breaks off, from its end."""
    seen: set[Row] = set()
    keys = {"label": "kind, name, label", "record": "kind, key"}[table]
    for order in (keys, ", ".join(f"{key} DESC" for key in keys.split(", "))):
        try:
            for row in connection.execute(f"SELECT * FROM {table} NOT INDEXED ORDER BY {order}"):
                if row not in seen:
                    seen.add(row)
                    yield row
            return
        except (sqlite3.Error, UnicodeDecodeError) as error:
            yield error


def _save(damaged: sqlite3.Connection, saved: sqlite3.Connection, report: Report) -> None:
    saved.executescript(
        f"{schema()} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
    )
    with saved:
        for table in TABLES:
            width = len(saved.execute(f"PRAGMA table_info({table})").fetchall())
            for row in _rows(damaged, table, report):
                with suppress(sqlite3.IntegrityError):  # of two rows with one key the first stays
                    saved.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * width)})", row)


def _reopen_runs(saved: sqlite3.Connection, blobs: Path) -> None:
    """Let runs that lost answers or results be resumed, and shards that lost some be done again."""
    for run_id, number, body in saved.execute("SELECT run_id, number, body FROM shard").fetchall():
        (there,) = saved.execute(
            "SELECT count(*) FROM completion WHERE run_id = ? AND shard = ?", (run_id, number)
        ).fetchone()
        if there != orjson.loads(body).get("summary", {}).get("cases"):
            saved.execute("DELETE FROM shard WHERE run_id = ? AND number = ?", (run_id, number))
    for run_id, body in saved.execute("SELECT run_id, body FROM run").fetchall():
        run = orjson.loads(body)
        (there,) = saved.execute("SELECT count(*) FROM completion WHERE run_id = ?", (run_id,)).fetchone()
        (summed,) = saved.execute(
            "SELECT total(json_extract(CAST(body AS TEXT), '$.summary.cases')) FROM shard WHERE run_id = ?",
            (run_id,),
        ).fetchone()
        # Of a run that was decided, those are all that were done.
        wanted = run["cases"] if run["status"] != "decided" else (run.get("summary") or {}).get("cases", 0)
        lost = min(there, summed) < wanted or not (blobs / str(run.get("results"))).is_file()
        if run["status"] == "running" or (run["status"] in ("completed", "decided") and lost):
            run |= {"status": "interrupted", "summary": None, "results": None}
            saved.execute(
                "UPDATE run SET status = 'interrupted', body = ? WHERE run_id = ?",
                (orjson.dumps(run), run_id),
            )


def _copy_ledger(path: Path, to: Path) -> None:
    """Copy the ledger with its log; the marks of its header, which nothing else depends on, are put right."""
    for suffix in ("", "-wal"):
        if (part := path.with_name(path.name + suffix)).exists():
            shutil.copyfile(part, to.with_name(to.name + suffix))
    with to.open("r+b") as file:
        file.write(_MAGIC)


def _copy_blobs(source: Path, to: Path) -> None:
    """Give the copy the blobs, without using room twice: they are never changed, only replaced."""
    if not source.is_dir():
        return

    def link(old: str, new: str) -> None:
        try:
            os.link(old, new)
        except OSError:
            shutil.copyfile(old, new)

    shutil.copytree(source, to, copy_function=link, ignore=shutil.ignore_patterns(".locks", "~unfinished"))


def _drop_damaged(blobs: Path) -> None:
    """Remove what is not what it should be, and can be made again."""
    for part in blobs.glob("runs/*/parts/*"):
        if not _is_gzip_json(part):
            part.unlink()
    for results in blobs.glob("runs/*/results.parquet"):
        if not all(map(_is_readable, [results, *results.parent.glob("index-*")])):
            results.unlink()


def _is_readable(path: Path) -> bool:
    return _is_parquet(path) if path.suffix == ".parquet" else _is_gzip_json(path)


def _is_gzip_json(path: Path) -> bool:
    import gzip
    import zlib

    try:
        with gzip.open(path) as file:
            return all(isinstance(orjson.loads(line), (dict, list)) for line in file)
    except (OSError, EOFError, zlib.error, ValueError):
        return False


def _is_parquet(path: Path) -> bool:
    import duckdb

    with ScratchFolder("doctor") as folder:
        source = parquet(given(path, folder))
        try:
            with connect(folder) as con:
                rows = con.execute(f"SELECT * FROM {source}")
                while rows.fetchmany(100):
                    pass
        except duckdb.Error:
            return False
    return True


def _blob_faults(blobs: Path, assets: Iterable[Any], runs: Iterable[Any]) -> Iterator[str]:
    """Find the faults of the files that records name."""
    for asset in assets:
        if asset["kind"] != "dataset":
            continue
        name, content = f"dataset {asset['name']}@{asset['version']}", asset["content"]
        for key in (content.get("blob"), content.get("index")):
            if key and not (blobs / key).is_file():
                yield f"{name}: {key} is gone"
        if (rows := blobs / str(content.get("blob"))).is_file() and _hash(rows) != rows.stem:
            yield f"{name}: its rows are not those that were stored"
    for run in runs:
        results = run.get("results")
        if results and not (blobs / results).is_file():
            yield f"run {run['run_id']}: {results} is gone; {program()} resume makes it again"
            continue
        folder = blobs / "runs" / run["run_id"]
        for path in (
            (*folder.glob("*.parquet"), *folder.glob("*.gz"), *folder.glob("parts/*")) if results else ()
        ):
            if not _is_readable(path):
                yield f"run {run['run_id']}: {path.relative_to(blobs)} cannot be read"


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

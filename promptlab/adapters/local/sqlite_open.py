"""Finds, checks and creates the ledger's file. A file that is not ours is never altered."""

from __future__ import annotations

import functools
import sqlite3
import threading
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from shlex import quote
from typing import Any

from promptlab.adapters.local import sqlite_tally
from promptlab.adapters.local.private import create_file, own_file
from promptlab.errors import PromptLabError, StoreDamagedError
from promptlab.program import program

APPLICATION_ID = 0x504C4142
"""In the header of every file of ours (SQLite's application_id): "PLAB" in ASCII."""
VERSION = 4
"""The version of the schema (SQLite's user_version)."""
BUSY_S = 10.0
"""Seconds to wait for another process's lock."""
_CLOSED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
FAULTS = (sqlite3.Error, OSError, UnicodeDecodeError)
"""The errors that SQLite raises. Their words may quote a damaged schema, which Python
then cannot read as text."""
_MOST_KEPT = 2
"""Statements whose rows a connection remembers: a list of 1,000 runs is read in two."""
Identity = tuple[int, int]
"""Device and inode."""

# The header of a file is read once, before this process has a connection to it. Closing any descriptor
# of a file drops all of the process's locks on it (POSIX; "How To Corrupt An SQLite Database File", 2.2):
# another process would then take itself for the last one, and remove the log that we go on writing to.
# A file that this process is about to create is known by its path.
_ours: set[Identity | Path] = set()
_opening = threading.Lock()


def identity_of(path: Path) -> Identity | None:
    """Identify the file at a path; None for none or an empty one, which is what SQLite leaves of
    a broken-off creation."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (found.st_dev, found.st_ino) if found.st_size else None


def open_for_writing(path: Path) -> sqlite3.Connection:
    """A connection to the ledger, which is created where there is none.

    Raises:
        PromptLabError: there is no such folder, or the file is not ours, or is of a newer version.
    """
    return _connect(path, "rwc", _create)


class Connection(sqlite3.Connection):
    """A connection that remembers rows for as long as nobody changes the file."""

    _version: object = None
    _kept: dict[object, list[Any]]

    def unchanged(self, key: object, read: Callable[[], list[Any]]) -> list[Any]:
        """The rows that a statement reads, or read before, where no other connection has committed since.

        Args:
            key: the statement and its values; the rows of the last few are remembered.
            read: executes it.
        """
        # Asked before: a commit between the two makes the rows newer than their version, never older.
        version = self.execute("PRAGMA data_version").fetchone()
        if self._version != version or (len(self._kept) >= _MOST_KEPT and key not in self._kept):
            self._version, self._kept = version, {}
        if key not in self._kept:
            self._kept[key] = read()
        return self._kept[key]


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection to a ledger that is there.

    Raises:
        PromptLabError: the file is not ours, or is of a newer version.
    """
    try:
        return _connect(path, "rw", _check_version)
    except sqlite3.OperationalError as error:
        # On a disk or in a folder that is read only: SQLite wants to put the index of its log beside the
        # file, also to read it.
        log = path.with_name(path.name + "-wal")
        if _code(error) not in _CLOSED or (log.exists() and log.stat().st_size):
            raise
        return _connect(path, "ro&immutable=1", _check_version)


def _connect(
    path: Path, mode: str, prepare: Callable[[sqlite3.Connection, Path], None]
) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    with _opening:
        identity = identity_of(path)
        if identity is None or not _ours & {identity, path}:
            _check_ours(path)
        _ours.add(identity or path)
    if mode == "rwc":
        create_file(path)
    own_file(path)
    # Connections move between threads, but only one uses them at a time.
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=BUSY_S, check_same_thread=False, factory=Connection
    )
    try:
        prepare(connection, path)
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    _ours.add(identity_of(path) or path)
    return connection


def _check_ours(path: Path) -> None:
    """Look at the header without SQLite, which might alter another program's file."""
    if not path.parent.is_dir():
        raise PromptLabError(
            f"The ledger {path} cannot be created: there is no folder {path.parent}. Create it, or give "
            "another db_file."
        )
    if path.is_dir():
        raise PromptLabError(f"The ledger {path} is a folder. Give the name of a file in it as db_file.")
    if identity_of(path) is None:
        return
    with path.open("rb") as file:
        header = file.read(100)
        schema = file.read(65_536)
    if header[:16] != b"SQLite format 3\0":
        raise PromptLabError(
            f"{path} is not a ledger: it is no SQLite database. It was left as it is; give another db_file."
        )
    if b"experiment_result" in schema and b"asset_binary" in schema:
        raise PromptLabError(
            f"{path} is a store of promptlab 0.1, which cannot be read. It was left as it is; give "
            "another db_file, "
            f'as in PromptLab("{path.stem}-2.db"), and create its assets there.'
        )
    if (application := int.from_bytes(header[68:72], "big")) != APPLICATION_ID:
        raise PromptLabError(
            f"{path} is not a ledger but a database of another program (application id {application}, not "
            f"{APPLICATION_ID}). "
            "It was left as it is; give another db_file."
        )


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise PromptLabError(
            f"The ledger {path} has schema version {version}, this PromptLab knows {VERSION}: upgrade "
            "promptlab-serverless, or give another db_file."
        )


def _create(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the tables into a new file, and those that it lacks into an older one."""
    _check_version(connection, path)
    if connection.execute("PRAGMA user_version").fetchone()[0] < VERSION:
        # Before WAL, so that the application id is in the file itself and not in the log beside it.
        connection.executescript(
            f"BEGIN IMMEDIATE; {schema()} {sqlite_tally.MIGRATE} PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {VERSION}; COMMIT;"
        )
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # SQLite does not wait here when two processes create the file at once.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@functools.cache
def schema() -> str:
    """The statements that make the tables and what keeps the totals of runs, where they are not there."""
    return files("promptlab.adapters.local").joinpath("schema.sql").read_text("utf-8") + sqlite_tally.SCHEMA


def _code(error: Exception) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def explained(error: Exception, path: Path) -> Exception:
    """The error in our words where there is a remedy, else as it is."""
    code = _code(error)
    if isinstance(error, PermissionError) or code in _CLOSED:
        text = (
            f"The ledger {path} cannot be written or opened ({error}): check the permissions of the "
            f"file and of the folder {path.parent}, or give another db_file."
        )
    elif code == sqlite3.SQLITE_BUSY:
        text = (
            f"The ledger {path} has been locked by another process for {BUSY_S:g} s: end that process, "
            "or give another db_file."
        )
    elif code == sqlite3.SQLITE_FULL:
        text = f"The ledger {path} cannot grow ({error}): free some space on its disk, then resume."
    elif code == sqlite3.SQLITE_IOERR or isinstance(error, OSError):
        text = f"The ledger {path} cannot be read or written ({error}): check its disk, then resume."
    elif isinstance(error, UnicodeDecodeError) or (
        isinstance(error, sqlite3.DatabaseError)
        and not isinstance(
            error, (sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.NotSupportedError)
        )
    ):
        return _caused(damaged(path, str(error)), error)
    else:
        return error
    return _caused(PromptLabError(text), error)


def damaged(path: Path, found: str) -> StoreDamagedError:
    """The error for a file that is damaged, with what to do about it."""
    return StoreDamagedError(
        f"The ledger {path} is damaged ({found.strip().rstrip('.')}). No calls are made with it; see "
        f"what can be saved with: {program()} doctor {quote(str(path))}"
    )


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Look through all pages of the file: some 2 s a gigabyte.

    Raises:
        StoreDamagedError: SQLite finds a fault.
    """
    found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
    if found != ["ok"]:
        raise damaged(path, " ".join(found) or "quick_check says nothing")


def _caused(explained: PromptLabError, error: Exception) -> PromptLabError:
    explained.__cause__ = error
    return explained

"""The ledger's file: when it is created, what is taken for one, what is said when it cannot be used."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from promptlab.adapters.local.sqlite_open import APPLICATION_ID, VERSION, explained
from promptlab.errors import PromptLabError, RunNotFoundError
from tests.contract.builders import RUN, completion, run
from tests.unit.sqlite_locks import begun, locked


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "promptlab.db"


READS: list[tuple[Callable[[SqliteLedger], Awaitable[Any]], Any]] = [
    (lambda ledger: ledger.get_asset("dataset", "d"), None),
    (lambda ledger: ledger.list_assets("dataset"), []),
    (lambda ledger: ledger.list_versions("dataset", "d"), []),
    (lambda ledger: ledger.get_label("dataset", "d", "l"), None),
    (lambda ledger: ledger.get_run(RUN), None),
    (lambda ledger: ledger.list_runs(), ([], None)),
    (lambda ledger: ledger.get_completions(RUN, 0), []),
    (lambda ledger: ledger.get_scores(RUN, 0), []),
]


@pytest.mark.parametrize("folder", [".", "no/such/folder"])
async def test_reading_creates_no_file(tmp_path: Path, folder: str) -> None:
    """Without a file every read finds nothing, and there is none afterwards."""
    ledger = SqliteLedger(tmp_path / folder / "promptlab.db")
    for read, nothing in READS:
        assert await read(ledger) == nothing
    assert [s async for s in ledger.shards(RUN)] == []
    with pytest.raises(RunNotFoundError):
        await ledger.progress(RUN)
    await ledger.close()
    assert list(tmp_path.iterdir()) == []


async def test_the_first_write_creates_the_file(path: Path) -> None:
    """In WAL, with our mark in its header; an empty file that is there already is taken."""
    path.touch()
    ledger = SqliteLedger(str(path))
    assert await ledger.get_run(RUN) is None
    await ledger.add_run(run())
    assert await ledger.get_run(RUN) == run()
    await ledger.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "application_id", "user_version")
        ]
    assert found == ["wal", APPLICATION_ID, VERSION]


async def test_the_path_may_hold_any_letters(tmp_path: Path) -> None:
    """Also those that mean something in an address."""
    path = tmp_path / "a?b#c%20d &ü.db"
    ledger = SqliteLedger(path)
    await ledger.add_run(run())
    assert await ledger.get_run(RUN) == run()
    await ledger.close()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


async def test_the_path_is_fixed_when_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that changes its working folder keeps its ledger."""
    monkeypatch.chdir(tmp_path)
    ledger = SqliteLedger("promptlab.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    await ledger.add_run(run())
    await ledger.close()
    assert (tmp_path / "promptlab.db").exists()


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The first write says what is missing, and goes through once it is there."""
    ledger = SqliteLedger(tmp_path / "missing" / "promptlab.db")
    with pytest.raises(PromptLabError, match=r"no folder .*missing\. Create it"):
        await ledger.add_run(run())
    (tmp_path / "missing").mkdir()
    await ledger.add_run(run())
    await ledger.close()


async def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    """Reading and writing say so."""
    ledger = SqliteLedger(tmp_path)
    for call in (ledger.add_run(run()), ledger.get_run(RUN)):
        with pytest.raises(PromptLabError, match="is a folder"):
            await call
    await ledger.close()


def foreign_database(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "PRAGMA journal_mode = WAL; CREATE TABLE run (theirs); INSERT INTO run VALUES (1);"
        )


def no_database(path: Path) -> None:
    path.write_text("a note that somebody keeps\n")


@pytest.mark.parametrize(
    ("make", "says"), [(foreign_database, "of another program"), (no_database, "no SQLite database")]
)
async def test_a_file_of_somebody_else_is_left_as_it_is(
    path: Path, make: Callable[[Path], None], says: str
) -> None:
    """Not one byte changes, and nothing appears beside it."""
    make(path)
    before = path.read_bytes()
    ledger = SqliteLedger(path)
    for call in (ledger.add_run(run()), ledger.get_run(RUN)):
        with pytest.raises(PromptLabError, match=says) as caught:
            await call
        assert str(path) in str(caught.value) and "db_file" in str(caught.value)
    await ledger.close()
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


async def test_a_newer_ledger_is_left_as_it_is(path: Path) -> None:
    """The message says to upgrade."""
    first = SqliteLedger(path)
    await first.add_run(run())
    await first.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    ledger = SqliteLedger(path)
    for call in (ledger.add_run(run("other")), ledger.get_run(RUN)):
        with pytest.raises(PromptLabError, match=f"version {VERSION + 1}.*upgrade"):
            await call
    await ledger.close()


@pytest.fixture
def forbidden() -> Iterator[Path]:
    """A folder that may be entered but not written, also where the tests run as root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        yield folder
        os.seteuid(user)
        folder.chmod(0o755)


async def test_a_folder_that_may_not_be_written_is_named(forbidden: Path) -> None:
    """With what to check."""
    ledger = SqliteLedger(forbidden / "promptlab.db")
    with pytest.raises(PromptLabError, match="check the permissions") as caught:
        await ledger.add_run(run())
    assert str(forbidden) in str(caught.value)
    await ledger.close()


async def test_an_endless_lock_of_another_process_is_explained(path: Path) -> None:
    """SQLite's own words name neither the file nor a remedy."""
    ledger = SqliteLedger(path)
    await ledger.add_run(run())
    with locked(path), contextlib.closing(sqlite3.connect(path, timeout=0)) as second:
        with pytest.raises(sqlite3.OperationalError) as caught:
            second.execute("BEGIN IMMEDIATE")
        error = explained(caught.value, path)
    assert (
        isinstance(error, PromptLabError)
        and str(path) in str(error)
        and "locked by another process" in str(error)
    )
    await ledger.close()


async def test_the_first_writer_waits_for_another_that_creates_the_file(path: Path) -> None:
    """SQLite itself gives up at once when it should turn on WAL under a lock."""
    ledger = SqliteLedger(path)
    await ledger.add_run(run())
    await ledger.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    with locked(path):
        tasks = await begun(ledger.put_completions(RUN, [completion(0)]))
        assert await ledger.get_completions(RUN, 0) == []
    await asyncio.gather(*tasks)
    assert await ledger.get_completions(RUN, 0) == [completion(0)]
    await ledger.close()

"""Records in a ledger of an older schema."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from promptlab.adapters.local.sqlite_open import VERSION
from tests.contract.builders import run


async def test_a_file_of_version_1_gets_what_it_lacks_and_keeps_what_it_has(tmp_path: Path) -> None:
    """Reading leaves it alone; the first write brings the table."""
    path = tmp_path / "old.db"
    ledger = SqliteLedger(path)
    await ledger.add_run(run("r1"))
    await ledger.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("DROP TABLE record; PRAGMA user_version = 1;")
    assert await ledger.get_record("SESSION", "a") is None
    assert await ledger.get_run("r1") is not None
    await ledger.put_record("SESSION", "a", {"x": 1})
    assert await ledger.get_record("SESSION", "a") == {"x": 1}
    assert await ledger.get_run("r1") is not None
    await ledger.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)


async def test_a_store_that_is_not_there_has_no_records_and_is_not_made_by_reading(tmp_path: Path) -> None:
    """Looking for a session creates no file."""
    ledger = SqliteLedger(tmp_path / "none.db")
    assert await ledger.get_record("SESSION", "a") is None
    await ledger.close()
    assert list(tmp_path.iterdir()) == []

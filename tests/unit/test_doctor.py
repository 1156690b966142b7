"""`promptlab doctor`: what is wrong with a store, and what can be saved of it."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from promptlab.cli import commands
from promptlab.store_lab import StoreLab as Lab

FINISHED, STOPPED = "20261125-221634-f5e407", "20261125-221636-131ea3"
PAGE = 4096


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A store with a finished run of 120 cases and one that was stopped after 55 of 60."""
    with tarfile.open(Path(__file__).parents[1] / "data" / "store-d3fe37b.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path / "lab.db"


def doctor(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(commands, ["doctor", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result.exit_code, result.output


def pages_of(db: Path, name: str) -> list[int]:
    """The leaf pages of a table or an index, from 0."""
    connection = sqlite3.connect(db)
    found = connection.execute(
        "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY pageno", (name,)
    ).fetchall()
    connection.close()
    return [number - 1 for (number,) in found]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def progress(db: Path, run_id: str) -> int:
    async def ask() -> int:
        lab = Lab.open({"db_file": str(db)})
        done = (await lab.progress(run_id)).done
        await lab.close()
        return done

    return asyncio.run(ask())


def test_a_sound_store_is_said_to_be_sound(db: Path) -> None:
    """With what is in it; nothing of it changes."""
    before = db.read_bytes()
    code, output = doctor(str(db))
    assert code == 0 and "is sound: 4 asset, 1 label, 2 run, 175 completion" in output, output
    assert db.read_bytes() == before


def test_a_store_that_is_not_there_is_a_wrong_use(tmp_path: Path) -> None:
    """And none is made."""
    code, output = doctor(str(tmp_path / "no.db"))
    assert code == 2 and "There is no store" in output
    assert list(tmp_path.iterdir()) == []


def test_a_lost_page_costs_its_rows_only(db: Path) -> None:
    """The copy has all others, and the runs that lost answers can be resumed; the store stays as it is."""
    page = pages_of(db, "completion")[1]
    overwrite(db, page * PAGE, bytes(PAGE))
    spoiled = db.read_bytes()
    code, output = doctor(str(db))
    assert code == 1 and "is damaged" in output and f"doctor --repair {db}" in output
    code, output = doctor("--repair", str(db))
    copy = db.with_name("lab.repaired.db")
    assert code == 0 and f"Saved in {copy}" in output, output
    assert db.read_bytes() == spoiled
    saved = progress(copy, FINISHED) + progress(copy, STOPPED)
    assert 175 - 40 < saved < 175
    assert doctor(str(copy))[0] == 0
    for run_id in (FINISHED, STOPPED):
        result = CliRunner().invoke(commands, ["resume", run_id, "--db", str(copy), "--quiet"])
        assert result.exit_code == 0, result.output
    assert (progress(copy, FINISHED), progress(copy, STOPPED)) == (120, 60)


def test_a_damaged_index_loses_nothing(db: Path) -> None:
    """The table has all rows; the copy's index is made from them."""
    page = pages_of(db, "sqlite_autoindex_completion_1")[0]
    overwrite(db, page * PAGE + 2000, random.Random(1).randbytes(500))
    assert doctor(str(db))[0] == 1
    assert doctor("--repair", str(db), "--to", str(db.with_name("new.db")))[0] == 0
    copy = db.with_name("new.db")
    assert (progress(copy, FINISHED), progress(copy, STOPPED)) == (120, 55)
    code, output = doctor("--repair", str(db), "--to", str(copy))
    assert code == 2 and "exists already" in output


def test_a_damaged_header_is_put_right_in_the_copy(db: Path) -> None:
    """Every command says that the file is no ledger; the copy is one."""
    overwrite(db, 0, b"X")
    code, output = doctor(str(db))
    assert code == 2 and "no SQLite database" in output
    assert doctor("--repair", str(db))[0] == 0
    assert progress(db.with_name("lab.repaired.db"), FINISHED) == 120


def test_a_file_without_a_readable_page_is_one_clear_error(db: Path) -> None:
    """It says where the data is that needs no ledger; no half copy is left."""
    db.write_bytes(random.Random(1).randbytes(50_000))
    code, output = doctor("--repair", str(db))
    assert code == 2 and "Nothing can be read" in output and "lab.db.blobs" in output
    assert {path.name for path in db.parent.iterdir()} <= {"lab.db", "lab.db.blobs", "dynamodb.json"}


def test_files_that_records_name_are_looked_at(db: Path) -> None:
    """Rows that were changed, and results that are gone or broken."""
    blobs = db.with_name("lab.db.blobs")
    [rows] = [path for path in blobs.glob("datasets/*.jsonl") if ".index" not in path.name]
    overwrite(rows, 20, b"?")
    overwrite(blobs / "runs" / FINISHED / "results.parquet", 300, b"?" * 300)
    code, output = doctor(str(db))
    assert code == 1
    assert "dataset sums@0: its rows are not those that were stored" in output
    assert f"run {FINISHED}: runs/{FINISHED}/results.parquet cannot be read" in output
    shutil.rmtree(blobs / "runs")
    assert "results.parquet is gone" in doctor(str(db))[1]

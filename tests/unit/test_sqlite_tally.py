"""The totals that the ledger's file keeps of each run."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from promptlab.adapters.local import sqlite_tally
from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from promptlab.adapters.local.sqlite_open import open_for_reading
from tests.contract.builders import RUN, completion, failed_completion, run

VERSION_2 = """
DROP TRIGGER tally_added; DROP TRIGGER tally_replaced; DROP TRIGGER tally_removed; DROP TABLE tally;
CREATE INDEX completion_progress ON completion
    (run_id, shard, error_type, prompt_tokens, completion_tokens, cost_usd);
PRAGMA user_version = 2;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lab.db"


def steps(path: Path, run_id: str) -> int:
    """The instructions of SQLite that progress takes, in tens."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    with closing(open_for_reading(path)) as connection:
        connection.set_progress_handler(step, 10)
        sqlite_tally.progress(connection, run_id)
    return count


async def test_progress_takes_as_much_work_at_100_cases_as_at_10_000(path: Path) -> None:
    """Every open page asks once a second."""
    ledger = SqliteLedger(path)
    for run_id, cases in (("small", 100), ("large", 10_000)):
        await ledger.add_run(run(run_id, cases=cases))
        for first in range(0, cases, 500):
            await ledger.put_completions(
                run_id, [completion(i) for i in range(first, min(first + 500, cases))]
            )
        assert (await ledger.progress(run_id)).done == cases
    await ledger.close()
    assert 0 < steps(path, "large") <= steps(path, "small") + 2


async def test_a_file_of_version_2_is_counted_and_gets_its_totals_with_the_next_write(path: Path) -> None:
    """A reader changes nothing; both say the same."""
    ledger = SqliteLedger(path)
    await ledger.add_run(run())
    await ledger.put_completions(RUN, [completion(0), completion(1, cost_usd=None), failed_completion(2)])
    expected = await ledger.progress(RUN)
    await ledger.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_2)
    assert await ledger.progress(RUN) == expected
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    await ledger.put_record("ANY", "thing", {})
    assert await ledger.progress(RUN) == expected
    await ledger.put_completions(RUN, [completion(1, cost_usd=0.5), completion(3)])
    now = await ledger.progress(RUN)
    assert (now.done, now.cost_usd, now.unpriced) == (4, 1.0, 0)
    await ledger.close()


async def test_a_process_of_version_2_that_has_the_file_open_keeps_the_totals(path: Path) -> None:
    """It knows nothing of them: the file does."""
    ledger = SqliteLedger(path)
    await ledger.add_run(run())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO completion VALUES (?, 0, 0, 0, NULL, 5, 6, 0.5, 1.0, CAST('{}' AS BLOB))", (RUN,)
        )
    assert (await ledger.progress(RUN)).prompt_tokens == 5
    await ledger.close()


async def test_sums_beyond_64_bits_cost_no_completion(path: Path) -> None:
    """A model of one's own may tell any number."""
    ledger = SqliteLedger(path)
    await ledger.add_run(run())
    await ledger.put_completions(
        RUN, [completion(i, prompt_tokens=2**62, cost_usd=1.7e308) for i in range(4)]
    )
    assert len(await ledger.get_completions(RUN, 0)) == 4
    assert (await ledger.progress(RUN)).prompt_tokens == 2**64
    await ledger.put_completions(RUN, [completion(i) for i in range(4)])
    assert (await ledger.progress(RUN)).done == 4
    await ledger.close()


async def test_a_deleted_run_leaves_no_totals(path: Path) -> None:
    """A run that takes its id begins at 0."""
    ledger = SqliteLedger(path)
    await ledger.add_run(run())
    await ledger.put_completions(RUN, [completion(0)])
    await ledger.delete_run(RUN)
    await ledger.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM tally").fetchone() == (0,)

"""What is particular to the ledger in a SQLite file: the file itself, threads, processes, sudden ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from promptlab.adapters.local.sqlite_ledger import _PROGRESS, SqliteLedger
from promptlab.adapters.local.sqlite_open import APPLICATION_ID, VERSION, explained
from promptlab.errors import PromptLabError, RunNotFoundError, VersionTakenError
from tests.contract.builders import RUN, asset, completion, run, score_set, shard_summary

WRITER = """
import asyncio, sys
from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from tests.contract.builders import RUN, completion, run, score_set, shard_summary

async def main(first, count):
    ledger = SqliteLedger(sys.argv[1])
    for case in range(first, first + count):
        await ledger.put_completions(RUN, [completion(case, shard=0)])
    await ledger.put_scores(RUN, [score_set(case, shard=0) for case in range(first, first + count)])
    await ledger.put_shard(RUN, shard_summary(first))
    print("written", flush=True)
    if "wait" in sys.argv:
        sys.stdin.read()
    return ledger

kept = asyncio.run(main(int(sys.argv[2]), int(sys.argv[3])))
"""


def python(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, *arguments], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "promptlab.db"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the file's write lock, as another process would: what is written meanwhile waits."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


async def begun(*writes: Awaitable[Any]) -> list[asyncio.Task[Any]]:
    """The writes as tasks, each handed to the writer."""
    tasks = [asyncio.ensure_future(write) for write in writes]
    await asyncio.sleep(0)
    return tasks


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
        found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "application_id", "user_version")]
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
        connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE run (theirs); INSERT INTO run VALUES (1);")


def no_database(path: Path) -> None:
    path.write_text("a note that somebody keeps\n")


@pytest.mark.parametrize(("make", "says"), [(foreign_database, "of another program"), (no_database, "no SQLite database")])
async def test_a_file_of_somebody_else_is_left_as_it_is(path: Path, make: Callable[[Path], None], says: str) -> None:
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
    assert isinstance(error, PromptLabError) and str(path) in str(error) and "locked by another process" in str(error)
    await ledger.close()


async def test_writes_wait_for_another_process(path: Path) -> None:
    """A lock that is released in time costs nothing but the wait; reads do not wait."""
    ledger = SqliteLedger(path)
    await ledger.add_run(run())
    with locked(path):
        tasks = await begun(ledger.put_completions(RUN, [completion(0)]))
        assert (await ledger.progress(RUN)).done == 0
    await asyncio.gather(*tasks)
    assert (await ledger.progress(RUN)).done == 1
    await ledger.close()


async def test_an_error_belongs_to_the_write_that_caused_it(path: Path) -> None:
    """Writes that are committed together fail alone, and a failed one leaves nothing."""
    ledger = SqliteLedger(path)
    await ledger.add_asset(asset())
    half = [completion(7), completion(8, metadata={"no": object()})]
    with locked(path):
        tasks = await begun(
            ledger.put_completions(RUN, [completion(1)]),
            ledger.add_asset(asset()),
            ledger.put_completions(RUN, half),
            ledger.put_completions(RUN, [completion(2)]),
            ledger.add_asset(asset(version=1)),
        )
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(o) for o in outcomes] == [type(None), VersionTakenError, TypeError, type(None), type(None)]
    assert await ledger.get_completions(RUN, 0) == [completion(1), completion(2)]
    assert [a.version for a in await ledger.list_versions("prompt_template", "qa")] == [0, 1]
    await ledger.close()


def test_event_loops_in_several_threads_share_a_ledger(path: Path) -> None:
    """Each gets its own answers."""
    ledger = SqliteLedger(path)
    counts: list[int] = []

    async def work(thread: int) -> None:
        for i in range(20):
            await ledger.put_completions(f"run-{thread}", [completion(i)])
            counts.append(len(await ledger.get_completions(f"run-{thread}", 0)) - i)

    threads = [threading.Thread(target=lambda thread=thread: asyncio.run(work(thread))) for thread in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(ledger.close())
    assert counts == [1] * 100


async def test_a_loop_that_is_closed_meanwhile_harms_nobody(path: Path) -> None:
    """Its write is done all the same, and the next one of another loop too."""
    ledger = SqliteLedger(path)
    await ledger.add_run(run())

    async def leave() -> None:
        (task,) = await begun(ledger.put_completions(RUN, [completion(0)]))
        task.cancel()

    def elsewhere() -> None:
        asyncio.run(leave())

    with locked(path):
        await asyncio.to_thread(elsewhere)
    await ledger.put_completions(RUN, [completion(1)])
    assert await ledger.get_completions(RUN, 0) == [completion(0), completion(1)]
    await ledger.close()


async def test_closing_commits_what_is_waiting(path: Path) -> None:
    """And a closed ledger opens again when it is used."""
    ledger = SqliteLedger(path)
    await ledger.add_run(run())
    tasks = await begun(*(ledger.put_completions(RUN, [completion(i)]) for i in range(50)))
    await ledger.close()
    await asyncio.gather(*tasks)
    assert (await ledger.progress(RUN)).done == 50
    await ledger.put_completions(RUN, [completion(50)])
    assert (await ledger.progress(RUN)).done == 51
    await ledger.close()


async def test_closing_leaves_one_file_and_no_thread(path: Path) -> None:
    """Also a ledger that nobody closes lets go of everything when nobody has it any more."""
    before = set(threading.enumerate())
    for close in (True, False):
        ledger = SqliteLedger(path)
        await ledger.put_completions(RUN, [completion(0)])
        await ledger.get_completions(RUN, 0)
        started = [t for t in threading.enumerate() if t not in before and t.name.startswith("promptlab-ledger")]
        assert len(started) == 2
        if close:
            await ledger.close()
        del ledger
        gc.collect()
        for thread in started:
            thread.join(10)
            assert not thread.is_alive()
        assert list(path.parent.iterdir()) == [path]


async def test_a_deleted_file_is_created_anew(path: Path) -> None:
    """Nothing is written to a file that nobody can see any more, and reads see the new one."""
    ledger = SqliteLedger(path)
    await ledger.add_run(run())
    assert await ledger.get_run(RUN) is not None
    for file in path.parent.iterdir():
        file.unlink()
    assert await ledger.get_run(RUN) is None
    await ledger.add_run(run("second"))
    assert [r.run_id for r in (await ledger.list_runs())[0]] == ["second"]
    await ledger.close()


async def test_all_that_returned_survives_sigkill(path: Path) -> None:
    """The writer is killed right after its last write returned."""
    with python("-c", WRITER, str(path), "0", "30", "wait", stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    ledger = SqliteLedger(path)
    assert await ledger.get_completions(RUN, 0) == [completion(i, shard=0) for i in range(30)]
    assert await ledger.get_scores(RUN, 0) == [score_set(i, shard=0) for i in range(30)]
    assert [s async for s in ledger.shards(RUN)] == [shard_summary(0)]
    await ledger.close()


async def test_several_processes_create_and_write_one_file(path: Path) -> None:
    """Started at once, on a file that is not there yet, while this process reads."""
    ledger = SqliteLedger(path)
    processes = [python("-c", WRITER, str(path), str(i * 40), "40") for i in range(4)]
    while any(process.poll() is None for process in processes):
        done = [c.case for c in await ledger.get_completions(RUN, 0)]
        assert done == sorted(set(done))
    for process in processes:
        output, errors = process.communicate()
        assert (process.returncode, output, errors) == (0, b"written\n", b"")
    assert await ledger.get_completions(RUN, 0) == [completion(i, shard=0) for i in range(160)]
    await ledger.close()


def test_a_ledger_that_nobody_closed_ends_quietly(path: Path) -> None:
    """No warning and no hanging thread at the end of the program."""
    with python("-X", "dev", "-W", "error", "-c", WRITER, str(path), "0", "3") as process:
        output, errors = process.communicate()
    assert (process.returncode, output, errors) == (0, b"written\n", b"")
    assert [p.name for p in path.parent.iterdir()] == [path.name]


async def test_progress_reads_no_body(path: Path) -> None:
    """At 100,000 cases bodies would be 100 MB: the index alone answers."""
    ledger = SqliteLedger(path)
    await ledger.add_run(run())
    await ledger.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {_PROGRESS}", (RUN,)).fetchall()
    assert [step[3] for step in plan] == ["SEARCH completion USING COVERING INDEX completion_progress (run_id=?)"]

"""Properties that only the ledger in a SQLite file has: threads, processes, sudden ends."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from promptlab.errors import VersionTakenError
from tests.contract.builders import RUN, asset, completion, run, score_set, shard_summary
from tests.unit.sqlite_locks import begun, locked

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
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "promptlab.db"


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

    threads = [
        threading.Thread(target=lambda thread=thread: asyncio.run(work(thread))) for thread in range(5)
    ]
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


async def test_a_write_that_nobody_waits_for_any_more_harms_nobody(path: Path) -> None:
    """Its neighbours in the same commit are answered, and it is recorded too."""
    ledger = SqliteLedger(path)
    await ledger.add_run(run())
    with locked(path):
        tasks = await begun(*(ledger.put_completions(RUN, [completion(i)]) for i in range(3)))
        tasks[0].cancel()
        tasks[1].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(o) for o in outcomes] == [asyncio.CancelledError, asyncio.CancelledError, type(None)]
    assert await ledger.get_completions(RUN, 0) == [completion(i) for i in range(3)]
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
        started = [
            t for t in threading.enumerate() if t not in before and t.name.startswith("promptlab-ledger")
        ]
        assert len(started) == 2
        if close:
            await ledger.close()
        del ledger
        gc.collect()
        for thread in started:
            thread.join(60)
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

"""The deletion of runs over every store: nothing is left, whatever interrupts it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from promptlab.adapters.local.file_blobs import FileBlobs
from promptlab.clock import SystemClock
from promptlab.deleting.journal import Journal
from promptlab.deleting.runs import RunDeleting
from promptlab.domain.records import LEASE, SO_FAR, TRIED
from promptlab.domain.results import Completion, RunRecord, ScoreSet, ShardSummary
from promptlab.ports import Blobs, Ledger
from tests.contract.builders import RUN, run

FILES = [f"runs/{RUN}/{name}" for name in ("manifest-0.jsonl", "parts/000000.jsonl.gz", "results.parquet")]


class StandingClock(SystemClock):
    """A clock that is moved by those who wait."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)


class Killed(BaseException):
    """The process ends here."""


class Dying:
    """A ledger, or blobs, whose process is killed before its nth change of the store."""

    def __init__(self, store: Any, lives: list[int]) -> None:
        self._store, self._lives = store, lives

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)
        if not name.startswith(("put_", "update_", "delete_", "clear_", "erase")):
            return call

        async def counted(*args: Any, **kwargs: Any) -> Any:
            if not self._lives[0]:
                raise Killed
            self._lives[0] -= 1
            return await call(*args, **kwargs)

        return counted


def deleting(ledger: Ledger, blobs: Blobs, clock: SystemClock | None = None) -> RunDeleting:
    used = clock or StandingClock()
    return RunDeleting(ledger, blobs, used, Journal(ledger, used))


async def store_run(ledger: Ledger, blobs: Blobs, **changes: Any) -> RunRecord:
    """A run with three shards, and all that may belong to one."""
    record = run(**{"status": "completed", "generation": 1, **changes})
    await ledger.add_run(record)
    for shard in range(3):
        cases = [Completion(shard=shard, case=shard * 9 + n, trial=0, response="x" * 9000) for n in range(9)]
        await ledger.put_completions(RUN, cases)
        await ledger.put_scores(RUN, [ScoreSet(shard=shard, case=shard * 9, trial=0, scores={})])
        await ledger.put_record(TRIED, f"{RUN}#1#{shard}", {"cases": []})
    await ledger.put_record(SO_FAR, RUN, {"summary": {}})
    await ledger.put_shard(RUN, ShardSummary(number=0, generation=0, summary={}, part="p"))
    for key in FILES:
        await blobs.put(key, b"x")
    return record


async def left(ledger: Ledger, blobs: Blobs) -> list[str]:
    """What there still is of the run, in words."""
    found = [f"blob {key}" for key in await blobs.keys(f"runs/{RUN}/")]
    found += [f"shard {n}" for n in await ledger.shard_numbers(RUN, limit=9)]
    for shard in range(3):
        found += [f"case {c.case}" for c in await ledger.get_completions(RUN, shard)]
        found += [f"scores {s.case}" for s in await ledger.get_scores(RUN, shard)]
        found += [f"tried {shard}"] * (await ledger.get_record(TRIED, f"{RUN}#1#{shard}") is not None)
    found += ["sum so far"] * (await ledger.get_record(SO_FAR, RUN) is not None)
    found += ["run"] * (await ledger.get_run(RUN) is not None)
    return found


@pytest.fixture
def files(tmp_path: Path) -> FileBlobs:
    """The blobs, also those that the ledger puts long texts into."""
    return FileBlobs(tmp_path / "blobs")


async def test_nothing_of_a_run_is_left_but_who_deleted_it(ledger: Ledger, files: FileBlobs) -> None:
    """Another run keeps all that it has."""
    record = await store_run(ledger, files)
    await ledger.add_run(run("other"))
    await ledger.put_completions("other", [Completion(shard=0, case=0, trial=0, response="x")])
    await files.put("runs/other/results.parquet", b"x")
    work = deleting(ledger, files)
    await work.mark(record, "ada")
    assert (await ledger.get_run(RUN) or record).deleting_since is not None
    assert await work.remove(RUN) is True
    assert await left(ledger, files) == []
    ((_, deletion),) = await Journal(ledger, SystemClock()).done()
    assert (deletion.what, deletion.id, deletion.by) == ("run", RUN, "ada")
    assert deletion.at <= str(deletion.done_at)
    assert await ledger.list_records("DELETING") == []
    assert len(await ledger.get_completions("other", 0)) == 1
    assert await files.keys("runs/") == ["runs/other/results.parquet"]


@pytest.mark.long
async def test_after_any_interruption_the_next_call_removes_the_rest(
    open_ledger: Callable[[], Ledger], files: FileBlobs
) -> None:
    """Killed before its first change, before its second, …: the run is marked first and there until the end,
    and it is known that its deletion is under way."""
    for lives in range(40):
        ledger = open_ledger()  # one process each
        record = await store_run(ledger, files)
        counter = [lives]
        dying: Any = Dying(ledger, counter)
        work = deleting(dying, Dying(files, counter))  # type: ignore[arg-type]
        try:
            await work.mark(record, "ada")
            await work.remove(RUN)
        except (Killed, BaseExceptionGroup):
            found = await ledger.get_run(RUN)
            begun = await ledger.list_records("DELETING")
            if await left(ledger, files) != [] and lives > 1:
                assert found is not None and found.deleting_since, lives
            assert len(begun) == (lives > 0), lives
            again = deleting(open_ledger(), files)
            if lives <= 1:
                await again.mark(record, "bob")
            assert await again.remove(RUN) is True
        assert await left(ledger, files) == []
        assert await ledger.list_records("DELETING") == []
        if counter[0]:
            break
    assert counter[0] and lives > 10, "it was never killed at its end"
    assert {d.by for _, d in await Journal(ledger, SystemClock()).done()} <= {"ada", "bob"}


async def test_a_deletion_that_has_no_time_stops_between_two_steps(ledger: Ledger, files: FileBlobs) -> None:
    """It says that there is more."""
    record = await store_run(ledger, files)
    work = deleting(ledger, files)
    await work.mark(record, "ada")
    assert await work.remove(RUN, time.monotonic() - 1) is False
    assert len(await left(ledger, files)) > 30
    assert await work.remove(RUN, time.monotonic() + 60) is True
    assert await left(ledger, files) == []


async def test_a_deletion_waits_for_workers_that_still_record(ledger: Ledger, files: FileBlobs) -> None:
    """Of a run that was cancelled in the cloud; and for a shard that somebody holds."""
    record = await store_run(ledger, files, status="cancelled", beat_at="2026-11-23T09:00:00.000000Z")
    await ledger.put_record(LEASE, f"{RUN}#1", {"owner": "w"}, expires_at=time.time() + 60)
    clock = StandingClock()
    work = deleting(ledger, files, clock)
    await work.mark(record, "ada")
    removal = asyncio.create_task(work.remove(RUN))
    while len(clock.waited) < 2:
        await asyncio.sleep(0)
    assert 8 < clock.waited[0] <= 10 and clock.waited[1] == 3
    assert len(await left(ledger, files)) > 30
    await ledger.delete_record(LEASE, f"{RUN}#1")
    assert await removal is True
    assert await left(ledger, files) == []

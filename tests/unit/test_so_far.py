"""The sum of a run that goes on: kept by the process that works on it, read by all others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from promptlab import Dataset, PromptTemplate
from promptlab.adapters.local.run_locks import is_locked, take
from promptlab.adapters.local.sqlite_ledger import SqliteLedger
from promptlab.domain.results import RunRecord, ShardSummary
from promptlab.domain.summary import Summary
from promptlab.queries.summaries import Summaries
from promptlab.results.so_far import SoFar, added_up, recorded
from promptlab.store_lab import StoreLab
from tests.contract.builders import run, shard_summary
from tests.servers import ModelServer, Reply, Request


class CountingLedger(SqliteLedger):
    """A ledger that counts how many summaries of shards were read."""

    shards_read = 0

    async def shards(self, run_id: str) -> AsyncIterator[ShardSummary]:
        async for shard in super().shards(run_id):
            self.shards_read += 1
            yield shard


def finished(number: int, cases: int = 50, **changes: object) -> ShardSummary:
    return shard_summary(number, summary=Summary(cases=cases, succeeded=cases).to_json(), **changes)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def test_another_process_reads_the_sum_of_a_running_run_and_no_shard(tmp_path: Path) -> None:
    """However many shards the run has finished."""
    go_on = threading.Event()

    def answer(request: Request) -> Reply:
        if int(request.prompt.split()[-1]) >= 100:
            go_on.wait(60)
        return Reply(text="yes")

    with ModelServer(answer) as server:
        db = tmp_path / "lab.db"
        lab = StoreLab.open({"db_file": str(db)})
        started = await lab.start(
            {
                "name": "quiz",
                "dataset": Dataset(name="rows", rows=[{"n": i} for i in range(130)]),
                "prompt_template": PromptTemplate(name="ask", user_prompt="What is <n>"),
                "model": {"name": "openai/mini", "endpoint": server.openai_url, "max_concurrent_tasks": 10},
                "evaluation": [{"metric": "length", "column_mapping": {"response": "$inference"}}],
            }
        )
        other = CountingLedger(db)
        try:
            async with asyncio.timeout(30):
                while (known := await recorded(other, started)) is None or known.cases < 100:
                    await asyncio.sleep(0.05)
            summary = await Summaries(other).of(started, active=True)
            assert (summary.cases, summary.metrics["length"].n, other.shards_read) == (100, 100, 0)
            assert (await lab.summary(started.run_id)).cases == 100
        finally:
            go_on.set()
        ended = await lab.watch(started)
        assert ended.status == "completed" and (await lab.summary(started.run_id)).cases == 130
        await other.close()
        await lab.close()


async def test_a_pass_counts_what_was_finished_before_it_and_stays(tmp_path: Path) -> None:
    """Each shard once, and none of an earlier pass that is done again."""
    ledger = CountingLedger(tmp_path / "lab.db")
    record = run(status="running", generation=2)
    await ledger.add_run(record)
    so_far = SoFar(ledger, record)
    for _ in range(2):  # a second plan begins anew
        so_far.begin()
        for number in range(3):
            so_far.keep(finished(number))
    so_far.add(7, Summary(cases=20))
    so_far.add(7, Summary(cases=20))
    await so_far.record()
    found = await recorded(ledger, record)
    assert found is not None and found.cases == 170
    assert await recorded(ledger, run(status="running", generation=3)) is None
    await ledger.close()


async def test_a_shard_that_cannot_be_read_is_left_out_of_the_sum_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The pass goes on: the run's own summary says so at its end."""
    ledger = CountingLedger(tmp_path / "lab.db")
    so_far = SoFar(ledger, run(status="running", generation=2))
    so_far.keep(shard_summary(4, summary={"cases": "many"}))
    so_far.keep(finished(5))
    await so_far.record()
    found = await recorded(ledger, run(status="running", generation=2))
    assert found is not None and found.cases == 50
    assert "shard 4 of run" in caplog.text
    await ledger.close()


async def test_the_sum_of_a_stopped_run_is_added_up_once_a_pass(tmp_path: Path) -> None:
    """Also where many ask at the same time."""
    ledger = CountingLedger(tmp_path / "lab.db")
    stopped = run(status="interrupted", finished_at="2026-11-23T09:00:00.000000Z")
    await ledger.add_run(stopped)
    for number in range(5):
        await ledger.put_shard(stopped.run_id, finished(number))
    summaries = Summaries(ledger)
    found = await asyncio.gather(*(summaries.of(stopped, active=False) for _ in range(20)))
    assert [s.cases for s in found] == [250] * 20 and ledger.shards_read == 5
    found[0].merge(Summary(cases=1))  # everybody has one of their own
    assert (await summaries.of(stopped, active=False)).cases == 250
    await ledger.put_shard(stopped.run_id, finished(5))
    again = run(status="interrupted", finished_at="2026-11-23T10:00:00.000000Z", generation=1)
    assert (await summaries.of(again, active=False)).cases == 300
    await summaries.close()
    await ledger.close()


async def test_without_a_record_the_shards_are_added_up(tmp_path: Path) -> None:
    """Of a run in the cloud, or before the first second has passed."""
    ledger = SqliteLedger(tmp_path / "lab.db")
    record: RunRecord = run(status="running")
    await ledger.add_run(record)
    await ledger.put_shard(record.run_id, finished(0))
    assert (await Summaries(ledger).of(record, active=True)).cases == 50
    assert (await added_up(ledger, record)).cases == 50
    await ledger.close()


@pytest.mark.parametrize("held", [True, False])
async def test_those_who_look_at_a_run_do_not_take_each_other_for_its_worker(
    tmp_path: Path, held: bool
) -> None:
    """A hundred requests at the same time say the same of a run."""
    lock = take(tmp_path, "run")
    if not held:
        lock.release()
    looks = [asyncio.to_thread(is_locked, tmp_path / "run.lock") for _ in range(400)]
    assert set(await asyncio.gather(*looks)) == {held}
    lock.release()
    assert not is_locked(tmp_path / "none.lock")

"""Jobs: what they make, and what becomes of them when they fail, are stopped, or their worker dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from promptlab.domain.assets import Dataset
from promptlab.errors import JobNotFoundError, RunError, StoreBusyError, TooManyJobsError
from promptlab.jobs import AT_ONCE, JOB, Job, Jobs, TaskStarter
from promptlab.store_lab import StoreLab
from tests.browser import labs

UPLOAD = f"uploads/{'0' * 32}/rows.jsonl"


class ByHand:
    """Notes which jobs were started; the test works on them."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.started: list[str] = []
        self.fault = fault

    async def start(self, jobs: Jobs, job_id: str) -> None:
        if self.fault:
            raise self.fault
        self.started.append(job_id)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    found = labs.open_lab(tmp_path)
    yield found
    await found.close()


async def uploaded(lab: StoreLab, rows: int = 3) -> dict[str, Any]:
    await lab.blobs.put(UPLOAD, b"".join(b'{"q": "%d"}\n' % n for n in range(rows)))
    return {"name": "made", "upload": UPLOAD}


async def test_a_file_becomes_a_dataset_and_is_used_up(lab: StoreLab) -> None:
    """While nobody waits; the job says what it made."""
    starter = TaskStarter()
    jobs = Jobs(lab, starter)
    job = await jobs.submit("ingest", await uploaded(lab), by="me")
    assert (job.status, job.by) == ("queued", "me")
    while (job := await jobs.get(job.id)).status in ("queued", "running"):
        await asyncio.sleep(0)
    assert (job.status, job.result) == ("done", {"name": "made", "version": 0, "rows": 3})
    dataset = await lab.assets.get("made")
    assert isinstance(dataset, Dataset)
    assert [row["q"] for row in await lab.assets.rows(dataset, 0, 9)] == ["0", "1", "2"]
    assert not await lab.blobs.exists(UPLOAD)
    await starter.close()


async def test_what_is_wrong_with_a_file_is_kept_with_the_job(lab: StoreLab) -> None:
    """With the line, under the name that the file had, and the file stays."""
    jobs = Jobs(lab, ByHand())
    await lab.blobs.put(UPLOAD, b'{"q": 1}\n{"q": \n')
    job = await jobs.submit("ingest", {"name": "made", "upload": UPLOAD})
    job = await jobs.work(job.id)
    assert job.status == "failed" and job.error is not None
    assert job.error["type"] == "urn:promptlab:dataset" and job.error["status"] == 422
    assert "rows.jsonl, line 2" in job.error["detail"] and "/named/" not in job.error["detail"]
    await lab.blobs.put(UPLOAD, b'{"q": 1}\n')
    again = await jobs.retry(job.id)
    assert (again.id, again.status, again.error) == (job.id, "queued", None)
    job = await jobs.work(job.id)
    assert (job.status, job.attempts) == ("done", 2)


async def test_the_results_of_a_run_become_a_file(lab: StoreLab) -> None:
    """In each format; doing it again replaces the file."""
    await labs.add_assets(lab, 7)
    run = await lab.run(labs.config({"name": "simulated/demo"}))
    jobs = Jobs(lab, ByHand())
    for format_ in ("csv", "jsonl", "parquet"):
        job = await jobs.submit("export", {"run_id": run.run_id, "format": format_})
        for _ in range(2):
            job = await jobs.work(job.id)
            assert job.status == "done", job.error
            assert job.result["file_name"] == f"{run.run_id}.{format_}"
            data = await lab.blobs.get(job.result["key"])
            assert len(data) == job.result["size_bytes"]
            await lab.records.put_record(JOB, job.id, asdict(replace(job, status="running")))
        if format_ == "jsonl":
            assert data.count(b"\n") == 7


async def test_a_job_that_is_over_is_not_done_again(lab: StoreLab) -> None:
    """An event that Lambda delivers twice changes nothing."""
    jobs = Jobs(lab, ByHand())
    job = await jobs.submit("ingest", await uploaded(lab))
    done = await jobs.work(job.id)
    await uploaded(lab, 5)
    assert await jobs.work(job.id) == done
    assert await lab.blobs.exists(UPLOAD)


async def test_a_job_whose_worker_dies_is_interrupted_and_can_be_tried_again(lab: StoreLab) -> None:
    """As soon as it was not renewed for a minute; its place is free then."""
    jobs = Jobs(lab, ByHand())
    job = await jobs.submit("ingest", await uploaded(lab))
    for beat, status in ((time.time() - 50, "running"), (time.time() - 70, "interrupted")):
        dead = replace(job, status="running", beat=beat, attempts=1)
        await lab.records.put_record(JOB, job.id, asdict(dead))
        assert (await jobs.get(job.id)).status == status
    again = await jobs.retry(job.id)
    assert again.status == "queued"
    done = await jobs.work(job.id)
    assert (done.status, done.attempts) == ("done", 2)
    with pytest.raises(RunError, match="is done"):
        await jobs.retry(job.id)


async def test_a_cancelled_job_stops(lab: StoreLab) -> None:
    """One that waits at once; one under way within seconds; one that is over stays."""
    jobs = Jobs(lab, ByHand())
    job = await jobs.submit("ingest", await uploaded(lab))
    assert (await jobs.cancel(job.id)).status == "cancelled"
    assert (await jobs.work(job.id)).status == "cancelled"
    assert await lab.assets.record("made", kind="dataset") is None

    await jobs.retry(job.id)
    working = asyncio.create_task(jobs.work(job.id))
    while (await jobs.get(job.id)).status != "running" and not working.done():
        await asyncio.sleep(0)
    await jobs.cancel(job.id)
    assert (await working).status in ("cancelled", "done")


async def test_a_stopped_process_leaves_its_job_interrupted(lab: StoreLab) -> None:
    """And the next one tries it again."""
    starter, jobs = TaskStarter(), Jobs(lab, ByHand())
    own = Jobs(lab, starter)
    job = await own.submit("ingest", await uploaded(lab, 200_000))
    while (await jobs.get(job.id)).status != "running":
        await asyncio.sleep(0)
    await starter.close()
    assert (await jobs.get(job.id)).status == "interrupted"
    assert await lab.blobs.exists(UPLOAD)


async def test_jobs_at_once_are_bounded(lab: StoreLab) -> None:
    """Who asks for one more is told to come back; one that ended makes room, one that died too."""
    jobs = Jobs(lab, ByHand())
    args = await uploaded(lab)
    ids = [(await jobs.submit("ingest", args)).id for _ in range(AT_ONCE)]
    with pytest.raises(TooManyJobsError, match=f"{AT_ONCE} jobs are under way"):
        await jobs.submit("ingest", args)
    await jobs.work(ids[0])
    ids.append((await jobs.submit("ingest", args)).id)
    with pytest.raises(TooManyJobsError):
        await jobs.submit("ingest", args)
    found = await lab.records.get_record(JOB, ids[1])
    assert found is not None
    await lab.records.put_record(JOB, ids[1], {**found, "status": "running", "beat": 0.0})
    await jobs.submit("ingest", args)


async def test_what_cannot_be_begun_leaves_no_job(lab: StoreLab) -> None:
    """Nor does it hold a place."""
    broken = Jobs(lab, ByHand(StoreBusyError("busy")))
    for _ in range(AT_ONCE + 1):
        with pytest.raises(StoreBusyError, match=r"^busy$"):
            await broken.submit("ingest", await uploaded(lab))
    with pytest.raises(JobNotFoundError):
        await broken.get("0" * 32)


async def test_a_job_ends_before_its_function_does(lab: StoreLab) -> None:
    """With words that say what to do."""
    jobs = Jobs(lab, ByHand())
    job = await jobs.submit("ingest", await uploaded(lab, 300_000))
    job = await jobs.work(job.id, limit_s=0)
    assert job.status == "failed" and job.error is not None
    assert "longer than 0 minutes" in job.error["detail"] and "split the file" in job.error["detail"]


async def test_a_fault_is_kept_without_what_it_says(lab: StoreLab, caplog: pytest.LogCaptureFixture) -> None:
    """The log has the rest."""
    jobs = Jobs(lab, ByHand())
    job = await jobs.submit("export", {"run_id": "none"})
    job = await jobs.work(job.id)
    assert job.status == "failed" and job.error is not None and job.error["status"] == 500
    incident = job.error["detail"].rpartition(" ")[2].rstrip(".")
    assert incident in caplog.text and "KeyError" in caplog.text


def test_a_record_of_an_older_version_is_read() -> None:
    """Fields that it lacks have their defaults."""
    from promptlab.domain.records import made

    job = made(Job, {"id": "1", "kind": "export", "status": "done", "args": {}, "created_at": "x"})
    assert (job.done, job.result) == (0, {})

"""Jobs: work on a lab's data that takes longer than a request may: making a dataset from an uploaded file,
and writing a run's results into a file.

A job is a record in the ledger, kept for a day. Whoever works on it renews its `beat`; a job that nobody
renews was interrupted, and can be tried again. Doing it twice does no harm: the same file makes the same
version, and an export replaces its own file.

    jobs = Jobs(lab, starter)
    job = await jobs.submit("export", {"run_id": run_id, "format": "csv"})   # returns at once
    job = await jobs.get(job.id)                                             # look at it
    await jobs.work(job.id)                                                  # what the worker calls
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from promptlab.adapters.http.problems import URN, problem_kind
from promptlab.domain.assets import Dataset
from promptlab.domain.masking import hide_text, traceback_of
from promptlab.domain.records import made
from promptlab.errors import (
    BlobNotFoundError,
    DatasetError,
    JobNotFoundError,
    PromptLabError,
    RunError,
    TooManyJobsError,
)
from promptlab.ports import Records
from promptlab.results.formats import CsvStyle, export_name
from promptlab.scratch import ScratchFolder
from promptlab.store_lab import StoreLab

Kind = Literal["ingest", "export"]
Status = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
OVER: frozenset[Status] = frozenset({"done", "failed", "cancelled", "interrupted"})
JOB, CANCEL, SLOT = "JOB", "JOB_CANCEL", "JOB_SLOT"
"""Kinds of records: a job by its id, the wish that it ends, and a place among those at once."""
KEPT_S = 86_400.0
"""How long a job, and the file that it wrote, is kept."""
AT_ONCE = 4
"""Jobs of a lab that are under way at once at most."""
SLOT_S = 1_800.0
"""After which a place is free again, whatever became of the job: a function ends after 900 s."""
BEAT_S = 2.0
"""How often a worker renews its job, and looks whether it was cancelled."""
STALE_S = 60.0
"""A job that was not renewed for so long was interrupted. Queued ones may wait for a function to start."""
QUEUED_S = 900.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """A job, as its record has it."""

    id: str
    kind: Kind
    status: Status
    args: Mapping[str, Any]
    created_at: str
    by: str = ""
    """Who asked for it."""
    started_at: str | None = None
    finished_at: str | None = None
    done: int = 0
    """Rows read, or bytes of the file written, so far."""
    total: int | None = None
    """Of how many, if that is known."""
    stage: str = "waiting"
    """What it does just now, in a word or two."""
    attempts: int = 0
    error: Mapping[str, Any] | None = None
    """Why it failed, as problem details."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """What it made: `name` and `version` of a dataset, `file_name`, `key` and `size_bytes` of a file."""
    beat: float = 0.0
    """When it was last renewed, in seconds since 1970."""
    slot: str = ""


class Starter(Protocol):
    """Has a job worked on, somewhere."""

    async def start(self, jobs: Jobs, job_id: str) -> None:
        """Return once somebody will call `jobs.work`, in this process or another."""


class TaskStarter:
    """Works on jobs in tasks of this process: on a laptop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self, jobs: Jobs, job_id: str) -> None:
        """Begin a task."""
        task = asyncio.create_task(jobs.work(job_id))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("a job could not be worked on\n%s", traceback_of(error))

    async def close(self) -> None:
        """Stop what is under way; it can be tried again."""
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Jobs:
    """The jobs of one lab.

    Args:
        lab: the lab.
        starter: who works on them.
        stale_s: after how long without a sign a job counts as interrupted.
    """

    def __init__(self, lab: StoreLab, starter: Starter, *, stale_s: float = STALE_S) -> None:
        self._lab, self._starter, self._stale_s = lab, starter, stale_s
        self._records: Records = lab.ledger  # the project's own

    @property
    def project(self) -> str:
        """The project that they are of."""
        return self._lab.project

    async def submit(self, kind: Kind, args: Mapping[str, Any], *, by: str = "") -> Job:
        """Record a job and have it begun.

        Raises:
            TooManyJobsError: there are AT_ONCE already.
        """
        job = Job(secrets.token_hex(16), kind, "queued", dict(args), self._lab.clock.now(), by=by)
        return await self._begin(job)

    async def get(self, job_id: str) -> Job:
        """Read a job, as it is now.

        Raises:
            JobNotFoundError: there is none; one is kept for a day.
        """
        found = await self._records.get_record(JOB, job_id)
        if found is None:
            raise JobNotFoundError(job_id)
        job = made(Job, found)
        allowed = QUEUED_S if job.status == "queued" else self._stale_s
        if job.status not in OVER and time.time() - job.beat > allowed:
            return replace(job, status="interrupted", stage="interrupted")
        return job

    async def cancel(self, job_id: str) -> Job:
        """Have a job stopped within seconds; one that is over stays as it is.

        Raises:
            JobNotFoundError: there is none.
        """
        job = await self.get(job_id)
        if job.status in ("done", "failed", "cancelled"):
            return job
        await self._records.put_record(CANCEL, job_id, {}, expires_at=time.time() + KEPT_S)
        if job.status == "running":
            return job
        # Nobody works on it: there is nothing to wait for.
        return await self._ended(job, "cancelled", "cancelled")

    async def retry(self, job_id: str) -> Job:
        """Do a job again that failed, or was interrupted or cancelled.

        Raises:
            JobNotFoundError: there is none.
            RunError: it is under way, or done.
            TooManyJobsError: there are AT_ONCE already.
        """
        job = await self.get(job_id)
        if job.status not in ("failed", "interrupted", "cancelled"):
            raise RunError(f"Job {job_id} is {job.status}: there is nothing to try again.")
        await self._free(job)
        await self._records.delete_record(CANCEL, job_id)
        return await self._begin(replace(job, status="queued", stage="waiting", error=None, done=0))

    async def _begin(self, job: Job) -> Job:
        job = replace(job, slot=await self._slot(job.id), beat=time.time())
        await self._put(job)
        try:
            await self._starter.start(self, job.id)
        except BaseException:
            await self._free(job)
            await self._records.delete_record(JOB, job.id)
            raise
        return job

    async def work(self, job_id: str, *, limit_s: float = math.inf) -> Job:
        """Do a job to its end, and record how it ended. Of a job that is over, nothing is done again.

        Args:
            job_id: the job.
            limit_s: how long it may take: a function ends after that.

        Raises:
            JobNotFoundError: there is none.
            asyncio.CancelledError: this process stops; the job can be tried again.
        """
        job = made(Job, await self._records.get_record(JOB, job_id) or _missing(job_id))
        if job.status in OVER:
            return job
        job = replace(job, status="running", started_at=self._lab.clock.now(), attempts=job.attempts + 1)
        under_way = _UnderWay(self, job, time.monotonic() + limit_s)
        task = asyncio.create_task(_WORK[job.kind](under_way))
        watch = asyncio.create_task(under_way.watched(task))
        try:
            result = await task
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if under_way.is_late:
                late = RunError(
                    f"The job took longer than {limit_s / 60:.0f} minutes, which is the most: split the "
                    "file, or do it on a machine of your own (promptlab export, promptlab run)."
                )
                return await self._ended(under_way.job, "failed", "failed", error=_problem(late))
            if not under_way.is_cancelled:
                await self._ended(under_way.job, "interrupted", "interrupted")
                raise
            return await self._ended(under_way.job, "cancelled", "cancelled")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is kept with the job
            return await self._ended(under_way.job, "failed", "failed", error=_problem(error))
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        whole = under_way.job.total or under_way.job.done
        return await self._ended(replace(under_way.job, done=whole), "done", "done", result=result)

    async def _ended(self, job: Job, status: Status, stage: str, **changes: Any) -> Job:
        job = replace(job, status=status, stage=stage, finished_at=self._lab.clock.now(), **changes)
        await self._put(job)
        await self._free(job)
        return job

    async def _put(self, job: Job) -> None:
        await self._records.put_record(JOB, job.id, asdict(job), expires_at=time.time() + KEPT_S)

    async def _slot(self, job_id: str) -> str:
        for number in range(AT_ONCE):
            name, until = str(number), time.time() + SLOT_S
            if await self._records.put_record(
                SLOT, name, {"job": job_id}, expires_at=until, only_if_absent=True
            ):
                return name
            # One whose worker was killed keeps its place for half an hour.
            held = await self._records.get_record(SLOT, name)
            with suppress(JobNotFoundError):
                if held and (await self.get(str(held["job"]))).status not in OVER:
                    continue
            await self._records.put_record(SLOT, name, {"job": job_id}, expires_at=until)
            return name
        raise TooManyJobsError(
            f"{AT_ONCE} jobs are under way, which is the most at once: try again when one has ended."
        )

    async def _free(self, job: Job) -> None:
        held = await self._records.get_record(SLOT, job.slot) if job.slot else None
        if held and held["job"] == job.id:
            await self._records.delete_record(SLOT, job.slot)


class _UnderWay:
    """A job that is worked on here."""

    def __init__(self, jobs: Jobs, job: Job, until: float) -> None:
        self.jobs, self.job, self._until = jobs, job, until
        self.is_cancelled = self.is_late = False
        self.lab = jobs._lab

    def says(self, stage: str, done: int | None = None, total: int | None = None) -> None:
        """Note how far it is; the next renewal records it."""
        self.job = replace(
            self.job,
            stage=stage,
            done=self.job.done if done is None else done,
            total=self.job.total if total is None else total,
        )

    async def watched(self, task: asyncio.Task[Any]) -> None:
        """Renew the job until the task is over, and stop the task if that is wished."""
        while not task.done():
            try:
                await self.jobs._put(replace(self.job, beat=time.time()))
                if await self.jobs._records.get_record(CANCEL, self.job.id) is not None:
                    self.is_cancelled = True
                    task.cancel()
                    return
                if time.monotonic() > self._until:
                    self.is_late = True
                    task.cancel()
                    return
            except PromptLabError as error:
                logger.warning("job %s could not be renewed: %s", self.job.id, error)
            await asyncio.wait([task], timeout=BEAT_S)


async def _ingest(work: _UnderWay) -> dict[str, Any]:
    """Make a dataset's next version from an uploaded file, which is used up then."""
    args, blobs = dict(work.job.args), work.lab.blobs
    key = str(args.pop("upload"))
    with ScratchFolder("job") as folder:
        work.says("fetching the file")
        path = await upload_in(blobs, key, folder)
        work.says("reading rows", 0)
        try:
            created = await work.lab.assets.create(
                Dataset(**args, file_path=path).without_files(),
                on_rows=lambda rows: work.says("reading rows", rows),
            )
        except DatasetError as error:
            raise DatasetError(str(error).replace(str(path), path.name)) from error
    await blobs.delete(key)
    assert isinstance(created, Dataset)
    return {"name": created.name, "version": created.version, "rows": len(created)}


async def upload_in(blobs: Any, key: str, folder: Path) -> Path:
    """Give an uploaded file under the name that it had.

    Raises:
        DatasetError: it is not there.
    """
    try:
        (source,) = await blobs.files([key], folder)
    except BlobNotFoundError:
        raise DatasetError(
            f"There is no upload {key!r}: upload the file first, and use each upload once."
        ) from None
    # What kind of file it is, readers see by its name.
    named = folder / "named" / key.rpartition("/")[2]
    named.parent.mkdir()
    named.symlink_to(source)
    return named


async def _export(work: _UnderWay) -> dict[str, Any]:
    """Write a run's results into a file, and put it where it can be fetched for a day."""
    args, lab = work.job.args, work.lab
    format_ = args["format"]
    style = CsvStyle(args.get("delimiter", ","), bool(args.get("bom", False)))
    name = export_name(args["run_id"], format_)
    await forget_exports(lab.blobs)
    with ScratchFolder("job") as folder:
        path = folder / f"results.{format_}"
        work.says("writing the file", 0)
        writing = asyncio.create_task(lab.export(args["run_id"], path, format_, style))
        try:
            while not writing.done():
                await asyncio.wait([writing], timeout=BEAT_S)
                work.says("writing the file", await asyncio.to_thread(_largest, folder))
            await writing
        finally:
            writing.cancel()
        size = path.stat().st_size
        work.says("storing the file", size, size)
        key = f"exports/{work.job.created_at[:10]}-{work.job.id}/{name}"
        await lab.blobs.put_file(key, path)
    return {"key": key, "file_name": name, "size_bytes": size}


def _largest(folder: Path) -> int:
    """Bytes of what is being written: the largest file of a folder."""
    sizes = [0]
    for path in folder.iterdir():
        with suppress(OSError):
            sizes.append(path.stat().st_size)
    return max(sizes)


async def forget_exports(blobs: Any) -> None:
    """Remove files of exports of two days ago and before, where no bucket's rule does."""
    if blobs.folder is None:
        return
    before = time.strftime("%Y-%m-%d", time.gmtime(time.time() - KEPT_S))
    for key in await blobs.keys("exports/"):
        if key.split("/")[1][:10] < before:
            await blobs.delete(key)


_WORK = {"ingest": _ingest, "export": _export}


def _missing(job_id: str) -> Any:
    raise JobNotFoundError(job_id)


def _problem(error: Exception) -> dict[str, Any]:
    """An error as problem details; what nobody expected goes to the log, and its kind to the job."""
    if isinstance(error, PromptLabError):
        kind = problem_kind(error)
        return {
            "type": URN + kind.code,
            "title": kind.title,
            "status": kind.status,
            "detail": hide_text(str(error))[:20_000],
        }
    incident = secrets.token_hex(6)
    logger.error("incident %s in a job\n%s", incident, traceback_of(error))
    return {
        "type": f"{URN}internal-error",
        "title": "Internal Server Error",
        "status": 500,
        "detail": f"Something went wrong here. The log has it as incident {incident}.",
    }

"""Jobs: datasets made from large files, and results written into files, while nobody has to wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response, StreamingResponse

from promptlab.jobs import OVER, Job, Jobs
from promptlab.ports import DirectBlobs
from promptlab.results.formats import CsvStyle
from promptlab_studio.access import Engineer, Principal, TheLab, Viewer
from promptlab_studio.api.answers import JobOut
from promptlab_studio.api.bodies import Exact
from promptlab_studio.api.shapes import ExportIn, IngestIn
from promptlab_studio.bounds import LINK_S, streams

MOST_WAIT_S = 25
"""How long a question waits for its answer: the HTTP API in front of Lambda gives up after 30 s."""
LOOK_S = 1.0
router = APIRouter(tags=["jobs"], route_class=Exact)
T = TypeVar("T")


async def jobs_of(request: Request, lab: TheLab) -> Jobs:
    """The jobs of the project that is asked."""
    return Jobs(lab, request.app.state.starter)


TheJobs = Annotated[Jobs, Depends(jobs_of)]
JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="The job's id.")]
Wait = Annotated[
    int,
    Query(
        ge=0,
        le=60,
        description="Seconds to wait for the end. The answer comes after 25 s at the latest, whatever is "
        "asked for: ask again then.",
    ),
]


async def waited(look: Callable[[], Awaitable[T]], is_over: Callable[[T], bool], wait_s: int) -> T:
    """Look until what is asked about is over, or the time that a request has is."""
    until = time.monotonic() + min(wait_s, MOST_WAIT_S)
    while not is_over(found := await look()):
        left = until - time.monotonic()
        if left <= 0:
            break
        await asyncio.sleep(min(LOOK_S, left))
    return found


def job_object(job: Job) -> dict[str, Any]:
    """A job as the API has it."""
    names = ("id", "kind", "status", "stage", "done", "total", "attempts", "error")
    times = ("created_at", "started_at", "finished_at")
    result = {name: value for name, value in job.result.items() if name != "key"}
    return {
        **{name: getattr(job, name) for name in (*names, *times)},
        "result": result,
        "file": f"/api/v1/jobs/{job.id}/file" if job.status == "done" and "key" in job.result else None,
    }


def _accepted(response: Response, job: Job) -> dict[str, Any]:
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job_object(job)


@router.post(
    "/runs/{run_id}/exports",
    status_code=202,
    summary="Write a run's results into a file",
    response_model=JobOut,
)
async def start_export(
    lab: TheLab,
    jobs: TheJobs,
    who: Viewer,
    run_id: Annotated[str, Path(max_length=200, description="The run's id.")],
    body: ExportIn,
    response: Response,
) -> Any:
    """However many cases it has. The job's `file` is where the file is, for a day."""
    CsvStyle(body.delimiter, body.bom).check(body.format)
    run = await lab.get_run(run_id)
    asked = {"run_id": run.run_id, **body.model_dump()}
    return _accepted(response, await jobs.submit("export", asked, by=who.id))


@router.post(
    "/datasets/ingests",
    status_code=202,
    summary="Create a dataset's next version from an uploaded file",
    response_model=JobOut,
)
async def start_ingest(jobs: TheJobs, who: Engineer, body: IngestIn, response: Response) -> Any:
    """However large it is, up to 5 GB. The job's `result` has the version's name and number."""
    asked = {name: value for name, value in body.model_dump().items() if value is not None}
    return _accepted(response, await jobs.submit("ingest", asked, by=who.id))


@router.get("/jobs/{job_id}", summary="Look at a job", response_model=JobOut)
async def get_job(jobs: TheJobs, who: Viewer, job_id: JobId, wait: Wait = 0) -> Any:
    """How far it is, and what came of it; it is kept for a day."""
    return job_object(await waited(lambda: jobs.get(job_id), lambda job: job.status in OVER, wait))


@router.post("/jobs/{job_id}/cancel", summary="Cancel a job", response_model=JobOut)
async def cancel_job(jobs: TheJobs, who: Viewer, job_id: JobId) -> Any:
    """It ends within seconds; one that is over stays as it is. Another's job only an engineer cancels."""
    check_own(who, await jobs.get(job_id))
    return job_object(await jobs.cancel(job_id))


@router.post("/jobs/{job_id}/retry", status_code=202, summary="Try a job again", response_model=JobOut)
async def retry_job(jobs: TheJobs, who: Viewer, job_id: JobId, response: Response) -> Any:
    """One that failed, was cancelled, or was interrupted because its worker died."""
    check_own(who, await jobs.get(job_id))
    return _accepted(response, await jobs.retry(job_id))


def check_own(who: Principal, job: Job) -> None:
    """Refuse who neither asked for a job nor may start any.

    Raises:
        HTTPException: they may not change it.
    """
    if job.by != who.id and not who.may("run"):
        raise HTTPException(403, "This job is somebody else's: its owner or an engineer may do that.")


@router.get(
    "/jobs/{job_id}/file",
    summary="Download the file of a job",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {}}},
        303: {"description": "Where the file is: in the cloud it comes from the bucket."},
    },
)
async def get_file(request: Request, lab: TheLab, jobs: TheJobs, who: Viewer, job_id: JobId) -> Response:
    """The file that an export wrote."""
    job = await jobs.get(job_id)
    key = job.result.get("key")
    if key is None or not await lab.blobs.exists(str(key)):
        raise HTTPException(404, f"Job {job_id} has no file: it is {job.status}, or its file has expired.")
    if isinstance(lab.blobs, DirectBlobs):
        return RedirectResponse(await lab.blobs.presign_get(str(key), max_age_s=LINK_S), status_code=303)
    streams(request)
    head = {
        "Content-Disposition": f'attachment; filename="{job.result["file_name"]}"',
        "Content-Length": str(job.result["size_bytes"]),
    }
    return StreamingResponse(lab.blobs.stream(str(key)), media_type="application/octet-stream", headers=head)

"""Runs: start, list, look at, cancel, resume, export."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Path, Query
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, RedirectResponse, Response

from promptlab.domain.results import CaseKey, RunRecord, RunStatus
from promptlab.ports import DirectBlobs
from promptlab.results.export import ExportFormat
from promptlab.scratch import ScratchFolder
from promptlab.store_lab import StoreLab
from promptlab_studio.api.answers import CasePage, ProgressOut, RunOut, RunPage, run_brief, run_object
from promptlab_studio.api.idempotency import start_once
from promptlab_studio.api.shapes import ResumeIn, RunIn
from promptlab_studio.auth import TheLab, Viewer

MAX_DETAILED = 50
MAX_LOOKED_AT = 1_000
"""Runs that a filtered list looks at for one page."""
EXPORT_S = 900
"""Seconds that a link to an export is valid."""
_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}

router = APIRouter(prefix="/runs", tags=["runs"])
RunId = Annotated[str, Path(max_length=200, description="The run's id.")]
Cursor = Annotated[
    str | None, Query(max_length=500, description="Where the page before ended: its next_cursor.")
]


@router.post("", status_code=202, summary="Start a run", response_model=RunOut)
async def start_run(
    lab: TheLab,
    who: Viewer,
    body: RunIn,
    response: Response,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=200,
            description="With the same key and body, a request that is sent again starts no second run.",
        ),
    ] = None,
) -> Any:
    """Check the experiment, record the run and begin it. The same checks as everywhere: nothing is stored when one fails."""
    run = await start_once(lab, body.experiment(), body.model_dump(mode="json"), idempotency_key)
    response.headers["Location"] = f"/api/v1/runs/{run.run_id}"
    return await run_object(lab, run)


@router.get("", summary="List runs", response_model=RunPage)
async def list_runs(
    lab: TheLab,
    who: Viewer,
    name: Annotated[str | None, Query(description="Only runs of the experiment of this name.")] = None,
    status: Annotated[RunStatus | None, Query(description="Only runs with this status.")] = None,
    tag: Annotated[str | None, Query(description="Only runs with this tag.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Runs at most.")] = 50,
    cursor: Cursor = None,
    details: Annotated[
        bool, Query(description="Whole runs, as GET /runs/{run_id} has them; then at most 50.")
    ] = False,
) -> Any:
    """Newest first."""
    found, following = await find_runs(
        lab,
        name=name,
        status=status,
        tag=tag,
        limit=min(limit, MAX_DETAILED) if details else limit,
        cursor=cursor,
    )
    if details:
        return {"items": [await run_object(lab, run) for run in found], "next_cursor": following}
    items = [run_brief(run, None if run.summary else await lab.progress(run.run_id)) for run in found]
    return {"items": items, "next_cursor": following}


async def find_runs(
    lab: StoreLab,
    *,
    name: str | None = None,
    status: str | None = None,
    tag: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> tuple[list[RunRecord], str | None]:
    """A page of the runs that match, newest first, and the cursor of the next one or None.

    With a status or a tag at most MAX_LOOKED_AT runs are looked at: the page may hold fewer than `limit`, with more to come.

    Raises:
        CursorError: no list ended there.
    """
    found, looked_at = list[RunRecord](), 0
    while True:
        # Never more than fit: the ledger's cursor is at the end of what it gave.
        page, cursor = await lab.list_runs(name=name, limit=limit - len(found), cursor=cursor)
        found += [run for run in page if status in (None, run.status) and (tag is None or tag in run.tags)]
        looked_at += max(len(page), 20)
        if cursor is None or len(found) == limit or looked_at >= MAX_LOOKED_AT:
            return found, cursor


@router.get("/{run_id}", summary="Look at a run", response_model=RunOut)
async def get_run(lab: TheLab, who: Viewer, run_id: RunId) -> Any:
    """Its status, counts from the ledger, cost so far, metrics of its finished shards, and exact configuration."""
    return await run_object(lab, await lab.get_run(run_id))


@router.get("/{run_id}/progress", summary="How far a run is", response_model=ProgressOut)
async def get_progress(lab: TheLab, who: Viewer, run_id: RunId) -> Any:
    """What to poll: only the status and the counts."""
    run, progress = await lab.get_run(run_id), await lab.progress(run_id)
    counts = ("total", "done", "failed", "prompt_tokens", "completion_tokens", "cost_usd")
    return {"status": run.status, **{name: getattr(progress, name) for name in counts}}


@router.get("/{run_id}/cases", summary="Page through a run's cases", response_model=CasePage)
async def list_cases(
    lab: TheLab,
    who: Viewer,
    run_id: RunId,
    limit: Annotated[
        int, Query(ge=1, le=500, description="Rows at most; long rows make a page shorter.")
    ] = 100,
    cursor: Annotated[
        str | None,
        Query(pattern=r"^\d{1,12}\.\d{1,4}$", description="Where the page before ended: its next_cursor."),
    ] = None,
) -> Response:
    """Rows of the results table, by case and trial; of a run that goes on, those that are answered."""
    after = CaseKey(*map(int, cursor.split("."))) if cursor else None
    rows, last = await lab.cases(run_id, after=after, limit=limit)
    return Response(
        orjson.dumps(
            {"items": rows, "next_cursor": f"{last.case}.{last.trial}" if last else None}, default=str
        ),
        media_type="application/json",
    )


@router.post("/{run_id}/cancel", summary="Cancel a run", response_model=RunOut)
async def cancel_run(lab: TheLab, who: Viewer, run_id: RunId) -> Any:
    """Stop it. What was answered is kept, and resume goes on with it. A run that has ended stays as it is."""
    return await run_object(lab, await lab.cancel(run_id))


@router.post("/{run_id}/resume", status_code=202, summary="Resume a run", response_model=RunOut)
async def resume_run(
    lab: TheLab, who: Viewer, run_id: RunId, response: Response, body: ResumeIn | None = None
) -> Any:
    """Do what is missing, and nothing twice. A run that is complete is left as it is."""
    run = await lab.start_resume(run_id, failed=bool(body and body.failed))
    response.headers["Location"] = f"/api/v1/runs/{run_id}"
    return await run_object(lab, run)


@router.get(
    "/{run_id}/export",
    summary="Download a run's results",
    response_class=Response,
    responses={
        200: {"content": {kind: {} for kind in _TYPES.values()}},
        303: {"description": "Where the file is: in the cloud it comes from the bucket."},
    },
)
async def export_run(
    lab: TheLab,
    who: Viewer,
    run_id: RunId,
    format: Annotated[ExportFormat, Query(description="The file's format.")] = "csv",
) -> Response:
    """One row a case; of a run that is not complete, what there is."""
    run, file_name = await lab.get_run(run_id), f"{run_id}.{format}"
    blobs = lab.blobs
    if isinstance(blobs, DirectBlobs) and format == "parquet" and run.results:
        return RedirectResponse(await blobs.presign_get(run.results, max_age_s=EXPORT_S), status_code=303)
    folder = ScratchFolder("export")
    path = folder.path / f"results.{format}"
    try:
        await lab.export(run_id, path, format)
        if isinstance(blobs, DirectBlobs):
            key = f"exports/{secrets.token_hex(16)}/{file_name}"
            await blobs.put_file(key, path)
            await asyncio.to_thread(folder.close)
            return RedirectResponse(await blobs.presign_get(key, max_age_s=EXPORT_S), status_code=303)
    except BaseException:
        await asyncio.to_thread(folder.close)
        raise
    return FileResponse(
        path, media_type=_TYPES[format], filename=file_name, background=BackgroundTask(folder.close)
    )

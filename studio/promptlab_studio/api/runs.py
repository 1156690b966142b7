"""Runs: start, list, look at, cancel, resume, export."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Header, Path, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from promptlab.domain.choice import TAG_CHARS, Chosen
from promptlab.domain.results import FINAL, CaseKey, RunRecord, RunStatus
from promptlab.domain.spending import NAMES
from promptlab.errors import RunChangedError, RunError
from promptlab.ports import DirectBlobs
from promptlab.results.formats import CsvStyle, ExportFormat, export_name
from promptlab.scratch import ScratchFolder
from promptlab.store_lab import StoreLab
from promptlab.webhooks import shown
from promptlab_studio.access import Engineer, Labeller, LinkViewer, Principal, TheLab, Viewer
from promptlab_studio.api.answers import (
    AS_PROBLEM,
    CasePage,
    ProgressOut,
    RunOut,
    RunPage,
    RunWithWebhook,
    run_brief,
    run_object,
)
from promptlab_studio.api.bodies import Exact
from promptlab_studio.api.cut import ITEMS_BYTES, fitted, fragments
from promptlab_studio.api.idempotency import start_once
from promptlab_studio.api.jobs import Wait, waited
from promptlab_studio.api.shapes import ResumeIn, RunEditIn, RunIn, ScoreIn
from promptlab_studio.bounds import etag_of, matches, streams, whole
from promptlab_studio.shared import moves

MAX_DETAILED = 50
MOST_WAITED_CASES = 50_000
"""Cases that a hosted Studio writes into a file while a request waits, for 30 s at most."""
EXPORT_S = 900
"""Seconds that a link to an export is valid."""
_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "otel": "application/x-ndjson",
}

router = APIRouter(prefix="/runs", tags=["runs"], route_class=Exact)
RunId = Annotated[str, Path(max_length=200, description="The run's id.")]
Cursor = Annotated[
    str | None, Query(max_length=500, description="Where the page before ended: its next_cursor.")
]


@router.post("", status_code=202, summary="Start a run", response_model=RunWithWebhook)
async def start_run(
    lab: TheLab,
    who: Engineer,
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
    """Check the experiment, record the run and begin it. The same checks as everywhere: nothing is stored
    when one fails."""
    run, secret = await start_once(
        lab, body.experiment(), body.model_dump(mode="json"), idempotency_key, by=who.starts_as
    )
    response.headers["Location"] = f"/api/v1/runs/{run.run_id}"
    found = await run_object(lab, run)
    if (webhook := await shown(lab.ledger, run.run_id) if body.webhook else None) is not None:
        found["webhook"] = {**webhook, "secret": secret}
    return found


@router.get("", summary="List runs", response_model=RunPage)
async def list_runs(
    lab: TheLab,
    who: Viewer,
    name: Annotated[
        str | None, Query(max_length=200, description="Only runs of the experiment of this name.")
    ] = None,
    status: Annotated[RunStatus | None, Query(description="Only runs with this status.")] = None,
    tag: Annotated[str | None, Query(max_length=TAG_CHARS, description="Only runs with this tag.")] = None,
    model: Annotated[
        str | None,
        Query(max_length=300, description="Only runs of this model, with or without its provider."),
    ] = None,
    prompt: Annotated[
        str | None, Query(max_length=300, description="Only runs of this prompt template: qa, or qa@3.")
    ] = None,
    dataset: Annotated[
        str | None, Query(max_length=300, description="Only runs over this dataset: qa, or qa@3.")
    ] = None,
    since: Annotated[
        str | None,
        Query(
            max_length=40,
            description="Only runs started on this day (2026-11-23) or at this time, or later.",
        ),
    ] = None,
    until: Annotated[
        str | None,
        Query(max_length=40, description="Only runs started on this day or before, or before this time."),
    ] = None,
    by: Annotated[
        str | None,
        Query(max_length=300, description="Only runs that this one started, as in `started_by` of a run."),
    ] = None,
    archived: Annotated[
        Literal["false", "true", "any"], Query(description="Archived runs only (true), or the others.")
    ] = "false",
    limit: Annotated[int, Query(ge=1, le=500, description="Runs at most.")] = 50,
    cursor: Cursor = None,
    details: Annotated[
        bool, Query(description="Whole runs, as GET /runs/{run_id} has them; then at most 50.")
    ] = False,
) -> Any:
    """Newest first. With a filter a page looks at 1,000 runs at most: it may hold fewer than `limit`."""
    which = {"any": None}.get(archived, archived == "true")
    chosen = Chosen(status, tag, model, prompt, which, dataset, since, until, by)
    limit = min(limit, MAX_DETAILED) if details else limit
    while True:
        found, following = await lab.list_runs(name=name, chosen=chosen, limit=limit, cursor=cursor)
        items = [await _listed(lab, run, details) for run in found]
        fit = _fitting(items)
        if fit == len(items):
            return {"items": items, "next_cursor": following}
        limit = fit


async def _listed(lab: StoreLab, run: RunRecord, details: bool) -> dict[str, Any]:
    if details:
        return await run_object(lab, run)
    return run_brief(run, None if run.summary else await lab.progress(run.run_id))


def _fitting(items: Sequence[dict[str, Any]]) -> int:
    """How many of these fit into an answer, one at least."""
    size, sizes = 0, [len(orjson.dumps(item, default=str)) for item in items]
    for place, one in enumerate(sizes):
        size += one
        if place and size > ITEMS_BYTES:
            return place
    return len(items)


@router.patch(
    "/{run_id}",
    summary="Edit a run: its tags, title and description, and whether lists have it",
    response_model=RunWithWebhook,
    responses={412: {"description": "The run is no longer what If-Match says.", **AS_PROBLEM}},
)
async def edit_run(
    lab: TheLab,
    who: Labeller,
    run_id: RunId,
    body: RunEditIn,
    response: Response,
    if_match: Annotated[
        str | None,
        Header(
            max_length=1_000,
            description="The ETag of the run that is to be changed: if it has another, nothing is done.",
        ),
    ] = None,
) -> Any:
    """Replace its tags, title or description; take it out of the lists, or back. What is left out stays."""
    was = None
    if if_match is not None:
        was = await lab.get_run(run_id)
        now = etag_of(await _with_webhook(lab, was, who))
        if not matches(if_match, now):
            raise RunChangedError(run_id)
    # Somebody may change it between here and there: the ledger looks again as it writes.
    run = await lab.edit_run(run_id, **body.model_dump(), was=was)
    found = await _with_webhook(lab, run, who)
    response.headers["ETag"] = etag_of(found)
    return found


@router.delete(
    "/{run_id}",
    status_code=204,
    summary="Delete a run",
    response_class=Response,
    responses={202: {"description": "It is gone; in the cloud, what it had is removed from now on."}},
)
async def delete_run(lab: TheLab, who: Engineer, run_id: RunId) -> Response:
    """For good, with its answers, scores and results, and older versions of its files. Assets stay. One that
    goes on is refused: cancel it first."""
    gone = await lab.delete_run(run_id, by=who.id)
    return Response(status_code=204 if gone else 202)


@router.get("/{run_id}", summary="Look at a run", response_model=RunWithWebhook)
async def get_run(
    request: Request, lab: TheLab, who: LinkViewer, run_id: RunId, response: Response, wait: Wait = 0
) -> Any:
    """Its status, counts from the ledger, cost so far, metrics of its finished shards,
    and exact configuration. With `wait` the answer comes once the run has ended, or the time is over."""
    run = await waited(lambda: lab.get_run(run_id), lambda found: found.status in FINAL, wait)
    if run.status not in FINAL:
        moves(request)
    found = await _with_webhook(lab, run, who)
    response.headers["ETag"] = etag_of(found)
    return found


async def _with_webhook(lab: StoreLab, run: RunRecord, who: Principal) -> dict[str, Any]:
    # Whoever only looks could post to a chat with it.
    whole = who.may("run") and not who.only
    return {**await run_object(lab, run), "webhook": await shown(lab.ledger, run.run_id, whole=whole)}


@router.get("/{run_id}/progress", summary="How far a run is", response_model=ProgressOut)
async def get_progress(request: Request, lab: TheLab, who: LinkViewer, run_id: RunId, wait: Wait = 0) -> Any:
    """Return only the status and the counts, for polling."""
    run = await waited(lambda: lab.get_run(run_id), lambda found: found.status in FINAL, wait)
    progress = await lab.progress(run_id)
    if run.status not in FINAL:
        moves(request)
    counts = ("total", "done", "failed", *NAMES)
    batched = asdict(progress.batched) if progress.batched else None
    found = {"status": run.status, **{name: getattr(progress, name) for name in counts}}
    return found | {"waiting": progress.waiting, "batched": batched}


@router.get("/{run_id}/cases", summary="Page through a run's cases", response_model=CasePage)
async def list_cases(
    request: Request,
    lab: TheLab,
    who: LinkViewer,
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
    if (await lab.get_run(run_id)).status not in FINAL:
        moves(request)
    rows, last = await lab.cases(run_id, after=after, limit=limit)
    written, cut = await fitted(rows, lambda place: case_url(run_id, rows[place]))
    if len(written) < len(rows):
        last = CaseKey(rows[len(written) - 1]["case"], rows[len(written) - 1]["trial"])
    cursor = f"{last.case}.{last.trial}" if last else None
    return Response(
        orjson.dumps({"items": [*fragments(written)], "cut": cut, "next_cursor": cursor}),
        media_type="application/json",
    )


def case_url(run_id: str, row: Mapping[str, Any]) -> str:
    """Where a case is, whole."""
    return f"/api/v1/runs/{quote(run_id, safe='')}/cases/{row['case']}.{row['trial']}"


@router.get(
    "/{run_id}/cases/{key}",
    summary="Read a case whole",
    response_model=dict[str, Any],
    responses={
        303: {"description": "Where the row is, if it is long: in the cloud it comes from the bucket."}
    },
)
async def get_case(
    request: Request,
    lab: TheLab,
    who: LinkViewer,
    run_id: RunId,
    key: Annotated[
        str, Path(pattern=r"^\d{1,12}(\.\d{1,4})?$", description="Row number and trial, as in 12.0, or 12.")
    ],
) -> Response:
    """One row of the results table, however long its texts are."""
    case, trial = map(int, (key if "." in key else f"{key}.0").split("."))
    rows, _ = await lab.cases(run_id, after=CaseKey(case, trial - 1), limit=1)
    if not rows or (rows[0]["case"], rows[0]["trial"]) != (case, trial):
        raise HTTPException(404, f"Run {run_id} has no answered case {key}.")
    data = await asyncio.to_thread(orjson.dumps, rows[0], default=str)
    return await whole(
        request, lab.blobs, data, file_name=f"{case}.{trial}.json", media_type="application/json"
    )


@router.post("/{run_id}/cancel", summary="Cancel a run", response_model=RunOut)
async def cancel_run(lab: TheLab, who: Engineer, run_id: RunId) -> Any:
    """Stop it. What was answered is kept, and resume goes on with it. A run that has ended stays as it is."""
    return await run_object(lab, await lab.cancel(run_id))


@router.post("/{run_id}/resume", status_code=202, summary="Resume a run", response_model=RunOut)
async def resume_run(
    lab: TheLab, who: Engineer, run_id: RunId, response: Response, body: ResumeIn | None = None
) -> Any:
    """Do what is missing, and nothing twice. A run that is complete is left as it is."""
    asked = body or ResumeIn()
    run = await lab.start_resume(
        run_id, failed=asked.failed, errors=asked.errors, max_cost_usd=asked.max_cost_usd
    )
    response.headers["Location"] = f"/api/v1/runs/{run_id}"
    return await run_object(lab, run)


@router.post("/{run_id}/score", status_code=202, summary="Score a run again", response_model=RunOut)
async def score_run(lab: TheLab, who: Engineer, run_id: RunId, response: Response, body: ScoreIn) -> Any:
    """Score a completed run by further or other metrics, without asking its model. What is replaced stays
    under its name and the pass that made it, as in `polite@0`."""
    items = [item.model_dump(exclude_unset=True) for item in body.evaluation]
    run = await lab.start_score(run_id, items, only=body.only, max_cost_usd=body.max_cost_usd)
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
    request: Request,
    lab: TheLab,
    who: LinkViewer,
    run_id: RunId,
    format: Annotated[ExportFormat, Query(description="The file's format.")] = "csv",
    delimiter: Annotated[
        str,
        Query(min_length=1, max_length=1, description="What stands between the values of a CSV file."),
    ] = ",",
    bom: Annotated[
        bool, Query(description="Whether a CSV file begins with a byte order mark, as Excel likes it.")
    ] = False,
) -> Response:
    """One row a case; of a run that is not complete, what there is."""
    style = CsvStyle(delimiter, bom)
    style.check(format)
    run, file_name = await lab.get_run(run_id), export_name(run_id, format)
    blobs = lab.blobs
    labelled = await lab.labels.kept.has_any(run_id)
    if isinstance(blobs, DirectBlobs) and format == "parquet" and run.results and not labelled:
        return RedirectResponse(await blobs.presign_get(run.results, max_age_s=EXPORT_S), status_code=303)
    if isinstance(blobs, DirectBlobs) and run.cases > MOST_WAITED_CASES:
        raise RunError(
            f"Run {run_id} has {run.cases:,} cases; a request writes {MOST_WAITED_CASES:,} at most. POST "
            f"/api/v1/runs/{run_id}/exports writes more of them in a job."
        )
    streams(request)
    folder = ScratchFolder("export")
    path = folder.path / f"results.{format}"
    try:
        await lab.export(run_id, path, format, style)
        if isinstance(blobs, DirectBlobs):
            key = f"exports/{secrets.token_hex(16)}/{file_name}"
            await blobs.put_file(key, path)
            await asyncio.to_thread(folder.close)
            return RedirectResponse(await blobs.presign_get(key, max_age_s=EXPORT_S), status_code=303)
    except BaseException:
        await asyncio.to_thread(folder.close)
        raise
    return _Scratched(folder, path, media_type=_TYPES[format], filename=file_name)


class _Scratched(FileResponse):
    """A file in a folder that goes with the answer, whatever becomes of it: a background task is left out
    where a Range cannot be served, and where the client has gone."""

    def __init__(self, folder: ScratchFolder, path: FilePath, **more: Any) -> None:
        super().__init__(path, **more)
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._folder.close()

"""A job: how far it is, what came of it. Its address is all that its page needs: it survives a reload, and
may be sent to somebody else."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path as InPath
from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from promptlab.errors import PromptLabError
from promptlab.results.formats import CsvStyle
from promptlab_studio.access import Viewer, lab_of, needs
from promptlab_studio.api.jobs import TheJobs, check_own
from promptlab_studio.forms import fields_of
from promptlab_studio.pages.rendering import go_to, render, router
from promptlab_studio.views.format import dataset_url, run_url
from promptlab_studio.views.jobs import job_view

JobId = Annotated[str, InPath(pattern="^[0-9a-f]{32}$")]
routes = router()


@routes.get("/jobs/{job_id}", dependencies=[needs("look")])
async def job_page(request: Request, jobs: TheJobs, job_id: JobId) -> HTMLResponse:
    """One job; its line asks again every two seconds until it is over."""
    job = await jobs.get(job_id)
    context: dict[str, Any] = {"job": job, "view": job_view(job)}
    if job.kind == "export":
        context["up"] = (run_url(str(job.args["run_id"])), f"Run {job.args['run_id']}")
    elif job.status == "done":
        context["up"] = (
            dataset_url(str(job.result["name"]), int(job.result["version"])),
            str(job.result["name"]),
        )
    else:
        context["up"] = ("/datasets", "Datasets")
    return render(request, "job.html", context)


@routes.post("/jobs/{job_id}/cancel", dependencies=[needs("look")])
async def cancel(who: Viewer, jobs: TheJobs, job_id: JobId) -> Response:
    """Have it stopped."""
    check_own(who, await jobs.get(job_id))
    await jobs.cancel(job_id)
    return RedirectResponse(f"/jobs/{job_id}", status_code=303)


@routes.post("/jobs/{job_id}/retry", dependencies=[needs("look")])
async def retry(who: Viewer, jobs: TheJobs, job_id: JobId) -> Response:
    """Do it again."""
    check_own(who, await jobs.get(job_id))
    try:
        await jobs.retry(job_id)
    except PromptLabError as error:
        return go_to(f"/jobs/{job_id}", str(error), "problem")
    return RedirectResponse(f"/jobs/{job_id}", status_code=303)


@routes.post("/runs/{run_id}/exports", dependencies=[needs("look")])
async def export(request: Request, run_id: str, who: Viewer, jobs: TheJobs) -> Response:
    """Begin to write all results of a run into a file, and show how far that is."""
    fields = await fields_of(request)
    format_ = fields.get("format", ["csv"])[0]
    try:
        style = CsvStyle(fields.get("delimiter", [","])[0], bool(fields.get("bom")))
        style.check(format_)  # type: ignore[arg-type]
        run = await lab_of(request).get_run(run_id)
        asked = {"run_id": run.run_id, "format": format_, "delimiter": style.delimiter, "bom": style.bom}
        job = await jobs.submit("export", asked, by=who.id)
    except PromptLabError as error:
        return go_to(run_url(run_id), str(error), "problem")
    return RedirectResponse(f"/jobs/{job.id}", status_code=303)

"""A job, as its page shows it."""

from __future__ import annotations

from dataclasses import dataclass

from promptlab.jobs import OVER, Job
from promptlab_studio.views.format import size

TITLES = {"ingest": "A dataset from a file", "export": "A file of results"}


@dataclass(frozen=True, slots=True)
class JobView:
    """What the page says of a job."""

    title: str
    css: str
    """The class of its status."""
    status: str
    line: str
    """What it does, and how far it is."""
    active: bool
    problem: str
    again: bool
    """Whether it can be tried again."""
    file: str
    """Where its file is; empty where there is none."""


def job_view(job: Job) -> JobView:
    """A job in words."""
    css = {"done": "completed", "queued": "pending"}.get(job.status, job.status)
    signs = {"done": "✓", "failed": "✕", "cancelled": "■", "interrupted": "!", "queued": "○", "running": "●"}
    return JobView(
        title=TITLES[job.kind],
        css=css,
        status=f"{signs[job.status]} {job.status}",
        line=_line(job),
        active=job.status not in OVER,
        problem=_problem(job),
        again=job.status in ("failed", "interrupted", "cancelled"),
        file=f"/api/v1/jobs/{job.id}/file" if job.status == "done" and "key" in job.result else "",
    )


def _line(job: Job) -> str:
    if job.status == "queued":
        return "Waiting for a worker. A hosted lab's first takes some seconds to start."
    if job.kind == "ingest":
        rows = int(job.result.get("rows", job.done))
        amount = f"{rows:,} rows" if rows else ""
    else:
        written = int(job.result.get("size_bytes", job.done))
        amount = size(written) if written else ""
    if job.status in ("failed", "cancelled", "interrupted"):
        return f"after {amount}" if amount else ""
    if job.status == "done":
        return amount
    stage = job.stage[:1].upper() + job.stage[1:]
    return f"{stage}: {amount}" if amount else f"{stage}."


def _problem(job: Job) -> str:
    if job.status == "interrupted":
        return "Its worker ended before it was done. Nothing is lost: try it again."
    return str(job.error["detail"]) if job.status == "failed" and job.error else ""

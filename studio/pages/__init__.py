"""What people see."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates

from promptlab.lab import Lab
from promptlab.report import brief, number

router = APIRouter(include_in_schema=False)
_templates = Jinja2Templates(directory=Path(__file__).parent.parent / "templates")
_templates.env.filters["number"] = number
PAGE = 100


def _lab(request: Request) -> Lab:
    lab: Lab = request.app.state.lab
    return lab


@router.get("/", response_class=HTMLResponse)
async def runs(request: Request) -> HTMLResponse:
    """Every run, newest first."""
    lab = _lab(request)
    found, _ = await lab.list_runs(limit=PAGE)
    listed = [brief(run, None if run.summary else await lab.progress(run.run_id)) | {"name": run.name, "created_at": run.created_at} for run in found]
    return _templates.TemplateResponse(request, "runs.html", {"runs": listed})


@router.get("/runs/{run_id}", response_class=HTMLResponse)
async def run(request: Request, run_id: str, page: int = 0) -> HTMLResponse:
    """One run's cases."""
    lab = _lab(request)
    record = await lab.get_run(run_id)
    rows = [row async for row in lab.results(run_id)]
    shown = list(islice(rows, page * PAGE, (page + 1) * PAGE))
    facts = brief(record, None if record.summary else await lab.progress(run_id))
    return _templates.TemplateResponse(request, "run.html", {"run": facts, "name": record.name, "rows": shown, "columns": list(shown[0]) if shown else []})

"""The API, /api/v1: one router a subject."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from promptlab_studio.access import Viewer
from promptlab_studio.api import (
    access,
    assets,
    catalog,
    code,
    compare,
    deletions,
    doctor,
    gates,
    health,
    jobs,
    labels,
    planning,
    preview,
    projects,
    run_labels,
    runs,
    slices,
    sql,
    sweeps,
    uploads,
)
from promptlab_studio.api.answers import Problem

PREFIX = "/api/v1"

_ERRORS: dict[int | str, dict[str, Any]] = {"default": {"model": Problem, "description": "What went wrong."}}

router = APIRouter(prefix=PREFIX, responses=_ERRORS)
router.include_router(health.router)
for subject in (
    runs,
    run_labels,
    labels,
    gates,
    sql,
    compare,
    slices,
    sweeps,
    jobs,
    uploads,
    assets,
    code,
    catalog,
    planning,
    preview,
    projects,
    access,
    deletions,
    doctor,
):
    router.include_router(subject.router)


@router.get("/openapi.json", include_in_schema=False)
async def document(request: Request, who: Viewer) -> Response:
    """This API as an OpenAPI document."""
    return JSONResponse(request.app.openapi())

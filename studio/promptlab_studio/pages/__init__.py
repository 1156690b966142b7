"""The pages that people see: one file a group of pages."""

from __future__ import annotations

from fastapi import APIRouter

from promptlab_studio.pages import (
    access,
    assets_edit,
    case,
    code,
    compare,
    corrections,
    datasets,
    doctor,
    export,
    go,
    jobs,
    labels,
    new_run,
    playground,
    projects,
    prompts,
    run,
    runs,
    runs_edit,
    score_again,
    slices,
    sweeps,
    texts,
)

router = APIRouter()
for _routes in (
    runs.routes,
    runs_edit.routes,
    run.routes,
    export.routes,
    go.routes,
    jobs.routes,
    case.routes,
    labels.routes,
    corrections.routes,
    score_again.routes,
    texts.routes,
    prompts.routes,
    datasets.routes,
    code.routes,
    assets_edit.routes,
    new_run.routes,
    playground.routes,
    compare.routes,
    slices.routes,
    sweeps.routes,
    access.routes,
    projects.routes,
    doctor.routes,
):
    router.include_router(_routes)

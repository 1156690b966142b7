"""A run, and others against it, by the values of a dataset column."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse

from promptlab.errors import RunError
from promptlab.queries.compared import MAX_COMPARED, margins_of
from promptlab_studio.access import lab_of, needs
from promptlab_studio.pages.reading import find_run
from promptlab_studio.pages.rendering import render, router
from promptlab_studio.views.compare import LETTERS
from promptlab_studio.views.slices import slice_tables
from promptlab_studio.views.state import Query

routes = router()


@routes.get("/slices", dependencies=[needs("look")])
async def slices_page(request: Request) -> HTMLResponse:
    """The runs that the address names, by its column; without one, by the first that the experiment names."""
    lab, query = lab_of(request), Query.of("/slices", request.query_params)
    ids = query.all("run")
    if not 1 <= len(ids) <= MAX_COMPARED:
        raise RunError(f"Slices are of 1 to {MAX_COMPARED} runs, not of {len(ids)}: ?run=…&column=….")
    runs = [await find_run(lab, text) for text in ids]
    content = [source for source, _, _ in (await lab.results_of(runs[0])).columns.inputs]
    column = query.get("column") or next(iter([*runs[0].experiment.get("slices", ()), *content]), "")
    margin = query.get("margin").strip()
    found = await lab.slices(
        [run.run_id for run in runs],
        column,
        margins_of([part.strip() for part in margin.split(",") if part.strip()]),
    )
    return render(
        request,
        "slices.html",
        {
            "query": query,
            "runs": list(zip(LETTERS, runs, strict=False)),
            "column": column,
            "columns": content,
            "margin": margin,
            "found": found,
            "tables": slice_tables(found),
            "compare_url": f"/compare?{urlencode([('run', run.run_id) for run in runs])}",
        },
    )

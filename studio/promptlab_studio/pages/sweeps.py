"""A sweep: its runs in their order, and score against cost."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from promptlab.errors import ConfigError, RunNotFoundError
from promptlab.experiments.matrix import said
from promptlab.queries.compared import MAX_COMPARED, margins_of
from promptlab_studio.access import Engineer, lab_of, needs
from promptlab_studio.forms import fields_of
from promptlab_studio.pages.rendering import go_to, render, router
from promptlab_studio.views.charts import cost_chart
from promptlab_studio.views.format import sweep_url
from promptlab_studio.views.run_bounds import dollars_of
from promptlab_studio.views.state import Query
from promptlab_studio.views.sweeps import axes_of, rows_of

LISTED = 100

routes = router()


@routes.get("/sweeps", dependencies=[needs("look")])
async def sweeps_page(request: Request) -> HTMLResponse:
    """The sweeps, newest first."""
    return render(request, "sweeps.html", {"sweeps": await lab_of(request).list_sweeps(limit=LISTED)})


@routes.get("/sweeps/{sweep_id}", dependencies=[needs("look")])
async def sweep_page(request: Request, sweep_id: str) -> HTMLResponse:
    """One sweep, ranked by the metric of the address."""
    lab, query = lab_of(request), Query.of(sweep_url(sweep_id), request.query_params)
    margin = query.get("margin").strip()
    margins = margins_of([part.strip() for part in margin.split(",") if part.strip()])
    found = await lab.rank(sweep_id, metric=query.get("metric") or None, margins=margins)
    runs = []
    for run_id in found.sweep.run_ids:
        with suppress(RunNotFoundError):
            runs.append(await lab.get_run(run_id))
    best = [cell.run_id for cell in found.cells if cell.place][:MAX_COMPARED]
    names = {cell.run_id: said(cell.choices) for cell in found.cells}
    running = any(cell.status == "running" for cell in found.cells)
    context = {
        "query": query,
        "found": found,
        "axes": axes_of(found),
        "rows": rows_of(found),
        "chart": cost_chart(runs, found.metric, names) if found.metric else None,
        "margin": margin,
        "running": running,
        "done": sum(cell.status == "completed" for cell in found.cells),
        "goes_on": not running and any(cell.status != "completed" for cell in found.cells),
        "compare_url": f"/compare?{urlencode([('run', one) for one in best])}" if len(best) > 1 else None,
    }
    return render(request, "sweep.html", context)


@routes.post("/sweeps/{sweep_id}/continue")
async def continue_sweep(request: Request, who: Engineer, sweep_id: str) -> Response:
    """Begin what has not begun, and do what is missing of what was stopped."""
    fields = await fields_of(request)
    try:
        usd = dollars_of(fields.get("max_cost_usd", [""])[-1])
        await lab_of(request).continue_sweep(sweep_id, max_cost_usd=usd, by=who.starts_as)
    except ConfigError as error:
        return go_to(sweep_url(sweep_id), str(error), "problem")
    return go_to(sweep_url(sweep_id), "It goes on.")


@routes.post("/sweeps/{sweep_id}/cancel", dependencies=[needs("run")])
async def cancel_sweep(request: Request, sweep_id: str) -> Response:
    """Stop it: no run begins any more, and those under way are cancelled."""
    await lab_of(request).cancel_sweep(sweep_id)
    return go_to(sweep_url(sweep_id), "Cancelled. What was answered is kept.")

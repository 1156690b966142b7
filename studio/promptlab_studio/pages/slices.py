"""A run, and others against it, by the values of a dataset column."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse

from promptlab.domain.experiment import Experiment
from promptlab.errors import RunError, UnknownNameError
from promptlab.queries.compared import MAX_COMPARED, margins_of
from promptlab.store_lab import StoreLab
from promptlab_studio.access import lab_of, needs
from promptlab_studio.pages.reading import find_run, prompt_or_why
from promptlab_studio.pages.rendering import render, router
from promptlab_studio.views.cases import expected_columns
from promptlab_studio.views.compare import LETTERS
from promptlab_studio.views.prompts import names_in
from promptlab_studio.views.slices import addresses_of, largest_losses, slice_rows, what_is_shown
from promptlab_studio.views.state import Query

CHIPS = 10
"""Columns that are one click away; all are in the list."""

routes = router()


async def _likely(lab: StoreLab, experiment: Experiment, content: Sequence[str]) -> list[str]:
    """The columns that a run is likely to be sliced by, those that the experiment names first: not what the
    prompt asks, nor what is expected, nor the rows' ids."""
    prompt, _ = await prompt_or_why(lab, experiment)
    others = {"id", *expected_columns(experiment), *((await names_in(prompt))[0] if prompt else ())}
    named = [name for name in experiment.slices if name in content]
    return list(dict.fromkeys([*named, *(name for name in content if name not in others)]))


@routes.get("/slices", dependencies=[needs("look")])
async def slices_page(request: Request) -> HTMLResponse:
    """The runs that the address names, by its column; without one, by the first that the experiment names."""
    lab, query = lab_of(request), Query.of("/slices", request.query_params)
    ids = query.all("run")
    if not 1 <= len(ids) <= MAX_COMPARED:
        raise RunError(f"Slices are of 1 to {MAX_COMPARED} runs, not of {len(ids)}: ?run=…&column=….")
    runs = [await find_run(lab, text) for text in ids]
    experiment = Experiment.model_validate(runs[0].experiment)
    columns = (await lab.results_of(runs[0])).columns
    content = [source for source, _, _ in columns.inputs]
    likely = await _likely(lab, experiment, content)
    column = query.get("column") or next(iter([*likely, *content]), "")
    margin = query.get("margin").strip()
    found = await lab.slices(
        [run.run_id for run in runs],
        column,
        margins_of([part.strip() for part in margin.split(",") if part.strip()]),
    )
    specs = {m.name: m for m in experiment.evaluation}
    metrics = list(dict.fromkeys(name for one in found.slices for name in one.means))
    headline = experiment.headline.name if experiment.headline else None
    metric = query.get("metric") or (headline if headline in metrics else next(iter(metrics), ""))
    if metrics and metric not in metrics:
        raise UnknownNameError("metric with a mean", metric, metrics)
    addresses = addresses_of([run.run_id for run in runs], columns, column)
    return render(
        request,
        "slices.html",
        {
            "query": query,
            "runs": list(zip(LETTERS, runs, strict=False)),
            "column": column,
            "columns": content,
            "likely": likely[:CHIPS],
            "metric": metric,
            "said": what_is_shown(found, metric),
            "metrics": metrics,
            "margin": margin,
            "found": found,
            "rows": slice_rows(found, metric, specs.get(metric), addresses),
            "losses": largest_losses(found, specs, addresses),
            "compare_url": f"/compare?{urlencode([('run', run.run_id) for run in runs])}",
        },
    )

"""The list of runs, its charts, and how far running ones are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse

from promptlab.domain.outline import RunOutline
from promptlab.domain.results import FINAL, RunRecord
from promptlab.errors import RunNotFoundError
from promptlab.store_lab import StoreLab
from promptlab_studio.access import lab_of, needs
from promptlab_studio.pages.reading import READ, read_outlines
from promptlab_studio.pages.rendering import render, router
from promptlab_studio.saved_views import saved_views
from promptlab_studio.shared import moves
from promptlab_studio.views.actions import run_actions
from promptlab_studio.views.charts import cost_chart, time_chart
from promptlab_studio.views.runs_table import (
    acted_on,
    matching,
    metric_columns,
    metrics_to_sort_by,
    offered_columns,
    rows_of,
    run_conditions,
    run_filters,
    shown_columns,
)
from promptlab_studio.views.state import Query

SIZE = 50
MOST_BASELINES = 3
"""Labelled runs that are lines in the chart over time, the newest."""
MOST_COMPARED = 4
STATUSES = (
    "running",
    "completed",
    "decided",
    "failed",
    "stopped",
    "budget_reached",
    "interrupted",
    "cancelled",
)
IN_FORM = ("q", "page", "run", "experiment", "model", "prompt", "dataset", "by", "since", "until", "col")
"""Parameters that have fields of their own, or start anew when one is changed."""
LIVE = 50
"""Running runs that one page asks about."""

routes = router()


@routes.get("/", dependencies=[needs("look")])
async def runs_page(request: Request) -> HTMLResponse:
    """Every run: filtered, sorted, in pages; picked ones can be compared."""
    lab, query = lab_of(request), Query.of("/", request.query_params)
    archived = query.get("archived") == "1"
    outlines, more = await read_outlines(lab, archived=archived, metrics=metrics_to_sort_by(query))
    outlined = {outline.run.run_id: outline for outline in outlines}
    runs = [outline.run for outline in outlines]
    found = matching(runs, query)
    offset = min((query.page() - 1) * SIZE, max(0, (len(found) - 1) // SIZE * SIZE))
    shown = await lab.whole([outlined[run.run_id] for run in found[offset : offset + SIZE]])
    offered = offered_columns([outlined[run.run_id] for run in found])
    columns = shown_columns(offered, query)
    metrics = [column.text for column in columns if column.key.startswith("m:")]
    progress = {run.run_id: await lab.progress(run.run_id) for run in shown if not run.summary}
    meant = acted_on(runs, query)
    context: dict[str, Any] = {
        "query": query,
        "archived": archived,
        "total": len(runs),
        "found": len(found),
        "offset": offset,
        "size": SIZE,
        "more": more,
        "most": READ,
        "columns": columns,
        "in_form": IN_FORM,
        "choices": [(c.key, c.text, c in columns or c.key in query.all("col"), c.usual) for c in offered],
        "filters": run_filters(runs),
        "conditions": run_conditions(query),
        "views": await saved_views(lab.ledger),
        "address": urlencode([pair for pair in query.pairs if pair[0] not in ("page", "run")]),
        "rows": rows_of(shown, progress, metrics),
        "statuses": [(s, n) for s in STATUSES if (n := sum(r.status == s for r in runs))],
        "experiments": sorted({r.name for r in runs}, key=str.casefold),
        "tags": Counter(t for r in runs for t in r.tags).most_common(8),
        "active": [r.run_id for r in shown if r.status not in FINAL],
        "picked": query.all("run"),
        "actions": run_actions(meant, query),
        "most_compared": MOST_COMPARED,
        "charts": await _charts(lab, query, [outlined[run.run_id] for run in found])
        if query.get("charts")
        else None,
    }
    if context["active"]:
        moves(request)
    return render(request, "runs.html", context)


async def _charts(lab: StoreLab, query: Query, outlines: Sequence[RunOutline]) -> dict[str, Any]:
    """Draw the charts of one experiment: the chosen one, else that of the newest run with a metric; others
    are measured on other rows."""
    newest = next(
        (
            one.run.name
            for one in sorted(outlines, key=lambda o: o.run.created_at, reverse=True)
            if one.metrics
        ),
        "",
    )
    name = query.get("experiment") or newest
    chosen = [outline for outline in outlines if outline.run.name == name]
    runs = await lab.whole(chosen)
    labelled = set((await lab.run_labels(name)).values()) if name else ()
    baselines = []
    for run_id in sorted(labelled, reverse=True)[:MOST_BASELINES]:
        with suppress(RunNotFoundError):  # deleted between the two questions
            baselines.append(await lab.get_run(run_id))
    metrics = metric_columns(chosen)
    metric = query.get("metric") if query.get("metric") in metrics else next(iter(metrics), "")
    return {
        "experiment": name,
        "metric": metric,
        "metrics": metrics,
        "time": time_chart(runs, metric, baselines),
        "against": _against(runs, baselines),
        "cost": cost_chart(runs, metric),
    }


def _against(runs: Sequence[RunRecord], baselines: Sequence[RunRecord]) -> list[tuple[str, str]]:
    """Offer comparisons of the newest finished run with each baseline: their names and addresses."""
    newest = max((run for run in runs if run.results), key=lambda run: run.created_at, default=None)
    return [
        (
            f"Compare the newest run with {' '.join(f'@{label}' for label in base.labels)}",
            f"/compare?run={quote(base.run_id)}&run={quote(newest.run_id)}",
        )
        for base in baselines
        if newest is not None and base.run_id != newest.run_id
    ]


@routes.get("/live", dependencies=[needs("look")])
async def live(request: Request) -> HTMLResponse:
    """How far some runs are: their status cells, swapped where they stand. Says
    `ended` once one of them has."""
    lab, query = lab_of(request), Query.of("/live", request.query_params)
    ids, active, cells, ended = query.all("run")[:LIVE], [], [], False
    for run_id in ids:
        try:
            run = await lab.get_run(run_id)
        except RunNotFoundError:
            continue
        ended = ended or run.status in FINAL
        active += [run_id] if run.status not in FINAL else []
        cells.append((run, await lab.progress(run_id)))
    if active and not ended:
        moves(request)
    return render(
        request,
        "live.html",
        {"cells": cells, "active": active, "oob": True},
        headers={"HX-Trigger": "ended"} if ended else None,
    )

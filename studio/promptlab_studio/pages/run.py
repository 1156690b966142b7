"""One run: its header while it moves, its cases, its summary, its configuration; cancel and resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.domain.experiment import Experiment
from promptlab.domain.results import FINAL, Progress, RunRecord
from promptlab.domain.summary import Summary
from promptlab.domain.templates import placeholders
from promptlab.errors import PromptLabError
from promptlab.lab import Lab
from promptlab.queries.query_engine import ResultsQuery
from promptlab_studio.auth import lab_of
from promptlab_studio.pages.cases import SIZE, cases_view
from promptlab_studio.pages.format import run_url
from promptlab_studio.pages.metric_cards import ends, histogram_links, metric_cards
from promptlab_studio.pages.remembered import histogram_of
from promptlab_studio.pages.runs_table import seconds_between
from promptlab_studio.pages.state import Query
from promptlab_studio.pages.view import go_to, is_part, queries_of, render, router, target_of

TABS = (("", "Cases"), ("summary", "Summary"), ("configuration", "Configuration"))
IN_STRIP = 6
"""Metrics above the cases; all are on the summary."""

routes = router()


@dataclass(frozen=True, slots=True)
class Head:
    """Where a run stands."""

    progress: Progress
    active: bool
    """It still changes: it runs, or it was stopped and records what was in flight."""
    rate: float | None
    """Cases a second, over the time that the run was worked on."""
    left_s: float | None


async def head_of(lab: Lab, run: RunRecord) -> Head:
    """Where a run stands now."""
    if run.summary:
        s = run.summary
        counts = {name: s[name] for name in ("failed", "prompt_tokens", "completion_tokens", "cost_usd")}
        return Head(Progress(total=run.cases, done=s["cases"], **counts), False, None, None)
    progress = await lab.progress(run.run_id)
    active = run.status not in FINAL or (run.status == "cancelled" and await lab.is_worked_on(run))
    worked = run.wall_s + (
        seconds_between(run.started_at, lab.clock.now()) if active and run.started_at else 0.0
    )
    rate = progress.done / worked if worked > 0 and progress.done else None
    return Head(progress, active, rate, (progress.total - progress.done) / rate if active and rate else None)


@routes.get("/runs/{run_id}")
async def run_page(request: Request, run_id: str) -> HTMLResponse:
    """A run: its cases, or the tab that the address names."""
    lab, query = lab_of(request), Query.of(run_url(run_id), request.query_params)
    run = await lab.get_run(run_id)
    experiment = Experiment.model_validate(run.experiment)
    results = await queries_of(request).results(run)
    tab = query.get("tab")
    # Who filters or turns the page sees the head and its histograms already.
    framed = target_of(request) != "cases"
    context = (
        await _frame(lab, run, query, results) if framed else {"run": run, "head": await head_of(lab, run)}
    )
    context |= {"query": query, "tab": tab, "tabs": TABS, "size": SIZE}
    if tab == "summary":
        context |= await _summary(lab, run, query, results)
    elif tab == "configuration":
        context |= {"experiment": experiment, "prompt": await prompt_of(lab, experiment)}
    else:
        prompt = await prompt_of(lab, experiment)
        context["view"] = await cases_view(results, experiment, placeholders(prompt) if prompt else (), query)
    return render(request, "run.html", context)


async def _frame(lab: Lab, run: RunRecord, query: Query, results: ResultsQuery) -> dict[str, Any]:
    """What the head of the page and the strip of metrics show."""
    summary = await lab.summary(run.run_id)
    spec = run.experiment
    cards = await metric_cards(query, summary, results, IN_STRIP)
    return {
        "run": run,
        "spec": spec,
        "head": await head_of(lab, run),
        "summary": summary,
        "cards": cards,
        "more_metrics": max(0, len(summary.metrics) - IN_STRIP),
    }


async def _summary(lab: Lab, run: RunRecord, query: Query, results: ResultsQuery) -> dict[str, Any]:
    summary = await lab.summary(run.run_id)
    latency = (
        None if results.live or not summary.latency_ms.n else await histogram_of(results, "latency_ms", 40)
    )
    quantiles = [
        (name, summary.latency_ms.quantile(q))
        for name, q in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99))
    ]
    return {
        "spent": _spent(lab, run, summary),
        "all_cards": await metric_cards(query, summary, results, len(summary.metrics)),
        "latency": histogram_links(query, latency) if latency else [],
        "latency_ends": ends(latency) if latency else ("", ""),
        "quantiles": [*quantiles, ("slowest", summary.latency_ms.max)],
        "errors": [
            (kind, n, query.url(tab=None, error=kind))
            for kind, n in sorted(summary.errors.items(), key=lambda item: -item[1])
        ],
    }


@dataclass(frozen=True, slots=True)
class Spent:
    """One part of what a run used."""

    what: str
    read: int | None
    written: int | None
    usd: float | None
    note: str = ""


def _spent(lab: Lab, run: RunRecord, summary: Summary) -> list[Spent]:
    """What a run used: the model, its metrics' own models, the machines."""
    metrics = summary.metrics_usage
    found = [Spent("model", summary.prompt_tokens, summary.completion_tokens, summary.cost_usd)]
    found.append(Spent("metrics' models", metrics.prompt_tokens, metrics.completion_tokens, metrics.cost_usd))
    if lab.stack is None:
        return [*found, Spent("infrastructure", None, None, 0.0, "this machine")]
    from promptlab.cloud.estimate import spent_usd  # a fifth of a second, and only the cloud needs it

    return [
        *found,
        Spent(
            "infrastructure",
            None,
            None,
            spent_usd(run, summary, lab.stack) if run.status in FINAL else None,
            "AWS, reckoned",
        ),
    ]


async def prompt_of(lab: Lab, experiment: Experiment) -> PromptTemplate | None:
    """The run's prompt; None for an agent's run."""
    ref = experiment.prompt_template
    if ref is None:
        return None
    asset = await lab.assets.get(ref.name, version=ref.version, kind="prompt_template")
    assert isinstance(asset, PromptTemplate)
    return asset


async def dataset_of(lab: Lab, experiment: Experiment) -> Dataset:
    """The run's dataset."""
    asset = await lab.assets.get(experiment.dataset.name, version=experiment.dataset.version, kind="dataset")
    assert isinstance(asset, Dataset)
    return asset


@routes.get("/runs/{run_id}/live")
async def run_live(request: Request, run_id: str, done: int = -1) -> Response:
    """The head of a run that moves; once it has ended, the whole page is asked for again."""
    if not is_part(request):
        return RedirectResponse(run_url(run_id), 303)  # somebody opened the address itself
    lab, query = lab_of(request), Query.of(run_url(run_id), request.query_params)
    run = await lab.get_run(run_id)
    results = await queries_of(request).results(run)
    context = await _frame(lab, run, Query(query.path, ()), results)
    head: Head = context["head"]
    said = (
        {"HX-Refresh": "true"}
        if not head.active
        else {"HX-Trigger": "moved"}
        if head.progress.done != done
        else {}
    )
    return render(request, "run.html", {**context, "query": query, "tab": query.get("tab")}, headers=said)


@routes.post("/runs/{run_id}/cancel")
async def cancel(request: Request, run_id: str) -> Response:
    """Stop a run. What was answered stays."""
    run = await lab_of(request).cancel(run_id)
    said = (
        "Cancelled. What was answered is kept; Resume goes on from there."
        if run.status == "cancelled"
        else f"This run had ended already: it is {run.status}."
    )
    return go_to(run_url(run_id), said)


@routes.post("/runs/{run_id}/resume")
async def resume(request: Request, run_id: str, failed: bool = False) -> Response:
    """Do what a run is missing and, with `failed`, its failed cases again."""
    try:
        await lab_of(request).start_resume(run_id, failed=failed)
    except PromptLabError as error:
        return go_to(run_url(run_id), str(error), "problem")
    return go_to(run_url(run_id), "The run goes on.")

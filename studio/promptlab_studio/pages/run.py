"""One run: its header while it moves, its cases, its summary, its configuration; cancel and resume."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Query as QueryParam
from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import QueryParams

from promptlab.assets.json_rows import clip
from promptlab.domain.decided import early_words
from promptlab.domain.experiment import Experiment
from promptlab.domain.results import DONE, FINAL, RunRecord
from promptlab.domain.summary import Summary
from promptlab.errors import (
    AssetNotFoundError,
    BlobNotFoundError,
    ConfigError,
    PromptLabError,
    RunError,
    RunNotFoundError,
    SqlError,
)
from promptlab.queries.filters import NO_FILTER
from promptlab.queries.query_engine import CaseRows, Facets, Filter, ResultsQuery
from promptlab.queries.sql import examples
from promptlab.results.index import SEARCH_CHARS
from promptlab.store_lab import StoreLab
from promptlab_studio.access import Engineer, lab_of, needs
from promptlab_studio.forms import fields_of
from promptlab_studio.pages.labels import labels_tab, meant
from promptlab_studio.pages.reading import prompt_or_why
from promptlab_studio.pages.remembered import facets_of, histogram_of
from promptlab_studio.pages.rendering import go_to, render, router, target_of
from promptlab_studio.shared import moves
from promptlab_studio.views.actions import (
    Again,
    actions_on,
    again_of,
    baselines_of,
    export_links,
    retry_of,
    whole_exports,
)
from promptlab_studio.views.cases import SIZE, TEXT_CHARS, cases_view
from promptlab_studio.views.format import run_url
from promptlab_studio.views.gate import gate_view
from promptlab_studio.views.labels import corrected_rows
from promptlab_studio.views.metric_cards import (
    BINS,
    MetricCard,
    ends,
    histogram_links,
    metric_cards,
    with_histogram,
)
from promptlab_studio.views.prompts import names_in
from promptlab_studio.views.run import Head, Spent, head_of, spent_on
from promptlab_studio.views.run_bounds import dollars_of
from promptlab_studio.views.run_metrics import run_metric_cards
from promptlab_studio.views.sql import named, sql_rows
from promptlab_studio.views.state import FILTER_PARAMS, Query, conditions
from promptlab_studio.views.status import all_failed

TABS = (
    ("", "Cases"),
    ("summary", "Summary"),
    ("labels", "Labels"),
    ("sql", "SQL"),
    ("configuration", "Configuration"),
)
ERROR_CHARS = 2_000
SAID_CHARS = 300
"""How much of a filter the description of the selected rows has."""
SQL_IN_ADDRESS = 4_000
"""Characters of a question on the page: it is in the address, so that it can be sent on."""
IN_STRIP = 6
"""Metrics above the cases; all are on the summary."""

routes = router()


async def _head(lab: StoreLab, run: RunRecord) -> Head:
    if run.summary:
        return head_of(run, None, active=False, now="")
    active = run.status not in FINAL or (run.status == "cancelled" and await lab.is_worked_on(run))
    return head_of(run, await lab.progress(run.run_id), active=active, now=lab.clock.now())


@routes.get("/runs/{run_id}", dependencies=[needs("look", link=True)])
async def run_page(request: Request, run_id: str) -> Response:
    """A run: its cases, or the tab that the address names."""
    lab, query = lab_of(request), Query.of(run_url(run_id), request.query_params)
    run = await lab.get_run(run_id)
    if run.unreadable:
        return render(request, "run_unreadable.html", {"run": run})
    experiment = Experiment.model_validate(run.experiment)
    try:
        results = await lab.results_of(run)
    except (AssetNotFoundError, BlobNotFoundError) as error:
        return await _without_cases(request, lab, run, experiment, str(error))
    tab = query.get("tab")
    if query.get("where_column") or query.get("where_value"):
        return RedirectResponse(_by_column(query), 303)
    # Who filters or turns the page sees the head already; the links of its cards keep the filter.
    context: dict[str, Any] = (
        await _frame(lab, run, query, results)
        if target_of(request) != "cases"
        else {
            "run": run,
            "head": await _head(lab, run),
            **await _strip(query, await lab.summary(run.run_id), results),
        }
    )
    if context["head"].active:
        moves(request)
    context |= {"query": query, "tab": tab, "tabs": TABS, "size": SIZE, "searched": SEARCH_CHARS}
    if tab == "summary":
        context |= await _summary(lab, run, query, results, context["head"])
    elif tab == "labels":
        context |= await labels_tab(lab, run, query)
    elif tab == "sql":
        context |= await _sql(lab, run, query, results)
    elif tab == "configuration":
        prompt, missing = await prompt_or_why(lab, experiment)
        context |= {"experiment": experiment, "prompt": prompt, "missing": missing}
    else:
        prompt, context["missing"] = await prompt_or_why(lab, experiment)
        page, facets = await _cases(lab, results, query, context["head"])
        names, _ = await names_in(prompt) if prompt else ((), "")
        errors = await _errors(results)
        context |= {
            "retry": retry_of(run_id, query, errors, _unscored(run)) if run.status in DONE else None,
            "exports": export_links(run_id, query),
            "again": await _again(lab, results, query, page, experiment),
        }
        context["view"] = cases_view(run, results.columns, experiment, names, query, page, facets)
    return render(request, "run.html", context)


def _by_column(query: Query) -> str:
    """The address with the column and the value of the form as a filter."""
    column, value = query.get("where_column"), query.get("where_value")
    known = [text for text in query.all("where") if not text.startswith(f"{column}~")]
    where = [*known, f"{column}~{value}"] if column else known
    return query.url(where=where, where_column=None, where_value=None)


async def _without_cases(
    request: Request, lab: StoreLab, run: RunRecord, experiment: Experiment, missing: str
) -> HTMLResponse:
    """Show a run whose dataset or files are gone: what it measured, and what ran."""
    query, summary = Query(run_url(run.run_id), ()), await lab.summary(run.run_id)
    facts = {m.name for m in experiment.evaluation if m.is_fact}
    prompt, further = await prompt_or_why(lab, experiment)
    context = {
        "run": run,
        "missing": [said for said in (missing, further) if said],
        "head": await _head(lab, run),
        "summary": summary,
        "all_cards": metric_cards(query, summary, {}, {}, len(summary.metrics), facts=facts, filters=False),
        "experiment": experiment,
        "prompt": prompt,
    }
    return render(request, "run_without_cases.html", context)


async def _again(
    lab: StoreLab, results: ResultsQuery, query: Query, page: CaseRows, experiment: Experiment
) -> Again | None:
    """A new run over the rows that the filter leaves; None without a filter, or where it leaves none."""
    if results.live or not query.only(*FILTER_PARAMS) or not page.total_matching:
        return None
    rows = page.total_matching
    if experiment.trials > 1:
        rows = len(await results.row_numbers(await meant(lab, results.run.run_id, query)))
    return again_of(results.run.run_id, query, rows, experiment.trials)


def _unscored(run: RunRecord) -> int:
    """Failed scores of a run that has ended."""
    metrics = Summary.from_json(run.summary).metrics.values() if run.summary else ()
    return sum(metric.failed for metric in metrics)


async def _errors(results: ResultsQuery) -> Mapping[str, int]:
    """The run's failed cases by type, whatever the filter; none while it has no results."""
    return {} if results.live else (await facets_of(results, NO_FILTER)).errors


async def _cases(lab: StoreLab, results: ResultsQuery, query: Query, head: Head) -> tuple[CaseRows, Facets]:
    """The cases that an address asks for, and their counts; those of all cases of a run without results are
    its head's, which are there already."""
    filter_ = await meant(lab, results.run.run_id, query)
    asked = results.page(
        filter_,
        sort=query.get("sort", "case"),
        descending=query.get("desc") == "1",
        offset=(query.page() - 1) * SIZE,
        limit=SIZE,
        text_chars=TEXT_CHARS,
    )
    if results.live and filter_ == NO_FILTER:
        done, failed = head.progress.done, head.progress.failed
        return await asked, Facets(head.progress.total, done - failed, failed, {}, {})
    return await asyncio.gather(asked, facets_of(results, filter_))


async def _cards(query: Query, summary: Summary, results: ResultsQuery, most: int) -> list[MetricCard]:
    names = dict(results.columns.scores)
    wanted = [] if results.live else with_histogram(summary, most)
    found = await asyncio.gather(*(histogram_of(results, f"score.{names[m]}", BINS) for m in wanted))
    shown = dict(zip(wanted, found, strict=True))
    facts = {m.name for m in Experiment.model_validate(results.run.experiment).evaluation if m.is_fact}
    return metric_cards(query, summary, names, shown, most, facts=facts)


async def _frame(lab: StoreLab, run: RunRecord, query: Query, results: ResultsQuery) -> dict[str, Any]:
    """Return what the head of the page and the strip of metrics show."""
    summary = await lab.summary(run.run_id)
    spec = run.experiment
    head = await _head(lab, run)
    of_metrics = summary.metrics_usage.cost_usd or 0.0
    return {
        "run": run,
        "baselines": baselines_of(run.run_id, await lab.run_labels(run.name)),
        "gate": gate_view(await lab.gate_of(run.run_id)) if run.summary else None,
        "spec": spec,
        "said": await _first_error(results) if all_failed(run) else "",
        "missing": "",
        "head": head,
        "whole_exports": whole_exports(run),
        "actions": actions_on(run),
        "summary": summary,
        "early": early_words(run, summary),
        "budget_spent": (head.progress.cost_usd or 0.0) + of_metrics,
        **await _strip(query, summary, results),
    }


async def _strip(query: Query, summary: Summary, results: ResultsQuery) -> dict[str, Any]:
    """The cards above the cases, and how many metrics have none there."""
    return {
        "cards": await _cards(query, summary, results, IN_STRIP),
        "more_metrics": max(0, len(summary.metrics) - IN_STRIP),
    }


async def _first_error(results: ResultsQuery) -> str:
    """Return the error of the first failed case: where all failed, it is the one to fix."""
    page = await results.page(Filter(status="failed"), limit=1, text_chars=ERROR_CHARS)
    return next((str(row["error_message"]) for row in page.rows if row.get("error_message")), "")


async def _summary(
    lab: StoreLab, run: RunRecord, query: Query, results: ResultsQuery, head: Head
) -> dict[str, Any]:
    summary = await lab.summary(run.run_id)
    latency = (
        None if results.live or not summary.latency_ms.n else await histogram_of(results, "latency_ms", 40)
    )
    quantiles = [
        (name, summary.latency_ms.quantile(q))
        for name, q in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99))
    ]
    return {
        "corrected": corrected_rows(await lab.labels.corrected(run.run_id)),
        "spent": spent_on(head.progress, summary, _infrastructure(lab, run, summary)),
        "all_cards": await _cards(query, summary, results, len(summary.metrics)),
        "run_cards": run_metric_cards(summary.run_metrics),
        "latency": histogram_links(query, latency) if latency else [],
        "latency_ends": ends(latency) if latency else ("", ""),
        "uncounted": max(0, head.progress.done - summary.cases),
        "untyped": max(0, head.progress.failed - sum(summary.errors.values())),
        "quantiles": [*quantiles, ("slowest", summary.latency_ms.max)],
        "errors": [
            (kind, n, query.url(tab=None, error=kind))
            for kind, n in sorted(summary.errors.items(), key=lambda item: -item[1])
        ],
    }


async def _sql(lab: StoreLab, run: RunRecord, query: Query, results: ResultsQuery) -> dict[str, Any]:
    """Answer the question in the address, if there is one."""
    asked, answer, failed = query.get("sql"), None, ""
    goes_on = results.live and not run.is_over
    if asked and not goes_on:
        try:
            answer = sql_rows(run.run_id, await lab.sql(run.run_id, asked))
        except SqlError as error:
            failed = str(error)
    return {
        "asked": asked,
        "answer": answer,
        "failed": failed,
        "results_live": results.live,
        "goes_on": goes_on,
        "columns": named(results.columns.types),
        "examples": examples(results.columns.types),
        "most_chars": SQL_IN_ADDRESS,
    }


def _infrastructure(lab: StoreLab, run: RunRecord, summary: Summary) -> Spent:
    if lab.stack is None:
        return Spent("infrastructure", None, None, 0.0, "this machine")
    from promptlab.cloud.estimate import spent_usd  # a fifth of a second, and only the cloud needs it

    usd = spent_usd(run, summary, lab.stack) if run.status in FINAL else None
    return Spent("infrastructure", None, None, usd, "AWS, estimated")


@routes.get("/runs/{run_id}/live", dependencies=[needs("look", link=True)])
async def run_live(request: Request, run_id: str, done: int = -1, tab: str = "") -> Response:
    """The head of a run that moves; once it has ended, the page asks for all of itself again, in place: a
    browser that loads it anew forgets the focus and what was opened."""
    if target_of(request) != "live":
        return RedirectResponse(run_url(run_id), 303)  # somebody opened the address itself
    # The cards keep the filter of the page that asks: it may have changed since the address was made.
    shown = request.headers.get("HX-Current-URL", "").partition("#")[0].partition("?")[2]
    lab, query = lab_of(request), Query.of(run_url(run_id), QueryParams(shown))
    run = await lab.get_run(run_id)
    results = await lab.results_of(run)
    context = await _frame(lab, run, query, results)
    head: Head = context["head"]
    if head.active:
        moves(request)
    said = (
        {"HX-Trigger": "ended"}
        if not head.active
        else {"HX-Trigger": "moved"}
        if head.progress.done != done
        else {}
    )
    return render(request, "run.html", {**context, "query": query, "tab": tab}, headers=said)


@routes.post("/runs/{run_id}/labels", dependencies=[needs("run")])
async def label(request: Request, run_id: str) -> Response:
    """Point a label of the run's experiment at the run, or take it away."""
    fields, lab = await fields_of(request), lab_of(request)
    name = fields.get("label", [""])[0].strip().removeprefix("@")
    try:
        if "remove" in fields:
            run = await lab.unlabel_run(run_id, name)
            return go_to(run_url(run_id), f"{run.name} has no label {name} any more.")
        run = await lab.label_run(run_id, name)
    except (ConfigError, RunError) as error:
        if isinstance(error, RunNotFoundError):
            raise
        return go_to(run_url(run_id), str(error), "problem")
    return go_to(run_url(run_id), f"{run.name}@{name} is this run.")


@routes.post("/runs/{run_id}/describe", dependencies=[needs("label")])
async def describe(request: Request, run_id: str) -> Response:
    """Give the run a title and a description; empty ones are taken away."""
    fields = await fields_of(request)
    title, description = (fields.get(name, [""])[0] for name in ("title", "description"))
    try:
        run = await lab_of(request).edit_run(run_id, title=title, description=description)
    except ConfigError as error:
        return go_to(run_url(run_id), str(error), "problem")
    return go_to(run_url(run_id), f"It is called {run.called}.")


@routes.post("/runs/{run_id}/cancel", dependencies=[needs("run")])
async def cancel(request: Request, run_id: str) -> Response:
    """Stop a run. What was answered stays."""
    run = await lab_of(request).cancel(run_id)
    said = (
        "Cancelled. What was answered is kept; Resume goes on from there."
        if run.status == "cancelled"
        else f"This run had ended already: it is {run.status}."
    )
    return go_to(run_url(run_id), said)


@routes.post("/runs/{run_id}/resume", dependencies=[needs("run")])
async def resume(
    request: Request, run_id: str, failed: bool = False, error: Annotated[Sequence[str], QueryParam()] = ()
) -> Response:
    """Do what a run is missing and, with `failed`, its failed cases again: all, or those
    of some types of error."""
    try:
        usd = dollars_of((await fields_of(request)).get("max_cost_usd", [""])[0])
        await lab_of(request).start_resume(run_id, failed=failed, errors=error, max_cost_usd=usd)
    except PromptLabError as error:
        return go_to(run_url(run_id), str(error), "problem")
    return go_to(run_url(run_id), "The run goes on.")


@routes.post("/runs/{run_id}/again")
async def again(request: Request, run_id: str, rows: int, who: Engineer) -> Response:
    """Start a new run of the experiment over the rows of the cases that match the address's filter.

    `rows` is the number that was said: nothing is started over another.
    """
    lab, query = lab_of(request), Query.of(run_url(run_id), request.query_params)
    results = await lab.results_of(await lab.get_run(run_id))
    found = await results.row_numbers(await meant(lab, run_id, query))
    if len(found) != rows:
        said = f"The run has changed: the filter leaves {len(found):,} rows now, and {rows:,} were said."
        return go_to(query.url(rows=None), said, "problem")
    try:
        run = await lab.start_selected(run_id, found, said=_in_words(run_id, query), by=who.starts_as)
    except PromptLabError as error:
        return go_to(query.url(rows=None), str(error), "problem")
    return go_to(run_url(run.run_id), f"Started: {run.cases:,} cases.")


def _in_words(run_id: str, query: Query) -> str:
    """A run's cases that match a filter, for the description of a dataset."""
    words = [f"“{text}”"] if (text := query.get("q")) else []
    words += [query.get("status")] if query.get("status") else []
    words += [condition.text for condition in conditions(query)]
    return clip(f"cases of run {run_id} with {', '.join(words)}", SAID_CHARS)

"""Two to four runs beside each other: what differs in their configuration, in their
metrics and case by case."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from promptlab.domain.experiment import Experiment
from promptlab.domain.results import CaseKey, RunRecord
from promptlab.errors import ConfigError
from promptlab.queries.compared import Compared, margins_of
from promptlab.queries.query_engine import ComparePage
from promptlab.store_lab import StoreLab
from promptlab_studio.access import lab_of, needs
from promptlab_studio.pages.case import case_key
from promptlab_studio.pages.reading import find_run, prompt_or_why
from promptlab_studio.pages.rendering import render, router
from promptlab_studio.pages.talks import media_of_row, talks_of
from promptlab_studio.views.cases import TEXT, WIDTHS, least_width
from promptlab_studio.views.chat import Talk
from promptlab_studio.views.compare import (
    ANSWER_CHANGES,
    ANY,
    CHANGES,
    COUNTED,
    LETTERS,
    MARK,
    TEXT_CHARS,
    chosen_metric,
    configuration,
    counted_on,
    metric_rows,
    pair_of,
    run_verdicts,
)
from promptlab_studio.views.compare_case import OpenedCase, opened_case
from promptlab_studio.views.prompts import as_text, names_in
from promptlab_studio.views.room import Room
from promptlab_studio.views.run_metrics import compared_rows
from promptlab_studio.views.state import FILTER_PARAMS, Condition, Query, conditions, filter_of, whole
from promptlab_studio.views.text import MOST_LINES, DiffLine, text_diff

SIZE = 25
KEPT_PARAMS = ("run", "change", "margin", "sort", "desc", *(name for name in FILTER_PARAMS if name != "q"))
"""What the form of filters carries along: all of the address but its own fields, the page and the case."""

routes = router()


@routes.get("/compare", dependencies=[needs("look", link=True)])
async def compare_page(request: Request) -> HTMLResponse:
    """The comparison that the address names: the first run is the base."""
    lab, query = lab_of(request), Query.of("/compare", request.query_params)
    ids = query.all("run")
    if not 2 <= len(ids) <= len(LETTERS):
        return render(request, "compare_none.html", {"count": len(ids)}, status=200 if not ids else 400)
    runs = [await find_run(lab, text) for text in ids]
    ids = [run.run_id for run in runs]
    experiments = [Experiment.model_validate(r.experiment) for r in runs]
    metric = chosen_metric(query, experiments)
    chosen, at = _chosen(query, metric), _case_of(query)
    page = await lab.compare(
        ids,
        chosen,
        sort=query.get("sort", "case"),
        descending=query.get("desc") == "1",
        offset=(query.page() - 1) * SIZE,
        limit=SIZE,
        text_chars=TEXT_CHARS,
        at=at,
    )
    if at is not None and page.opened is None:
        raise HTTPException(404, f"Not every run has a case {query.get('case')}.")
    facts, counted = {m.metric for m in page.metrics if m.fact}, counted_on(page.rows)
    bounds = {m.name: m.bounds for m in experiments[0].evaluation}
    context: dict[str, Any] = {
        "query": query,
        "opened": await _opened(lab, query, runs, experiments, page, metric, facts) if page.opened else None,
        "talks": await _talks(lab, runs, page),
        "media": media_of_row(runs[0], page.opened.found.rows[0]) if page.opened else {},
        "runs": [
            (
                LETTERS[n],
                run,
                query.url(case=None, run=[run.run_id, *(i for i in ids if i != run.run_id)], other=None),
            )
            for n, run in enumerate(runs)
        ],
        "baselines": [] if runs[0].labels else await _baselines(lab, query, ids, runs[-1].name),
        "configuration": configuration(experiments),
        "prompts": [] if request.headers.get("HX-Request") else await _prompts(request, experiments),
        "metric_rows": metric_rows(query, page, len(runs) - 1, metric or "", bounds),
        "verdicts": run_verdicts(page, len(runs) - 1, metric, bounds),
        "mark": MARK,
        "conditions": _conditions(query),
        "none_of": dict.fromkeys(FILTER_PARAMS[1:]),
        "change_word": {"different": "changed", "same": "the same"}.get(chosen.change, chosen.change)
        if chosen.change != "all"
        else "",
        "kept": query.only(*KEPT_PARAMS),
        "run_metric_rows": compared_rows(page, len(runs) - 1),
        "metric": metric,
        "margin": query.get("margin").strip(),
        "slices_url": f"/slices?{urlencode([('run', run_id) for run_id in ids])}",
        "any": ANY,
        "changes": [
            (key, text, page.counts[key]) for key, text in (CHANGES if page.metrics else ANSWER_CHANGES)
        ],
        "metrics": list(dict.fromkeys(m.metric for m in page.metrics)),
        "page": page,
        "pairs": [pair_of(query, row, facts, metric, counted) for row in page.rows],
        "counted": [COUNTED[name] for name in counted],
        "least": least_width(WIDTHS["c-id"] + (1 + len(runs)) * WIDTHS[TEXT] + len(counted) * WIDTHS["c-s"]),
        "size": SIZE,
        "letters": LETTERS,
    }
    return render(request, "compare.html", context)


def _chosen(query: Query, metric: str | None) -> Compared:
    change, other = query.get("change", "all"), query.get("other")
    if change not in dict(CHANGES):
        raise ConfigError(f"change={change!r} is not known: {', '.join(key for key, _ in CHANGES)}.")
    if other and whole(other) is None:
        raise ConfigError(f"other={other!r} is not the place of a run: 0 is the second run.")
    margins = [part for text in query.get("margin").split(",") if (part := text.strip())]
    return Compared(
        change,
        metric,
        whole(other),
        query.get("q").strip(),
        margins_of(margins),
        _number(query, "least"),
        _number(query, "most"),
        replace(filter_of(query), text=""),
    )


def _number(query: Query, name: str) -> float | None:
    text = query.get(name).strip().replace("−", "-")
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise ConfigError(f"{name}={text!r} is not a difference: write a number, as in -0.25.")
    return value


def _case_of(query: Query) -> CaseKey | None:
    """The case that the address opens."""
    return CaseKey(*case_key(query.get("case"))) if query.get("case") else None


def _conditions(query: Query) -> list[Condition]:
    """Return what narrows the pairs beside the change and the text, in words."""
    found = [
        Condition(f"Δ {sign} {query.get(name)}", query.url(**{name: None}))
        for name, sign in (("least", "≥"), ("most", "≤"))
        if query.get(name)
    ]
    status = query.get("status")
    if status:
        found.append(Condition("answered in A" if status == "ok" else "failed in A", query.url(status=None)))
    return [*found, *conditions(query)]


async def _talks(lab: StoreLab, runs: Sequence[RunRecord], page: ComparePage) -> Sequence[Talk]:
    """Return what was said in the opened case, of every run; none where answers are no more than their
    texts."""
    if page.opened is None:
        return ()
    keys = [CaseKey(row["case"], row["trial"]) for row in page.opened.found.rows]
    return await talks_of(lab, list(zip(LETTERS, runs, keys, strict=False)), Room())


async def _opened(
    lab: StoreLab,
    query: Query,
    runs: Sequence[RunRecord],
    experiments: Sequence[Experiment],
    page: ComparePage,
    metric: str | None,
    facts: Collection[str],
) -> OpenedCase:
    """The case that the address opens, in every run."""
    assert page.opened is not None
    columns = [(await lab.results_of(run)).columns for run in runs]
    asked = dict[str, None]()
    for experiment in experiments:
        prompt, _ = await prompt_or_why(lab, experiment)
        asked |= dict.fromkeys((await names_in(prompt))[0] if prompt else ())
    return opened_case(
        query,
        runs,
        experiments,
        columns,
        page.opened,
        chosen=metric,
        facts=facts,
        asked=asked,
        size=SIZE,
    )


async def _baselines(lab: StoreLab, query: Query, ids: Sequence[str], name: str) -> list[tuple[str, str]]:
    """Offer the labelled runs of the experiment as the base, in place of the one that is."""
    labels = sorted((await lab.run_labels(name)).items())
    return [(label, query.url(run=[base, *ids[1:]], other=None)) for label, base in labels if base not in ids]


async def _prompts(request: Request, experiments: Sequence[Experiment]) -> list[tuple[str, list[DiffLine]]]:
    """The prompt of the base against each other one that differs."""
    texts = [
        (p and as_text(p)) or "" for p in [(await prompt_or_why(lab_of(request), e))[0] for e in experiments]
    ]
    return [
        (f"{LETTERS[0]} → {LETTERS[n]}", text_diff(texts[0], text, MOST_LINES // 3))
        for n, text in enumerate(texts)
        if n and text != texts[0]
    ]

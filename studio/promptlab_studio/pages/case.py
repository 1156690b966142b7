"""One case of a run, with the next and the previous one under the same filter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup
from starlette.exceptions import HTTPException

from promptlab.assets.rows import rows_page
from promptlab.domain.experiment import Experiment
from promptlab.domain.results import CaseKey, RunRecord
from promptlab.domain.templates import compile_template
from promptlab.errors import BlobNotFoundError, TemplateError
from promptlab.lab import Lab
from promptlab.queries.query_engine import Neighbours, ResultsQuery
from promptlab_studio.auth import lab_of
from promptlab_studio.pages.cases import SIZE, beside_verdict, case_path, expected_columns, measured_metrics
from promptlab_studio.pages.format import run_url
from promptlab_studio.pages.run import dataset_of, prompt_of
from promptlab_studio.pages.state import VIEW_PARAMS, Query, filter_of
from promptlab_studio.pages.text import FORMS, form_of, shown
from promptlab_studio.pages.view import queries_of, render, router

_SHOWN = (
    "pending",
    "response",
    "error_type",
    "error_message",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "latency_ms",
    "cost_usd",
    "attempts",
)
_KEY = re.compile(r"(\d{1,15})(?:\.(\d{1,6}))?")

routes = router()


@dataclass(frozen=True, slots=True)
class ScoreView:
    """One metric of a case."""

    name: str
    value: float | None
    passed: bool | None
    label: str | None
    reason: str | None
    error: str | None
    shown: str
    """The value, where it says more than pass or fail."""


@routes.get("/runs/{run_id}/cases/{key}")
async def case_page(request: Request, run_id: str, key: str) -> HTMLResponse:
    """A case: what was asked, what was answered, how it was scored."""
    lab = lab_of(request)
    found = _KEY.fullmatch(key)
    if not found:
        raise HTTPException(
            404, f"{key!r} is not a case: a row number, from 0, and after a dot the trial, as in 12 or 12.1."
        )
    case, trial = int(found[1]), int(found[2] or 0)
    query = Query.of(case_path(run_id, case, trial), request.query_params)
    run = await lab.get_run(run_id)
    results = await queries_of(request).results(run)
    row = await results.case(case, trial)
    if row is None:
        raise HTTPException(404, f"Run {run_id} has no case {key}: it has {run.cases:,} cases.")
    experiment = Experiment.model_validate(run.experiment)
    row = {**dict.fromkeys(_SHOWN), **row}
    answer = row["response"] or ""
    form, measured = form_of(answer, query.get("as")), measured_metrics(results)
    context: dict[str, Any] = {
        "run": run,
        "row": row,
        "query": query,
        "inputs": [(source, row.get(name)) for source, name, _ in results.columns.inputs],
        "expected": [
            (source, row[name])
            for source, name, _ in results.columns.inputs
            if source in expected_columns(experiment) and row.get(name) is not None
        ],
        "scores": [
            _score(metric, name, row, name in measured, experiment) for metric, name in results.columns.scores
        ],
        "messages": await _messages(lab, experiment, case),
        "answer": shown(answer, form) if answer else Markup(),
        "form": form,
        "forms": [(f, query.url(**{"as": f})) for f in FORMS],
    }
    return render(request, "case.html", context | await _around(run, results, query, CaseKey(case, trial)))


def _score(
    metric: str, name: str, row: Mapping[str, Any], measured: bool, experiment: Experiment
) -> ScoreView:
    value, passed, label, reason, error = (
        row.get(f"{part}.{name}") for part in ("score", "passed", "label", "reason", "score_error")
    )
    when = next((m.when for m in experiment.evaluation if m.name == metric), None)
    if when and row["error_type"] is None and all(v is None for v in (value, passed, label, reason, error)):
        reason = f"not applicable to this row: scored are rows where {when.described()}"
    return ScoreView(
        metric, value, passed, label, reason, error, shown=beside_verdict(value, passed, measured=measured)
    )


async def _around(run: RunRecord, results: ResultsQuery, query: Query, here: CaseKey) -> dict[str, Any]:
    """Where the case stands among those that the address's filter means."""
    rest = urlencode([*query.only(*VIEW_PARAMS)])
    kept = f"?{rest}" if rest else ""
    if results.live:
        last = run.cases - 1
        around = Neighbours(
            CaseKey(here.case - 1, 0) if here.case else None,
            CaseKey(here.case + 1, 0) if here.case < last else None,
            here.case,
            run.cases,
        )
    else:
        around = await results.neighbours(
            *here, filter_of(query), sort=query.get("sort", "case"), descending=query.get("desc") == "1"
        )

    def link(key: CaseKey | None) -> str | None:
        return case_path(run.run_id, *key) + kept if key else None

    return {
        "around": around,
        "previous": link(around.previous),
        "next": link(around.next),
        "up": _up(run, query, around.position, here),
    }


def _up(run: RunRecord, query: Query, position: int | None, here: CaseKey) -> str:
    """The page of the table that the case is on, and its row."""
    page = str((position or 0) // SIZE + 1)
    pairs = [*query.only(*VIEW_PARAMS), *([("page", page)] if page != "1" else [])]
    return run_url(run.run_id) + (f"?{urlencode(pairs)}" if pairs else "") + f"#c{here.case}-{here.trial}"


async def _messages(lab: Lab, experiment: Experiment, case: int) -> list[dict[str, str]] | str:
    """The messages as the model got them, or why they cannot be shown."""
    prompt = await prompt_of(lab, experiment)
    if prompt is None:
        return "An agent answered: it got the row itself."
    content = (await dataset_of(lab, experiment)).content
    assert content is not None
    try:
        (row,) = await rows_page(lab.blobs, content, case, 1)
        return compile_template(prompt).render(row)
    except (BlobNotFoundError, TemplateError) as error:
        return str(error)

"""One case of a run, with the next and the previous one under the same filter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup
from starlette.exceptions import HTTPException

from promptlab.domain.chat import ChatRequest, Prompt, in_words
from promptlab.domain.experiment import Experiment
from promptlab.domain.results import MAX_SAID, CaseKey, RunRecord
from promptlab.domain.templates import compile_template_async
from promptlab.errors import AssetNotFoundError, BlobNotFoundError, TemplateError
from promptlab.models.sent import body_of
from promptlab.queries.query_engine import ResultsQuery
from promptlab.store_lab import StoreLab
from promptlab_studio.access import lab_of, needs
from promptlab_studio.pages.labels import meant, people_of
from promptlab_studio.pages.reading import dataset_of, prompt_of
from promptlab_studio.pages.rendering import render, router
from promptlab_studio.views.case import judged_views, score_view, way_up
from promptlab_studio.views.case_kept import indented_json, kept_of, raw_of, request_of
from promptlab_studio.views.case_verdict import further_scores, notes_of, strip_state, trials_view
from promptlab_studio.views.cases import case_path, expected_columns, measured_metrics
from promptlab_studio.views.chat import MOST_MESSAGES, chat_view, timeline, traced
from promptlab_studio.views.format import exact
from promptlab_studio.views.prompts import names_in
from promptlab_studio.views.room import MOST_OF_ONE, Beginning, Room
from promptlab_studio.views.state import VIEW_PARAMS, Query
from promptlab_studio.views.text import FORMS, Form, alike, form_of, shown, word_diff

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
    "metadata",
    "tries",
    "messages",
    "trace",
)
_KEY = re.compile(r"(\d{1,15})(?:\.(\d{1,6}))?")

routes = router()


def case_key(key: str) -> tuple[int, int]:
    """A row's number and the trial, as an address has them.

    Raises:
        HTTPException: it is none.
    """
    found = _KEY.fullmatch(key)
    if not found:
        raise HTTPException(
            404, f"{key!r} is not a case: a row number, from 0, and after a dot the trial, as in 12 or 12.1."
        )
    return int(found[1]), int(found[2] or 0)


@routes.get("/runs/{run_id}/cases/{key}", dependencies=[needs("look", link=True)])
async def case_page(request: Request, run_id: str, key: str) -> HTMLResponse:
    """A case: what was asked, what was answered, how it was scored."""
    lab = lab_of(request)
    case, trial = case_key(key)
    query = Query.of(case_path(run_id, case, trial), request.query_params)
    run = await lab.get_run(run_id)
    results = await lab_of(request).results_of(run)
    row = await results.case(case, trial)
    if row is None:
        raise HTTPException(404, f"Run {run_id} has no case {key}: it has {run.cases:,} cases.")
    experiment = Experiment.model_validate(run.experiment)
    row = {**dict.fromkeys(_SHOWN), **row}
    room = Room()

    def begun(value: Any, of: str, most: int = MOST_OF_ONE) -> Beginning:
        """The beginning of a value, and where the whole is."""
        return room.take(exact(value), f"{case_path(run_id, case, trial)}/text?{urlencode({'of': of})}", most)

    answer = begun(row["response"], "response")
    measured = measured_metrics(run, results.columns)
    asked = await row_of(lab, experiment, case)
    values = [
        (source, name, asked.get(source) if isinstance(asked, dict) else row.get(name))
        for source, name, _ in results.columns.inputs
    ]
    expected = [
        (source, begun(value, f"input.{source}"))
        for source, _, value in values
        if source in expected_columns(experiment) and value is not None
    ]
    scores = [
        score_view(metric, name, row, name in measured, experiment) for metric, name in results.columns.scores
    ]
    diffed = next((value.text for _, value in expected if alike(value.text, answer.text)), None)
    as_diff = diffed is not None and query.get("as") in ("", "diff")
    form = form_of(answer.text, query.get("as"))
    expected_marked, answer_marked = (
        word_diff(diffed, answer.text) if as_diff and diffed is not None else (Markup(), Markup())
    )
    prompt = await prompt_for(lab, experiment, asked)
    messages = prompt if isinstance(prompt, str) else in_words(prompt)
    body = None
    if not isinstance(prompt, str) and experiment.model_code is None:
        body = await body_of(experiment.model, prompt)

    def media(part: Mapping[str, Any]) -> str | None:
        return media_url(case_path(run_id, case, trial), part)

    trace = traced(row)
    headline = experiment.headline.name if experiment.headline else None
    beside = {source for source, _ in expected} | await _in_prompt(lab, experiment, prompt)
    context: dict[str, Any] = {
        "run": run,
        "row": row,
        "query": query,
        "expected": expected,
        "scores": [*scores, *judged_views(row, results.columns)],
        "state": strip_state(row, scores, headline),
        "notes": notes_of(row),
        "further": further_scores(scores, headline),
        "diffed": diffed if as_diff else None,
        "expected_marked": expected_marked,
        "same": {source for source, value in expected if value.text == answer.text},
        "messages": [
            (message["role"], begun(message["content"], f"message.{n}")) for n, message in enumerate(messages)
        ]
        if not isinstance(messages, str)
        else messages,
        "inputs": [
            (source, None if value is None else begun(value, f"input.{source}"))
            for source, _, value in values
            if source not in beside
        ],
        "beside": [source for source, _, _ in values if source in beside],
        "begun": begun,
        "body": body is not None,
        "most_said": MAX_SAID,
        "asked_json": room.take(indented_json(body or request_of(experiment, prompt)), most=20_000),
        "raw": room.take(raw_of(row) if experiment.model.keep_raw else "", most=20_000),
        "kept": room.take(indented_json(kept_of(row)), most=20_000),
        "chat": chat_view(row["messages"] or (), "said", begun, media),
        "asked": chat_view(prompt.to_json()["messages"], "asked", begun, media)
        if isinstance(prompt, ChatRequest)
        else (),
        "tools": [tool.name for tool in prompt.tools] if isinstance(prompt, ChatRequest) else (),
        "left_out": max(0, len(row["messages"] or ()) - MOST_MESSAGES),
        "spans": timeline(trace.get("spans") or ()),
        "contexts": [
            begun(one if isinstance(one, str) else exact(one), f"context.{n}", 5_000)
            for n, one in enumerate((trace.get("contexts") or ())[:100])
        ],
        "answer": _answer(answer.text, form, answer_marked),
        "answer_begins": answer,
        "form": "diff" if as_diff else form,
        "forms": [(f, query.url(**{"as": f})) for f in (*(("diff",) if diffed is not None else ()), *FORMS)],
    }
    metric = next((name for metric, name in results.columns.scores if metric == headline), None)
    here = CaseKey(case, trial)
    context |= await _around(lab, run, results, query, here)
    context["people"] = await people_of(request, lab, run, here, query.url())
    kept = query.only(*VIEW_PARAMS)
    context["trials"] = trials_view(
        await results.trials(case, metric) if experiment.trials > 1 else (),
        trial,
        headline,
        lambda n: case_path(run_id, case, n) + (f"?{urlencode(kept)}" if kept else ""),
    )
    return render(request, "case.html", context)


def _answer(text: str, form: Form, marked: Markup) -> Markup:
    if marked:
        return Markup('<pre dir="auto">{}</pre>').format(marked)
    return shown(text, form) if text else Markup()


async def _in_prompt(lab: StoreLab, experiment: Experiment, prompt: Prompt | str) -> set[str]:
    """The columns whose values are in the messages, which the page shows."""
    if isinstance(prompt, str):
        return set()
    template = await prompt_of(lab, experiment)
    return set((await names_in(template))[0]) if template else set()


async def _around(
    lab: StoreLab, run: RunRecord, results: ResultsQuery, query: Query, here: CaseKey
) -> dict[str, Any]:
    """Find the place of a case among those that the address's filter means."""
    rest = urlencode([*query.only(*VIEW_PARAMS)])
    kept = f"?{rest}" if rest else ""
    filter_ = await meant(lab, run.run_id, query)
    around = await results.neighbours(
        *here, filter_, sort=query.get("sort", "case"), descending=query.get("desc") == "1"
    )

    def link(key: CaseKey | None) -> str | None:
        return case_path(run.run_id, *key) + kept if key else None

    return {
        "around": around,
        "previous": link(around.previous),
        "next": link(around.next),
        "up": way_up(run, query, around.position, here),
    }


async def row_of(lab: StoreLab, experiment: Experiment, case: int) -> dict[str, Any] | str:
    """The dataset's row, exactly as it was read, or why it cannot be shown."""
    try:
        dataset = await dataset_of(lab, experiment)
        (row,) = await lab.assets.rows(dataset, case, 1)
    except (AssetNotFoundError, BlobNotFoundError) as error:
        return str(error)
    return row


def media_in(value: Any) -> list[Mapping[str, Any]]:
    """Find the media in a value of a dataset's row."""
    listed = value if isinstance(value, list) else [value]
    return [
        one
        for one in listed
        if isinstance(one, dict) and one.get("type") in ("blob", "uri") and "modality" in one
    ]


def media_url(path: str, part: Mapping[str, Any]) -> str | None:
    """Where a browser gets a medium: from here, if it is in a blob; a page loads nothing from elsewhere."""
    sha256 = part.get("sha256")
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        return None
    return f"{path}/media/{sha256}"


async def messages_of(
    lab: StoreLab, experiment: Experiment, row: dict[str, Any] | str
) -> list[dict[str, str]] | str:
    """The messages as the model got them, in words, or why they cannot be shown."""
    prompt = await prompt_for(lab, experiment, row)
    return prompt if isinstance(prompt, str) else in_words(prompt)


async def prompt_for(lab: StoreLab, experiment: Experiment, row: dict[str, Any] | str) -> Prompt | str:
    """The prompt as the model got it, or why it cannot be shown."""
    if isinstance(row, str):
        return row
    try:
        prompt = await prompt_of(lab, experiment)
        return (
            "An agent answered: it got the row itself."
            if prompt is None
            else await (await compile_template_async(prompt)).render_async(row)
        )
    except (AssetNotFoundError, TemplateError) as error:
        return str(error)

"""Labels of people: on a case, in a queue, on the run's page; judges certified; cases added to a dataset."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from promptlab.domain.experiment import Experiment
from promptlab.domain.results import CaseKey, RunRecord
from promptlab.errors import ConfigError, PromptLabError, RunError, UnknownNameError
from promptlab.queries.filters import condition
from promptlab.queries.query_engine import Filter
from promptlab.store_lab import StoreLab
from promptlab_studio.access import lab_of, needs, who_of
from promptlab_studio.api.labels import name_of, rater_of
from promptlab_studio.forms import fields_of
from promptlab_studio.pages.rendering import go_to, render, router
from promptlab_studio.views.cases import case_path, expected_columns
from promptlab_studio.views.format import run_url
from promptlab_studio.views.labels import (
    MOST_LISTED,
    CasePeople,
    case_people,
    corrected_rows,
    frequent_tags,
    judge_card,
    labelled_metrics,
    said_in,
)
from promptlab_studio.views.room import Room
from promptlab_studio.views.state import FILTER_PARAMS, Query, conditions, filter_of

MOST_QUEUED = 1_000
MOST_CHECKED = 20
"""Metrics that the tab holds against labels."""
MOST_TEXT = 20_000
"""Characters of an answer that a queue shows."""

_NOT_CARRIED = ("q", "status", "people")
"""What a queue asks for itself; and whose cases change with every label."""

routes = router()


def me_of(request: Request) -> tuple[str, str]:
    """Return what the caller's labels are known by, and what the caller is called."""
    who = who_of(request)
    return (rater_of(who), name_of(who)) if who is not None else ("", "")


async def meant(lab: StoreLab, run_id: str, query: Query) -> Filter:
    """Read the filter that an address means; what it says of people's labels is those cases."""
    found, people = filter_of(query), query.get("people")
    if not people:
        return found
    said: dict[CaseKey, list[bool | None]] = {}
    for label in await lab.labels.kept.of(run_id):
        said.setdefault(label.key, []).append(label.passed)
    wanted = {"pass": True, "fail": False}.get(people)
    cases = tuple(key for key, passed in said.items() if wanted is None or _most(passed) is wanted)
    return replace(found, cases=cases)


def _most(said: Sequence[bool | None]) -> bool | None:
    passed, failed = said.count(True), said.count(False)
    return None if passed == failed else passed > failed


async def people_of(request: Request, lab: StoreLab, run: RunRecord, key: CaseKey, then: str) -> CasePeople:
    """Return what the page of a case shows of its labels."""
    labels = await lab.labels.kept.at(run.run_id, key)
    return case_people(run, key, labels, me_of(request)[0], then=then, tags=frequent_tags(labels))


@routes.post("/runs/{run_id}/cases/{key}/label", dependencies=[needs("label")])
async def label_case(request: Request, run_id: str, key: str) -> Response:
    """Keep what the caller says of a case, or take it away; then go on where the form says."""
    from promptlab_studio.pages.case import case_key

    lab, fields, case = lab_of(request), await fields_of(request), CaseKey(*case_key(key))
    then = fields.get("then", [""])[-1]
    if not then.startswith(f"{run_url(run_id)}/") or "//" in then.partition("?")[0]:
        then = case_path(run_id, *case)
    me, called = me_of(request)
    try:
        if "remove" in fields:
            metric = fields.get("metric", [""])[-1]
            await lab.labels.remove(run_id, case, rater=me, metric=metric)
            return go_to(then, "Your label is gone.")
        label = said_in(fields, case, me, called)
        await lab.labels.put(run_id, [label], rater=me, rater_name=called)
    except (ConfigError, UnknownNameError) as error:
        return go_to(then, str(error), "problem")
    said = {True: "Passed", False: "Failed", None: "Noted"}[label.passed]
    return go_to(then, f"{said}: case {label.id or case.case}.")


@routes.get("/runs/{run_id}/label", dependencies=[needs("label")])
async def queue_page(request: Request, run_id: str) -> HTMLResponse:
    """The next case of a queue: its input and answer, without any score."""
    lab, query = lab_of(request), Query.of(run_url(run_id, "/label"), request.query_params)
    run = await lab.get_run(run_id)
    me, _ = me_of(request)
    base = {"run": run, "query": query, "metrics": labelled_metrics(run), "problem": ""}
    chosen, metric = filter_of(query), query.get("metric")
    condition(chosen, (await lab.results_of(run)).columns)  # said of what no case can be like, as on its page
    # The rest of what the run's page was filtered by; two have fields of their own.
    narrowed = Query(query.path, query.only(*(name for name in FILTER_PARAMS if name not in _NOT_CARRIED)))
    new = {
        **base,
        "narrowed": narrowed,
        "conditions": conditions(narrowed),
        "seed": secrets.randbelow(10_000),
    }
    if "n" not in dict(query.pairs):
        return render(request, "labels/queue_new.html", new)
    try:
        drawn = await lab.labels.queue(
            run_id,
            n=_number(query.get("n"), "How many cases", 1, MOST_QUEUED),
            seed=_number(query.get("seed", "0"), "The seed", 0, 2**53),
            filter=chosen,
            rater=me,
            metric=metric,
            second=query.get("second") == "1",
        )
    except (ConfigError, RunError) as error:
        return render(request, "labels/queue_new.html", {**new, "problem": str(error)})
    done = sum(one.labelled for one in drawn)
    at = next((one for one in drawn if not one.labelled), None)
    context: dict[str, Any] = {**base, "done": done, "total": len(drawn), "case": None}
    if at is not None:
        key = CaseKey(at.case, at.trial)
        labels = await lab.labels.kept.at(run_id, key)
        context |= await _shown(lab, run, key)
        context["people"] = case_people(
            run,
            key,
            labels,
            me,
            then=query.url(),
            tags=frequent_tags(await lab.labels.kept.of(run_id)),
            metric=metric,
            blind=True,
            random=chosen == Filter() and query.get("second") != "1",
        )
    return render(request, "labels/queue.html", context)


async def _shown(lab: StoreLab, run: RunRecord, key: CaseKey) -> dict[str, Any]:
    results = await lab.results_of(run)
    row = await results.case(*key) or {}
    expected = expected_columns(Experiment.model_validate(run.experiment))
    room, path = Room(), case_path(run.run_id, *key)
    inputs = [
        (source, room.take(str(row.get(name)), f"{path}/text?{urlencode({'of': f'input.{source}'})}"))
        for source, name, _ in results.columns.inputs
        if row.get(name) is not None
    ]
    answer = room.take(row.get("response") or "", f"{path}/text?of=response", MOST_TEXT)
    return {
        "case": key,
        "id": row.get("id", key.case),
        "row": row,
        "inputs": inputs,
        "answer": answer,
        "expected": expected,
    }


def _number(text: str, name: str, least: int, most: int) -> int:
    found = int(text) if text.isascii() and text.isdecimal() and len(text) < 17 else -1
    if not least <= found <= most:
        raise ConfigError(f"{name} is a whole number from {least:,} to {most:,}, not {text[:40]!r}.")
    return found


async def labels_tab(lab: StoreLab, run: RunRecord, query: Query) -> dict[str, Any]:
    """Return what people say of the run, and of its judges; a queue is of the cases that the page is filtered
    to."""
    if run.results is None:
        return {"labels": [], "cards": [], "corrected": [], "labels_live": True, "labels_total": 0}
    labels = await lab.labels.kept.of(run.run_id)
    metrics = [m for m in Experiment.model_validate(run.experiment).evaluation if not m.kept]
    own = {label.metric for label in labels}
    judges = [m.name for m in metrics if (m.judge or m.name in own) and m.bounds]
    checks = []
    for name in judges[:MOST_CHECKED] if labels else ():
        checks.append(await lab.labels.check(run.run_id, name, record=False))
    asked = urlencode(query.only(*(name for name in FILTER_PARAMS if name != "people")))
    return {
        "labels_live": False,
        "queue_url": run_url(run.run_id, "/label") + (f"?{asked}" if asked else ""),
        "labels": [(case_path(run.run_id, *one.key), one) for one in labels[:MOST_LISTED]],
        "labels_total": len(labels),
        "cards": [judge_card(check) for check in checks],
        "corrected": corrected_rows(await lab.labels.corrected(run.run_id)),
    }


@routes.post("/runs/{run_id}/judge-check", dependencies=[needs("run")])
async def certify(request: Request, run_id: str) -> Response:
    """Record whether a judge is certified."""
    metric = (await fields_of(request)).get("metric", [""])[0]
    place = f"{run_url(run_id)}?tab=labels"
    try:
        check = await lab_of(request).labels.check(run_id, metric)
    except PromptLabError as error:
        return go_to(place, str(error), "problem")
    return go_to(place, f"Recorded for gates: {check.metric} is {check.why}.")


@routes.get("/drift", dependencies=[needs("look")])
async def drift_page(request: Request, metric: str = "") -> HTMLResponse:
    """Show what a judge makes of the answers that are the same in two runs."""
    ids = request.query_params.getlist("run")
    if len(ids) != 2:
        raise HTTPException(404, "A drift is of two runs: the base, and the other.")
    drift = await lab_of(request).labels.drift(ids[0], ids[1], metric)
    back = f"/compare?{urlencode([('run', one) for one in ids])}"
    return render(request, "labels/drift.html", {"drift": drift, "back": back})

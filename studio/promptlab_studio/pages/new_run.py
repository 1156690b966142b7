"""A new run: what to run, what the first rows look like, what it will cost, and start."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import orjson
from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import ValidationError
from starlette.datastructures import QueryParams

from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.domain.chat import in_words
from promptlab.domain.experiment import SPECIAL
from promptlab.domain.model_config import EXAMPLE_MODEL, ModelConfig
from promptlab.domain.prompt_warnings import prompt_warnings
from promptlab.domain.sweeps import MOST_CELLS
from promptlab.domain.templates import check_placeholders, compile_template_async
from promptlab.errors import PromptLabError, TemplateError
from promptlab.experiments.config import ExperimentConfig, explain_experiment
from promptlab.experiments.matrix import SweepConfig
from promptlab.experiments.subset import First, Sample, subset
from promptlab.store_lab import StoreLab
from promptlab_studio.access import Engineer, lab_of, needs
from promptlab_studio.forms import form_of
from promptlab_studio.pages.new_run_cost import estimated
from promptlab_studio.pages.power import power_words
from promptlab_studio.pages.reading import read_runs
from promptlab_studio.pages.rendering import go_to, render, router, target_of
from promptlab_studio.security import MAX_FORM_ADDRESS_BYTES, MAX_PARAMETERS
from promptlab_studio.views.code import contents_of
from promptlab_studio.views.conversation_form import talk_context
from promptlab_studio.views.format import run_url, sweep_url
from promptlab_studio.views.new_run_form import (
    MODEL_NUMBERS,
    MODEL_TEXTS,
    ROWS,
    code_forms,
    experiment_of,
    fields_from,
    metric_forms,
    rows_asked,
    rows_of,
    sweep_of,
)
from promptlab_studio.views.run_bounds import BOUNDS, cache_choices
from promptlab_studio.views.run_rules import JUDGED, MISSING, STOP
from promptlab_studio.views.state import Query, whole

PREVIEWED = 3
CODE = 60
"""Classes and functions of the lab's code to choose from."""
METRICS, AGENTS = ("evaluator", "function"), ("function",)
"""Kinds of what code defines that can be a metric, and an agent."""
ASSETS, VERSIONS = 40, 20
"""Assets with all of their versions to choose from, and versions of each."""
SUGGESTED = ("simulated/demo", EXAMPLE_MODEL, "anthropic/claude-sonnet-5-5", "ollama/llama3.2")

routes = router()


@routes.get("/new", dependencies=[needs("run")])
async def new_run_page(request: Request) -> Response:
    """The form; all that it holds is in the address."""
    lab, query = lab_of(request), Query.of("/new", request.query_params)
    if query.get("from"):
        return await _again(lab, query.get("from"))
    return await _form(request, lab, query)


async def _again(lab: StoreLab, run_id: str) -> Response:
    run = await lab.get_run(run_id)
    pairs, left = fields_from(run)
    url = "/new?" + urlencode(pairs)
    if len(url) > MAX_FORM_ADDRESS_BYTES or len(pairs) > MAX_PARAMETERS:
        said = "This run has more parameters than the form holds: start it again from a file or a script."
        return go_to(run_url(run_id), said, "problem")
    return go_to(url, "Left out: " + "; ".join(left) + ".", "problem") if left else RedirectResponse(url, 303)


async def _form(
    request: Request, lab: StoreLab, query: Query, problem: str = "", status: int = 200
) -> HTMLResponse:
    from promptlab.evaluators.registry import offered

    dataset, prompt, wrong = await _chosen(lab, query)
    columns = dataset.columns if dataset else ()
    metrics, unusable = offered()
    context: dict[str, Any] = {
        "query": query,
        "metrics": metrics,
        "unusable": unusable,
        "chosen": metric_forms(query, columns),
        "chosen_code": code_forms(query, columns),
        "columns": columns,
        "special": SPECIAL,
        "numbers": list(MODEL_NUMBERS),
        "defaults": {name: ModelConfig.model_fields[name].default for name in MODEL_NUMBERS},
        "texts": MODEL_TEXTS,
        "bounds": BOUNDS,
        "judged": JUDGED,
        "stop": STOP,
        "missing_choices": MISSING,
        "row_choices": ROWS,
        **talk_context(query),
        "caches": cache_choices(query.get("cache")),
        "suggested_judge": EXAMPLE_MODEL,
        "most_cells": MOST_CELLS,
        "problem": problem,
        "wrong": wrong,
        **await _outlook(lab, query, prompt, dataset),
    }
    if target_of(request) != "outlook":  # what is offered stays on the page while somebody chooses
        choices = (
            references(lab, "prompt_template", query.get("prompt")),
            references(lab, "dataset", query.get("dataset")),
            known_models(lab),
            _code(lab, query.all("code")),
            _code(lab, [query.get("agent")] if query.get("agent") else [], AGENTS),
        )
        names = ("prompts", "datasets", "models", "code", "agents")
        context |= zip(names, await asyncio.gather(*choices), strict=True)
    return render(request, "new_run.html", context, status=status)


async def _outlook(
    lab: StoreLab, query: Query, prompt: PromptTemplate | None, dataset: Dataset | None
) -> dict[str, Any]:
    """Return what the form's right side shows: the first rows, the expected cost, whether all is there."""
    if query.get("agent") and dataset:
        calls = rows_asked(query, len(dataset)) * (whole(query.get("trials")) or 1)
        return {
            "preview": {"problem": "", "warnings": (), "rows": await _given_rows(lab, dataset)},
            "estimate": None,
            "power": await power_words(lab, query, "", dataset),
            "agent_calls": calls,
            "ready": True,
        }
    if not prompt or not dataset:
        return {"preview": None, "estimate": None, "power": (), "agent_calls": 0, "ready": False}
    return {
        "agent_calls": 0,
        "power": await power_words(lab, query, prompt.name, dataset),
        "preview": await _preview(lab, query, prompt, dataset),
        "estimate": await estimated(lab, query, prompt, dataset),
        "ready": bool(query.get("model")),
    }


async def _given_rows(lab: StoreLab, dataset: Dataset) -> list[list[dict[str, str]]]:
    """The first rows as an agent gets them, in the form of messages."""
    rows = await lab.assets.rows(dataset, 0, PREVIEWED)
    texts = [orjson.dumps(row, default=str, option=orjson.OPT_INDENT_2).decode() for row in rows]
    return [[{"role": "row", "content": text}] for text in texts]


async def references(lab: StoreLab, kind: Any, chosen: str) -> list[tuple[str, str]]:
    """List what can be chosen, and how it is called: `name@version` of every version, newest first, with its
    labels; of more than ASSETS, the latest."""
    latest = await lab.assets.latest(kind)
    others = await asyncio.gather(*(lab.assets.versions(asset.name, kind=kind) for asset in latest[:ASSETS]))
    versions = [version for listed in others for version in listed[::-1][:VERSIONS]] + list(latest[ASSETS:])
    found = [
        (f"{v.name}@{v.version}", f"{v.name}@{v.version}" + (f" ({', '.join(v.labels)})" if v.labels else ""))
        for v in versions
    ]
    return found if not chosen or chosen in dict(found) else [(chosen, chosen), *found]


async def _code(
    lab: StoreLab, chosen: Sequence[str], kinds_of: Sequence[str] = METRICS
) -> list[tuple[str, str]]:
    """Return what can be a metric, or an agent, of the code that the lab keeps, of the latest versions: what
    names it, and what it is; and what is chosen already."""
    found: list[tuple[str, str]] = []
    if lab.code_refusal is None:
        for asset in await lab.assets.latest("code"):
            where, contents = f"{asset.name}@{asset.version}", contents_of(asset)
            kinds = [e for e in contents.entries if e.kind in kinds_of]
            # Helpers are functions, too: where there are evaluators, these are meant.
            kinds = [e for e in kinds if e.kind == "evaluator"] or kinds
            found += [(f"{where}/{e.module}:{e.name}", e.name) for e in kinds]
            found += [(where, asset.name)] if contents.pickled_bytes else []
    known = dict(found[:CODE])
    return [(text, known.get(text, text)) for text in dict.fromkeys((*known, *chosen))]


async def known_models(lab: StoreLab) -> list[str]:
    runs = await read_runs(lab)
    return list(
        dict.fromkeys(
            [
                *(r.experiment["model"]["name"] for r in runs[:200] if not r.experiment.get("agent")),
                *SUGGESTED,
            ]
        )
    )[:20]


async def _chosen(lab: StoreLab, query: Query) -> tuple[Dataset | None, PromptTemplate | None, str]:
    """The chosen assets, and what is wrong with the choice."""
    found: dict[str, Any] = {}
    wrong = ""
    for name, kind in (("dataset", "dataset"), ("prompt", "prompt_template")):
        if not query.get(name):
            continue
        try:
            async with lab.assets.draft(query.get(name), kind) as draft:  # type: ignore[arg-type]
                found[name] = draft.asset
        except PromptLabError as error:
            wrong = str(error)
    return found.get("dataset"), found.get("prompt"), wrong


async def _preview(lab: StoreLab, query: Query, prompt: PromptTemplate, dataset: Dataset) -> dict[str, Any]:
    """The first rows as the model would get them, and what would keep the run from beginning."""
    assert dataset.content is not None
    problem, rows = "", []
    warnings: Sequence[str] = ()
    try:
        compiled = await compile_template_async(prompt)
        check_placeholders(prompt, dataset.content, compiled)
        mappings = [
            (form.info.name, {i.name: i.value for i in form.inputs})
            for form in metric_forms(query, dataset.columns)
        ]
        warnings = prompt_warnings(prompt, compiled, dataset.content, mappings, is_all=not query.get("talk"))
        first = await lab.assets.rows(dataset, 0, PREVIEWED)
        rows = [in_words(await compiled.render_async(row)) for row in first]
    except TemplateError as error:
        problem = str(error)
    return {"problem": problem, "warnings": warnings, "rows": rows}


@routes.post("/new")
async def start(request: Request, who: Engineer) -> Response:
    """Start the run that the form describes."""
    lab = lab_of(request)
    query = Query.of("/new", QueryParams(await form_of(request)))
    dataset, _, _ = await _chosen(lab, query)
    columns: Sequence[str] = dataset.columns if dataset else ()
    try:
        if (several := sweep_of(query, columns)) is not None:
            return await _swept(lab, SweepConfig.parse(several), rows_of(query), who.starts_as)
        config = ExperimentConfig.parse(experiment_of(query, columns))
        if (choice := rows_of(query)) is None:
            run = await lab.start(config, by=who.starts_as)
        else:
            async with subset(lab.assets, config.dataset, choice) as part:
                run = await lab.start(config.model_copy(update={"dataset": part}), by=who.starts_as)
    except ValidationError as error:
        return await _form(request, lab, query, explain_experiment(error), 422)
    except PromptLabError as error:
        return await _form(request, lab, query, str(error), 422)
    return go_to(run_url(run.run_id), f"Started: {run.cases:,} cases.")


async def _swept(
    lab: StoreLab, config: SweepConfig, choice: First | Sample | None, by: str | None
) -> Response:
    """Start a run for each prompt and model."""
    if choice is None:
        sweep = await lab.start_sweep(config, by=by)
    else:
        async with subset(lab.assets, config.cells[0].config.dataset, choice) as part:
            sweep = await lab.start_sweep(config.updated({"dataset": part}), by=by)
    return go_to(sweep_url(sweep.sweep_id), f"Started: {len(sweep.cells)} runs.")

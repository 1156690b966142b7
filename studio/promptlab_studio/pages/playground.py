"""The playground: a prompt beside up to four models, on a few rows, with the answers as they come.

Its calls are those of runs, with the tag `playground`: nothing is paid without a record, and budgets hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import orjson
from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from pydantic import ValidationError
from starlette.datastructures import QueryParams

from promptlab.domain.assets import Dataset, PromptTemplate, which_version
from promptlab.domain.explain import explain
from promptlab.domain.results import FINAL, RunRecord
from promptlab.domain.templates import media_parts
from promptlab.errors import ConfigError, PromptLabError, RunNotFoundError
from promptlab.experiments.config import ExperimentConfig, explain_experiment
from promptlab.experiments.subset import Selected, subset
from promptlab.store_lab import StoreLab
from promptlab_studio.access import Engineer, lab_of, needs
from promptlab_studio.forms import fields_of, form_of
from promptlab_studio.pages.new_run import known_models, references
from promptlab_studio.pages.rendering import go_to, render, router, target_of
from promptlab_studio.views.format import prompt_url
from promptlab_studio.views.new_run_form import metric_forms
from promptlab_studio.views.playground import (
    MOST_MODELS,
    MOST_ROWS,
    TAG,
    TRANSCRIPT,
    Asked,
    answers_of,
    asked_of,
    fields_of_runs,
    metric_of,
    parameters_of,
    row_numbers,
)
from promptlab_studio.views.prompt_form import draft_from, size_of
from promptlab_studio.views.room import MOST_CHARS
from promptlab_studio.views.run_bounds import dollars_of
from promptlab_studio.views.state import Query

NAME = "playground"
"""What the prompts and rows of the playground are called that nobody has saved under another name."""
ROLES = ("system", "user", "assistant", "developer")

routes = router()


@routes.get("/playground", dependencies=[needs("run")])
async def playground_page(request: Request) -> Response:
    """The form, and the answers of the runs that the address names."""
    lab, query = lab_of(request), Query.of("/playground", request.query_params)
    runs = await _runs(lab, query.all("run"))
    if target_of(request) == "answers":
        return render(request, "playground.html", {"query": query, **await _answers(lab, runs, query)})
    asked, problem = fields_of_runs(runs, query), ""
    if asked.draft is None:
        prompt = await _begun_with(lab, runs, query.get("prompt"))
        if prompt is not None and (size := size_of(prompt)) > MOST_CHARS:
            prompt = None
            problem = f"The prompt has {size:,} characters; the playground takes {MOST_CHARS:,}."
        asked.draft = draft_from(prompt, "")
        if runs and asked.draft.transcript == TRANSCRIPT:
            asked.transcript = await _transcript(lab, runs[0])
            asked.draft = replace(asked.draft, transcript="")
    return await _page(request, lab, query, asked, runs, problem)


@routes.post("/playground")
async def ask(request: Request, who: Engineer) -> Response:
    """Ask the models, each in a run of its own."""
    lab = lab_of(request)
    pairs = await form_of(request)
    query = Query.of("/playground", QueryParams(pairs))
    asked = asked_of(pairs)
    try:
        started, problems = await _start(lab, query, asked, who.starts_as)
    except ValidationError as error:
        return await _page(request, lab, query, asked, [], explain(error, "prompt", PromptTemplate), 422)
    except PromptLabError as error:
        return await _page(request, lab, query, asked, [], str(error), 422)
    if not started:
        return await _page(request, lab, query, asked, [], "\n".join(problems), 422)
    of_whole = asked.dataset and not asked.row.strip()
    whole = [("dataset", asked.dataset), ("rows", asked.rows[:200])] if of_whole else []
    url = "/playground?" + urlencode([*(("run", run.run_id) for run in started), *whole])
    return go_to(url, " ".join(problems), "problem") if problems else go_to(url)


@routes.post("/playground/save", dependencies=[needs("run")])
async def save(request: Request) -> Response:
    """Save the prompt of a playground's run under a name, as its next version."""
    lab, fields = lab_of(request), await fields_of(request)
    name, reference = (fields.get(key, [""])[0].strip() for key in ("name", "prompt"))
    if not name or not reference:
        raise ConfigError("Give the prompt a name to save it under.")
    prompt = await _prompt(lab, reference)
    content = {key: value for key, value in prompt.content().items() if value}
    try:
        saved = await lab.assets.create(PromptTemplate(name=name, **content))
    except ValidationError as error:
        raise ConfigError(explain(error, "prompt", PromptTemplate)) from None
    return go_to(prompt_url(saved.name, saved.version), f"Saved as {saved.name}@{saved.version}.")


async def _start(
    lab: StoreLab, query: Query, asked: Asked, by: str | None
) -> tuple[list[RunRecord], list[str]]:
    """Record the prompt and the rows, and start a run for each model; with what kept others from starting.

    Raises:
        PromptLabError: there is no prompt, no row or no model, or one of them is wrong.
        ValidationError: the prompt breaks a rule of prompts.
    """
    models = asked.chosen_models()
    usd = dollars_of(query.get("max_cost_usd"))
    prompt = await lab.assets.create(asked.prompt(NAME))
    assert isinstance(prompt, PromptTemplate)
    dataset = await _dataset(lab, asked, prompt)
    metrics = [metric_of(form) for form in metric_forms(query, dataset.columns)]
    started: list[RunRecord] = []
    problems: list[str] = []
    for model in models:
        config = {
            "name": NAME,
            "prompt_template": f"{prompt.name}@{prompt.version}",
            "dataset": f"{dataset.name}@{dataset.version}",
            "model": model,
            "evaluation": metrics,
            "tags": [TAG],
            "max_cost_usd": usd,
        }
        try:
            started.append(await lab.start(ExperimentConfig.parse(config), by=by))
        except ValidationError as error:
            problems.append(explain_experiment(error))
        except PromptLabError as error:
            problems.append(str(error))
    return started, problems


async def _dataset(lab: StoreLab, asked: Asked, prompt: PromptTemplate) -> Dataset:
    """The rows to ask about, as a dataset: one that is typed, or some of another's."""
    row = asked.typed_row()
    if row is not None:
        # Media as https and data: addresses: what is typed names no file of this machine.
        media = {part.column: part.modality for part in media_parts(prompt) if part.column in row}
        typed = Dataset(name=f"{NAME}-row", rows=[row], media=media)
        made = await lab.assets.create(typed.without_files())
    elif asked.dataset:
        numbers = row_numbers(asked.rows)
        name, _, which = asked.dataset.partition("@")
        whole = await lab.assets.get(name, **which_version(which), kind="dataset")
        assert isinstance(whole, Dataset)
        if beyond := [number for number in numbers if number >= len(whole)]:
            raise ConfigError(
                f"Rows: {asked.dataset} has {len(whole):,} rows, counted from 0: there is no row "
                f"{beyond[0]:,}."
            )
        async with subset(lab.assets, asked.dataset, Selected(numbers), said="for the playground") as part:
            made = await lab.assets.create(part)
    else:
        raise ConfigError("Choose a dataset, or write a row.")
    assert isinstance(made, Dataset)
    return made


async def _runs(lab: StoreLab, ids: Sequence[str]) -> list[RunRecord]:
    """The runs that the address names, of those of the playground."""
    found = []
    for run_id in ids[:MOST_MODELS]:
        try:
            run = await lab.get_run(run_id)
        except RunNotFoundError:
            continue
        if TAG in run.tags:
            found.append(run)
    return found


async def _prompt(lab: StoreLab, reference: str) -> PromptTemplate:
    name, _, which = reference.partition("@")
    prompt = await lab.assets.get(name, **which_version(which), kind="prompt_template")
    assert isinstance(prompt, PromptTemplate)
    return prompt


async def _begun_with(lab: StoreLab, runs: Sequence[RunRecord], reference: str) -> PromptTemplate | None:
    """Find the prompt to begin with: that of the runs, or the chosen one; None: there is none."""
    used = runs[0].experiment.get("prompt_template") if runs else None
    if used:
        reference = f"{used['name']}@{used['version']}"
    try:
        return await _prompt(lab, reference) if reference else None
    except PromptLabError:
        return None


async def _transcript(lab: StoreLab, run: RunRecord) -> str:
    """Read the transcript that a run of the playground asked as it is."""
    used = run.experiment["dataset"]
    dataset = await lab.assets.get(used["name"], version=used["version"], kind="dataset")
    assert isinstance(dataset, Dataset)
    rows = await lab.assets.rows(dataset, 0, 1)
    said = rows[0].get(TRANSCRIPT) if rows else None
    return orjson.dumps(said, option=orjson.OPT_INDENT_2).decode() if said else ""


async def _page(
    request: Request,
    lab: StoreLab,
    query: Query,
    asked: Asked,
    runs: Sequence[RunRecord],
    problem: str = "",
    status: int = 200,
) -> HTMLResponse:
    from promptlab.evaluators.registry import offered

    prompts, datasets, models, shown = await asyncio.gather(
        references(lab, "prompt_template", query.get("prompt")),
        references(lab, "dataset", asked.dataset),
        known_models(lab),
        _answers(lab, runs, query),
    )
    context = {
        "query": query,
        "asked": asked,
        "prompts": prompts,
        "datasets": datasets,
        "models": models,
        "metrics": offered()[0],
        "roles": ROLES,
        "most_rows": MOST_ROWS,
        "problem": problem,
        **shown,
    }
    return render(request, "playground.html", context, status=status)


async def _answers(lab: StoreLab, runs: Sequence[RunRecord], query: Query) -> dict[str, Any]:
    """Return what the models answered so far, row by row."""
    if not runs:
        return {"runs": (), "answers": (), "active": False, "prompt": "", "whole": {}}
    found = await asyncio.gather(*(lab.cases(run.run_id, limit=MOST_ROWS) for run in runs))
    used = runs[0].experiment["dataset"]
    dataset = await lab.assets.get(used["name"], version=used["version"], kind="dataset")
    assert isinstance(dataset, Dataset)
    rows = await lab.assets.rows(dataset, 0, MOST_ROWS)
    prompt = runs[0].experiment["prompt_template"]
    reference = f"{prompt['name']}@{prompt['version']}"
    return {
        "runs": runs,
        "answers": answers_of(runs, rows, [cases for cases, _ in found]),
        "active": any(run.status not in FINAL for run in runs),
        "prompt": reference,
        "whole": {run.run_id: _whole(run, reference, query.get("dataset")) for run in runs},
    }


def _whole(run: RunRecord, prompt: str, dataset: str) -> str:
    """The address of the form for a run over the whole dataset; empty where the row was typed."""
    if not dataset:
        return ""
    name, other = parameters_of(run)
    metrics = [("metric", metric["metric"]) for metric in run.experiment.get("evaluation", ())]
    pairs = [("prompt", prompt), ("dataset", dataset), ("model", name), ("other", other), *metrics]
    return "/new?" + urlencode([(key, value) for key, value in pairs if value])

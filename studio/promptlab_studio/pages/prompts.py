"""Prompts: the list, versions and what differs between them, labels, where used, and
editing as a new version."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from promptlab.domain.assets import PromptTemplate, which_version
from promptlab.domain.explain import explain
from promptlab.domain.templates import placeholders_async
from promptlab.errors import AssetError, PromptLabError
from promptlab.store_lab import StoreLab
from promptlab_studio.access import lab_of, needs
from promptlab_studio.forms import fields_of
from promptlab_studio.pages.reading import named_like, runs_using
from promptlab_studio.pages.rendering import go_to, render, router
from promptlab_studio.views.format import prompt_url
from promptlab_studio.views.prompt_form import (
    PromptDraft,
    draft_from,
    draft_of,
    outlook_of,
    size_of,
)
from promptlab_studio.views.prompts import as_text, names_in, read_of
from promptlab_studio.views.room import MOST_CHARS, Room
from promptlab_studio.views.state import Query, whole
from promptlab_studio.views.text import text_diff

ROLES = ("system", "user", "assistant", "developer")
FORMATS = {"simple": "<name>", "jinja2": "{{ name }}"}

routes = router()


@routes.get("/prompts", dependencies=[needs("look")])
async def prompts_page(request: Request) -> HTMLResponse:
    """Every prompt in its latest version."""
    lab, query = lab_of(request), Query.of("/prompts", request.query_params)
    everything = await lab.assets.latest("prompt_template")
    found = [(a, None) for a in named_like(everything, query.get("q"))]
    return render(request, "prompts.html", {"query": query, "assets": found, "total": len(everything)})


@routes.get("/prompt", dependencies=[needs("look")])
async def prompt_page(request: Request, name: str) -> HTMLResponse:
    """One version of a prompt, and what differs from the version that the address names in `against`."""
    lab, query = lab_of(request), Query.of("/prompt", request.query_params)
    versions = await lab.assets.versions(name, kind="prompt_template")
    prompt = await _version(lab, name, query.get("version"))
    against = query.get("against")
    other = await _version(lab, name, against) if against else None
    names, wrong = await names_in(prompt)
    room = Room(MOST_CHARS // 2 if other else MOST_CHARS)
    url = f"/api/v1/prompts/{quote(name, safe='')}/versions/{prompt.version}"
    context: dict[str, Any] = {
        "query": query,
        "messages": [(m["role"], room.take(m["content"], url, MOST_CHARS)) for m in read_of(prompt)],
        "prompt": prompt,
        "versions": versions[::-1],
        "this": next(v for v in versions if v.version == prompt.version),
        "placeholders": names,
        "wrong": wrong,
        "other": other,
        "diff": text_diff(as_text(other), as_text(prompt)) if other else [],
        "runs": await runs_using(lab, "prompt_template", name),
    }
    return render(request, "prompt.html", context)


async def _version(lab: StoreLab, name: str, version: str) -> PromptTemplate:
    asset = await lab.assets.get(name, kind="prompt_template", **which_version(version))
    assert isinstance(asset, PromptTemplate)
    return asset


@routes.get("/prompt/edit", dependencies=[needs("run")])
async def edit_page(request: Request) -> HTMLResponse:
    """The form for a new prompt, or for the next version of one."""
    query = Query.of("/prompt/edit", request.query_params)
    name = query.get("name")
    prompt = await _version(lab_of(request), name, query.get("version")) if name else None
    if prompt is not None and (size := size_of(prompt)) > MOST_CHARS:
        raise AssetError(
            f"Prompt {name!r} has {size:,} characters; the form takes {MOST_CHARS:,}. Make its next version "
            "from a file: `promptlab run` with an experiment that has it, or pl.asset.create in a script."
        )
    return await _form(request, draft_from(prompt, name), prompt)


async def _form(
    request: Request, draft: PromptDraft, prompt: PromptTemplate | None, problem: str = "", status: int = 200
) -> HTMLResponse:
    context = {
        "draft": draft,
        "exists": prompt is not None,
        "prompt": prompt,
        "roles": ROLES,
        "formats": FORMATS,
        "outlook": await outlook_of(draft),
        "problem": problem,
    }
    return render(request, "prompt_edit.html", context, status=status)


@routes.post("/prompt/placeholders", dependencies=[needs("look")])
async def shown_placeholders(request: Request) -> HTMLResponse:
    """The placeholders, media and tools of what is being written, or what is wrong with it."""
    outlook = await outlook_of(draft_of(await fields_of(request)))
    return render(request, "prompt_placeholders.html", {"outlook": outlook})


@routes.post("/prompt/edit", dependencies=[needs("run")])
async def save(request: Request) -> Response:
    """Store what was written as the next version."""
    lab, fields = lab_of(request), await fields_of(request)
    draft, exists = draft_of(fields), bool(fields.get("exists"))
    before = await lab.assets.record(draft.name, kind="prompt_template") if draft.name else None
    try:
        wanted = draft.prompt()
        await placeholders_async(wanted)
        if before and not exists:
            return await _form(
                request,
                draft,
                None,
                f"There is a prompt {draft.name!r} already: open it and edit it there, or choose another "
                "name.",
                409,
            )
        made = await lab.assets.create(wanted)
    except ValidationError as error:
        return await _form(
            request,
            draft,
            await _version(lab, draft.name, "") if exists else None,
            explain(error, "prompt", PromptTemplate),
            422,
        )
    except PromptLabError as error:
        return await _form(
            request, draft, await _version(lab, draft.name, "") if exists else None, str(error), 422
        )
    same = before is not None and before.version == made.version
    said = (
        f"Nothing differs from version {made.version}: it stays the latest."
        if same
        else f"{made.name} has version {made.version} now."
    )
    return go_to(prompt_url(made.name, made.version), said)


@routes.post("/prompt/label", dependencies=[needs("run")])
async def label(request: Request) -> Response:
    """Point a label at a version, or remove it."""
    fields = await fields_of(request)
    name, version, text = (fields.get(key, [""])[0] for key in ("name", "version", "label"))
    number = whole(version)
    try:
        if "remove" in fields:
            await lab_of(request).assets.unlabel(name, text.strip(), kind="prompt_template")
            return go_to(prompt_url(name, number), f"{name} has no label {text.strip()} any more.")
        await lab_of(request).assets.label(name, text.strip(), version=number, kind="prompt_template")
    except PromptLabError as error:
        return go_to(prompt_url(name, number), str(error), "problem")
    return go_to(prompt_url(name, number), f"{text.strip()} points at version {version} now.")
